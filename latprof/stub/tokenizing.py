"""Real tokenization in the gateway, in threads: the tokenizer lets go of the interpreter lock, so the event loop stays free."""

from __future__ import annotations

import asyncio
import os
import time
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

# One prompt, one thread: how many work at once is the layer's number of workers, not the tokenizer's own pool.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tokenizers import Tokenizer

from latprof.errors import ConfigError
from latprof.stub.live import Hop, LiveStation, Visit
from latprof.stub.models.prefill import block_hashes


class Tokenized(NamedTuple):
    """A prompt's tokens and its prefix-cache blocks; ``begun_ns`` is when the thread took it up."""

    ids: array[int]
    blocks: tuple[int, ...]
    begun_ns: int

    @property
    def tokens(self) -> int:
        """Its exact length."""
        return len(self.ids)


class Tokenization:
    """The layer gateway.tokenize: measured when real; else a planned time inside which the tokens are counted all the same."""

    def __init__(self, hop: Hop, station: LiveStation, tokenizer_file: Path) -> None:
        self._hop, self._station = hop, station
        self._block_tokens = hop.stub.prefill.cache_block_tokens
        self._tokenizer = load(tokenizer_file)
        self._known = KnownConversations(hop.stub.gateway.token_cache)
        self._threads = ThreadPoolExecutor(station.layer.workers, "tokenize")
        self._serve = self._measured if hop.stub.gateway.tokenize == "real" else self._planned

    async def serve(self, visit: Visit, arrived_ns: int, texts: Sequence[str], before: Tokenized | None = None) -> tuple[int, Tokenized]:
        """Go through the layer with what is new after ``before``, or a conversation that is known. Returns when it was over, and all tokens."""
        if before is not None or not self._known.capacity:
            return await self._serve(visit, arrived_ns, texts, before)
        names, known, found = self._known.find(texts)
        ended_ns, prompt = await self._serve(visit, arrived_ns, texts[known:], found)
        self._known.keep(names[-1], prompt)
        return ended_ns, prompt

    async def _planned(self, visit: Visit, arrived_ns: int, texts: Sequence[str], before: Tokenized | None) -> tuple[int, Tokenized]:
        return await self._station.serve(visit, arrived_ns, lambda: self._in_thread(texts, before))

    async def _measured(self, visit: Visit, arrived_ns: int, texts: Sequence[str], before: Tokenized | None) -> tuple[int, Tokenized]:
        layer = self._station.layer
        await self._station.enter(arrived_ns, 0)
        try:
            outcome = await self._in_thread(texts, before)
            ended_ns = time.monotonic_ns()
            own_ns = ended_ns - outcome.begun_ns
            planned_ns = layer.adjust_ns(own_ns, visit.key)
            if planned_ns > own_ns:
                ended_ns = await self._hop.sleep_until(outcome.begun_ns + planned_ns, visit.key)
        finally:
            self._station.leave(time.monotonic_ns())
        visit.layer(layer.name, arrived_ns, outcome.begun_ns - arrived_ns, ended_ns - outcome.begun_ns, planned_ns)
        return ended_ns, outcome

    async def _in_thread(self, texts: Sequence[str], before: Tokenized | None) -> Tokenized:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._tokenize, texts, before)

    def _tokenize(self, texts: Sequence[str], before: Tokenized | None) -> Tokenized:
        begun_ns = time.monotonic_ns()
        # Of the three ways to encode only the batch calls let go of the interpreter lock (tokenizers 0.23: 18 ms against 0.1 ms held).
        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        ids = array("I", before.ids if before is not None else ())
        for encoding in encoded:
            ids.extend(encoding.ids)
        return Tokenized(ids, block_hashes(ids, self._block_tokens, before.blocks if before is not None else ()), begun_ns)


class KnownConversations:
    """The tokens of the last ``capacity`` prompts, by a name for their texts; the least recently used go first."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._kept: OrderedDict[bytes, Tokenized] = OrderedDict()

    def find(self, texts: Sequence[str]) -> tuple[list[bytes], int, Tokenized | None]:
        """The names of all beginnings of a prompt, shortest first; how many of its texts are known, and their tokens (None: none are)."""
        names: list[bytes] = []
        chain = b""
        for text in texts:
            chain = blake2b(chain + blake2b(text.encode(), digest_size=16).digest(), digest_size=16).digest()
            names.append(chain)
        for known in range(len(texts), 0, -1):
            found = self._kept.get(names[known - 1])
            if found is not None:
                self._kept.move_to_end(names[known - 1])
                return names, known, found
        return names, 0, None

    def keep(self, name: bytes, prompt: Tokenized) -> None:
        """Remember a prompt."""
        self._kept[name] = prompt
        self._kept.move_to_end(name)
        while len(self._kept) > self.capacity:
            self._kept.popitem(last=False)


def load(tokenizer_file: Path) -> Tokenizer:
    """Read a tokenizer.json.

    Raises:
        ConfigError: it is not there or is not a tokenizer.
    """
    try:
        return Tokenizer.from_file(str(tokenizer_file))
    except Exception as error:  # noqa: BLE001 - the library raises bare Exception
        raise ConfigError(f"{tokenizer_file}: cannot be read as a tokenizer ({error}); give the path of a tokenizer.json") from None
