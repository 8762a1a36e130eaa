"""Streams as the stack in a box sends them, in every dialect, and a few oddities: what a fuzzer begins from."""

from __future__ import annotations

from collections.abc import Iterator

from harness.fuzz.parsers import encoded
from latprof.client.dialects import DIALECTS
from latprof.stub.asked import Answer, Asked
from latprof.stub.chat import CHAT
from latprof.stub.completions import COMPLETIONS
from latprof.stub.messages import MESSAGES
from latprof.stub.responses import RESPONSES, framed_for
from latprof.stub.responses import Answer as Response

_TEXTS = (b'"The"', b'" token"', b'" of"', b'"\\u00e9 \\n"', b'" words"', b'" more"')
_ODD = (
    b"",
    b"\xef\xbb\xbfdata: bom\n\n",
    b": comment\r\n\r\nevent: x\r\ndata: a\r\ndata:b\r\n\r\n",
    b"data: [DONE]",
    b'data: {"error":{"message":"no","type":"x"}}\n\n',
    b"0\r\n\r\n",
)

WORDS = (
    b"data: ",
    b"event: ",
    b"id: ",
    b"retry: ",
    b"\r\n",
    b"\n\n",
    b"\r\n\r\n",
    b"\xef\xbb\xbf",
    b"[DONE]",
    b'"usage":',
    b'"error":',
    b'"delta":',
    b"0\r\n\r\n",
)
"""What the formats are made of: a fuzzer that has to find these byte by byte finds nothing else."""


def streams() -> dict[str, bytes]:
    """Dialect -> one whole answer as it goes on the wire; a WebSocket's as a line per message."""
    asked = Asked("stub", ("hello",), len(_TEXTS), limited=False, stream=True, include_usage=True)
    apis = (CHAT, COMPLETIONS, RESPONSES, MESSAGES)
    over_http = [name for name, dialect in DIALECTS.items() if dialect.over == "http"]
    by_endpoint = {DIALECTS[name].endpoint: name for name in over_http}
    made = {by_endpoint[api.path.removeprefix("/v1")]: _written(api.answer(asked, "0123456789abcdef", 3)) for api in apis}
    return made | {"openai-responses-ws": _written(Response(asked, "0123456789abcdef", 3, framed_for("s1")))}


def _written(answer: Answer) -> bytes:
    return b"".join((answer.begin(), *(answer.add([text]) for text in _TEXTS), answer.finish(1)))


def seeds(parser: str) -> Iterator[bytes]:
    """Inputs for ``parser``."""
    for stream in (*streams().values(), *_ODD):
        cuts = [len(stream) * part // 9 for part in range(1, 9)]
        if parser == "dialects":
            for number in range(len(DIALECTS)):
                for line in stream.split(b"\n")[:12]:
                    yield encoded(number, [], b"\n" + line.removeprefix(b"data: "))
        else:
            for choice in (*range(len(DIALECTS)), *(0x80 + number for number in range(len(DIALECTS)))):
                yield encoded(choice, cuts, stream)
