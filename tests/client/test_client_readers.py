"""Reading eagerly and lazily: the choice, and that nothing is missed either way."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable

import pytest

from latprof.client.readers import Readers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere sockets are always read as they come")


def review(readers: Readers, reads: int, short_gaps: int = 0) -> bool:
    readers.reads, readers.short_gaps = reads, short_gaps
    readers.review()
    return readers.is_lazy


async def test_much_to_read_makes_it_lazy_and_little_eager_again() -> None:
    readers = Readers(asyncio.get_running_loop(), may_be_lazy=True)
    try:
        assert not review(readers, 900)
        assert review(readers, 1_100)
        assert review(readers, 600), "no flutter between the two bounds"
        assert not review(readers, 400)
        assert review(readers, 5_000, short_gaps=200)
        assert not review(readers, 5_000, short_gaps=300), "streams faster than two looks are read as they come"
    finally:
        readers.close()


async def test_without_kernel_stamps_it_is_never_lazy() -> None:
    readers = Readers(asyncio.get_running_loop(), may_be_lazy=False)
    try:
        assert not review(readers, 50_000)
    finally:
        readers.close()


async def test_everything_is_read_while_it_changes_its_mind() -> None:
    readers = Readers(asyncio.get_running_loop(), may_be_lazy=True)
    pairs = [socket.socketpair() for _ in range(40)]
    heard = [bytearray() for _ in pairs]

    def listening(near: socket.socket, into: bytearray) -> Callable[[], None]:
        return lambda: into.extend(near.recv(100))

    for (near, _), into in zip(pairs, heard, strict=True):
        near.setblocking(False)
        readers.add(near.fileno(), listening(near, into))
    try:
        for number in range(60):
            for _, far in pairs:
                far.send(b"%02d" % number)
            review(readers, 2_000 if number % 3 else 0)
            await asyncio.sleep(0.002)
        wanted = b"".join(b"%02d" % number for number in range(60))
        async with asyncio.timeout(5):
            while any(into != wanted for into in heard):  # noqa: ASYNC110 - what is waited for happens in the kernel
                await asyncio.sleep(0.001)
    finally:
        for near, far in pairs:
            readers.remove(near.fileno())
            near.close()
            far.close()
        readers.close()


async def test_a_reader_removed_within_a_batch_is_not_called() -> None:
    readers = Readers(asyncio.get_running_loop(), may_be_lazy=True)
    pairs = [socket.socketpair() for _ in range(2)]
    called: list[int] = []

    def first_come(number: int) -> Callable[[], None]:
        def on_readable() -> None:
            called.append(number)
            for near, _ in pairs:
                readers.remove(near.fileno())

        return on_readable

    for number, (near, far) in enumerate(pairs):
        readers.add(near.fileno(), first_come(number))
        far.send(b"x")
    try:
        await asyncio.sleep(0.02)
        assert len(called) == 1
    finally:
        for near, far in pairs:
            near.close()
            far.close()
        readers.close()
