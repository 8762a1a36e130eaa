from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stub_client import chat

from latprof.config import Stub
from latprof.errors import ConfigError, UsageError
from latprof.stub.stack import StubStartError, start

pytestmark = pytest.mark.live


async def test_an_asked_for_port_is_used_and_a_taken_one_is_named(tokenizer_file: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"port {port} for the stub's router cannot be used"):
            await start(Stub(), ports={"router": port}, tokenizer=tokenizer_file)
    async with await start(Stub(), ports={"router": port}, tokenizer=tokenizer_file) as running:
        assert running.ports["router"] == port
        assert running.died() == ""
    assert all(gone(pid) for pid in running.pids.values())
    with socket.socket() as again:
        again.bind(("127.0.0.1", port))


async def test_what_keeps_the_stack_from_starting_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        await start(Stub(), tokenizer=tmp_path / "none.json")
    broken = tmp_path / "tokenizer.json"
    broken.write_text("{}")
    with pytest.raises(StubStartError, match=r"the stub's gateway ended with 1:\n.*cannot be read as a tokenizer"):
        await start(Stub(), tokenizer=broken)


async def test_a_stage_that_dies_is_named(tokenizer_file: Path) -> None:
    async with await start(Stub(), tokenizer=tokenizer_file) as running:
        os.kill(running.pids["prefill"], signal.SIGKILL)
        await asyncio.sleep(0.1)
        assert running.died().startswith("prefill ended with -9")
        status, _, body = await chat(running.url, 1, max_tokens=1)
        assert status == 502
        assert "engine pool failed" in json.loads(body)["error"]["message"]


PARENT = """
import asyncio, json, sys
from pathlib import Path
from latprof.config import Stub
from latprof.stub.stack import start
async def main():
    running = await start(Stub(), "http://127.0.0.1:1", tokenizer=Path(sys.argv[1]))
    print(json.dumps([dict(running.ports), dict(running.pids)]), flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_children_outlive_neither_a_killed_parent_nor_keep_its_ports(tokenizer_file: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tokenizer_file)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        ports, pids = json.loads(parent.stdout.readline())
        assert not any(gone(pid) for pid in pids.values())
        os.kill(pids["gateway"], signal.SIGINT)  # a Ctrl-C is the parent's business
        time.sleep(0.1)
        assert not gone(pids["gateway"])
        parent.kill()
    deadline = time.monotonic() + 10
    while not all(gone(pid) for pid in pids.values()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [name for name, pid in pids.items() if not gone(pid)] == []
    for port in ports.values():
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", port))
