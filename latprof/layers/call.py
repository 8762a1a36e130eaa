"""The call: what came before the first token, and after it until the last one.

first token                       the engine emitted the last one        last token here
    |============= decode ====================|========= stream =============|

Where no engine tells when it was done, the two cannot be told apart and are one layer, ``decode+stream``: never a zero.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from latprof.layers.hops import layer_of
from latprof.layers.table import IntArray, Layers
from latprof.layers.tree import HopNode, hops_in
from latprof.layers.vocabulary import belongs_to, merged
from latprof.observations.columns import Requests, elapsed_ns, known
from latprof.units import MISSING_NS

DECODE, STREAM = "decode", "stream"
UNTOLD = merged(DECODE, STREAM)
AFTER_FIRST_TOKEN = (DECODE, STREAM, UNTOLD)
"""The columns of the call that the TTFT has not."""

_OF_ENGINES = ("engine", "prefill", "kv.transfer", "decode.first")
_PREFILL_STAGE = "prefill"


def emitted_ns(client: HopNode) -> int:
    """When the engine emitted its last token, on the client's clock; MISSING_NS where no hop is known to be one that decodes."""
    ends = [node.hop.end_ns for node in hops_in(client) if _decodes(node)]
    return max(ends, default=MISSING_NS)


def _decodes(node: HopNode) -> bool:
    """Whether a hop is an engine, or a part of one, that emits tokens: a prefill stage is done before the first of them."""
    if _tells(node, "decode.first"):
        return True
    if node.hop.hop == _PREFILL_STAGE:
        return False
    if layer_of(node.hop.hop) == "engine":
        return True  # as a whole, though it may tell of its prefill only
    return not _tells(node, "prefill") and any(_tells(node, name) for name in _OF_ENGINES)


def _tells(node: HopNode, name: str) -> bool:
    return any(belongs_to(piece.layer, name) for piece in node.pieces)


def call_layers(ttft: Layers, requests: Requests, decode_ns: IntArray, engines: tuple[str, ...] = ("span",)) -> Layers:
    """The partition of [intended start, last token], for the rows of ``ttft`` that have a last token.

    ``decode_ns`` (n,): from the first token at the client to the engine's last, MISSING_NS where not told. It is cut to the time there is: an
    engine that was done before its first token arrived here (a hop kept it) leaves all of the rest to ``stream``. ``engines`` is the provenance
    of what engines tell.
    """
    after_ns = elapsed_ns(requests.first_token_ns[ttft.rows], requests.last_token_ns[ttft.rows])
    has = known(after_ns)
    after_ns, decode_ns = after_ns[has], decode_ns[has]
    told = known(decode_ns)
    decode = np.where(told, np.clip(decode_ns, 0, after_ns), 0)
    untold = np.where(told, 0, after_ns)
    columns = [(DECODE, decode, decode, told), (STREAM, np.where(told, after_ns - decode, 0), None, told), (UNTOLD, untold, None, ~told)]
    added = [column for column in columns if column[3].any()]
    none = np.zeros_like(after_ns)

    def widened(table: IntArray, new: list[IntArray]) -> IntArray:
        return np.column_stack([table[has], *new])

    return replace(
        ttft,
        metric="e2el",
        names=(*ttft.names, *(name for name, *_ in added)),
        rows=ttft.rows[has],
        total_ns=widened(ttft.total_ns, [total for _, total, _, _ in added]),
        wait_ns=widened(ttft.wait_ns, [none for _ in added]),
        service_ns=widened(ttft.service_ns, [none if service is None else service for _, _, service, _ in added]),
        present=np.column_stack([ttft.present[has], *(shown for *_, shown in added)]),
        sources=(*ttft.sources, *(engines if shown is told else ("client",) for *_, shown in added)),
    )


def first_token_layers(call: Layers) -> Layers:
    """The TTFT's partition out of the call's: the same without what came after the first token."""
    keep = [index for index, name in enumerate(call.names) if name not in AFTER_FIRST_TOKEN]
    return replace(
        call,
        metric="ttft",
        names=tuple(call.names[index] for index in keep),
        total_ns=call.total_ns[:, keep],
        wait_ns=call.wait_ns[:, keep],
        service_ns=call.service_ns[:, keep],
        present=call.present[:, keep],
        sources=tuple(call.sources[index] for index in keep),
    )
