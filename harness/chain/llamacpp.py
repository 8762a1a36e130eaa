"""llama.cpp's own HTTP server over a small random model. Run by the chain's own Python: ``-m harness.chain.llamacpp PORT MODEL_FILE``.

The weights mean nothing; the shapes are a llama's, so that prompt evaluation, the prefix cache, slots and streaming are the real thing.
Every ordinary token is visible ASCII text: a generated token always shows up as a chunk.
"""

from __future__ import annotations

import itertools
import signal
import string
import sys
from pathlib import Path

import gguf
import numpy as np
import xllamacpp

from harness.chain.configs import MODEL_NAME

_LAYERS, _WIDTH, _HEADS, _FEED_FORWARD = 4, 256, 4, 512
_SLOTS, _CONTEXT_TOKENS = 4, 4 * 4096
_PROMPT_CACHE_MIB = 256  # 8 GiB by default, and it fills
_SPACE = "\u2581"
# The template adds as little as it can: prompts of exact length stay nearly exact.
_TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"


def vocabulary() -> tuple[list[str], list[float], list[int]]:
    """Tokens, their merge scores and types: specials, all bytes, printable ASCII, and letter pairs with and without a space before them."""
    kind = gguf.TokenType
    special = [("<unk>", 0.0, kind.UNKNOWN), ("<s>", 0.0, kind.CONTROL), ("</s>", 0.0, kind.CONTROL)]
    raw = [(f"<0x{byte:02X}>", 0.0, kind.BYTE) for byte in range(256)]
    single = [(char, -1e4, kind.NORMAL) for char in (_SPACE, *(chr(code) for code in range(33, 127)))]
    pairs = ["".join(pair) for pair in itertools.product(string.ascii_lowercase, repeat=2)]
    spaced = [_SPACE + text for text in (*string.ascii_lowercase, *pairs)]
    merged = [(text, -float(rank), kind.NORMAL) for rank, text in enumerate((*spaced, *pairs), start=1)]
    rows = [*special, *raw, *single, *merged]
    return [row[0] for row in rows], [row[1] for row in rows], [int(row[2]) for row in rows]


def write_model(path: Path, seed: int = 1) -> None:
    """Write the random model as GGUF (about 12 MB)."""
    tokens, scores, types = vocabulary()
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name(MODEL_NAME)
    writer.add_context_length(_CONTEXT_TOKENS)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_FEED_FORWARD)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(_TEMPLATE)
    _add_tensors(writer, len(tokens), types, np.random.default_rng(seed))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tensors(writer: gguf.GGUFWriter, tokens: int, types: list[int], rng: np.random.Generator) -> None:
    def normal(*shape: int) -> np.ndarray:
        return rng.normal(0.0, shape[-1] ** -0.5, shape).astype(np.float32)

    ones = np.ones(_WIDTH, dtype=np.float32)
    output = normal(tokens, _WIDTH)
    # Without a weight a token never has the largest logit: no end of text, no half characters.
    output[np.array(types) != int(gguf.TokenType.NORMAL)] = 0
    writer.add_tensor("token_embd.weight", normal(tokens, _WIDTH))
    writer.add_tensor("output_norm.weight", ones)
    writer.add_tensor("output.weight", output)
    for layer in range(_LAYERS):
        block = f"blk.{layer}."
        writer.add_tensor(block + "attn_norm.weight", ones)
        writer.add_tensor(block + "ffn_norm.weight", ones)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"{block}{name}.weight", normal(_WIDTH, _WIDTH))
        for name in ("ffn_gate", "ffn_up"):
            writer.add_tensor(f"{block}{name}.weight", normal(_FEED_FORWARD, _WIDTH))
        writer.add_tensor(block + "ffn_down.weight", normal(_WIDTH, _FEED_FORWARD))


def serve(port: int, model: Path) -> None:
    """Serve ``model`` on loopback until the process is told to end."""
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.model_alias = {MODEL_NAME}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.endpoint_metrics = True
    params.n_ctx = _CONTEXT_TOKENS
    params.n_parallel = _SLOTS
    params.cache_ram_mib = _PROMPT_CACHE_MIB
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.sampling.ignore_eos = True
    server = xllamacpp.Server(params)
    print(f"listening on {server.listening_address}", flush=True)
    signal.pause()


if __name__ == "__main__":
    write_model(Path(sys.argv[2]))
    serve(int(sys.argv[1]), Path(sys.argv[2]))
