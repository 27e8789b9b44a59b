# SPDX-License-Identifier: Apache-2.0
"""Descriptors that clients send, share or leave: none of them blocks the broker, stays in it, or harms another client.

Each law of descriptors that are sent holds on a kernel that refuses them (SO_PASSRIGHTS, Linux 6.16), and on one that
does not know how.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import signal
import socket
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack
import pytest

from support.process import Process, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.rawclient import RawClient

HERE = Path(__file__).resolve().parent
OLDER = {
    "PYTHONPATH": os.pathsep.join([str(HERE.parent / "support" / "older_kernel"), os.environ.get("PYTHONPATH", "")])
}
PING = bytes(msgpack.packb([0, 7, "ping", []]))
GARBAGE = b"\xc1"
# SO_LINGER: a last close waits for an hour; it does not wait.
LONG, AT_ONCE = struct.pack("ii", 1, 3600), struct.pack("ii", 1, 0)
MOST_FDS = 253


@pytest.fixture(params=["a kernel that refuses descriptors", "an older kernel"])
def process(request: pytest.FixtureRequest) -> Iterator[Process]:
    """A broker with one guest."""
    with Process(environ=OLDER if request.param == "an older kernel" else {}) as started:
        started.ready()
        yield started


def n_held(process: Process) -> int:
    """How many descriptors the broker has open."""
    return len(list(Path(f"/proc/{process.popen.pid}/fd").iterdir()))


def send(client: RawClient, data: bytes, fds: list[int]) -> bool:
    """Send bytes with descriptors. Returns False when the kernel does not let them."""
    try:
        client.sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
    except PermissionError:
        return False
    return True


@contextlib.contextmanager
def lingering() -> Iterator[socket.socket]:
    """A TCP socket whose last close waits for an hour: its peer takes nothing of what it has sent."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        sock = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
        with peer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LONG)
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    sock.send(bytes(65_536))
            sock.setblocking(True)
            try:
                yield sock
            finally:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)


@pytest.mark.parametrize("data", [PING, PING[:3]], ids=["a message", "half a message"])
@pytest.mark.parametrize("n_fds", [1, 8, MOST_FDS])
def test_who_sends_descriptors_is_ended_and_nothing_stays(process: Process, data: bytes, n_fds: int) -> None:
    """Law: descriptors are refused by the kernel, or end their connection; the broker keeps none (B8)."""
    with process.client() as other:
        other.call("ping")
        before = n_held(process)
        with process.client() as client:
            client.call("ping")
            if send(client, data, [0] * n_fds):
                assert client.ended()
            else:
                assert client.call("ping")
        assert eventually(lambda: n_held(process) == before)
        assert other.call("ping")


@pytest.mark.parametrize("before", [b"", GARBAGE], ids=["received", "left behind"])
def test_a_descriptor_whose_close_waits_stops_nobody(process: Process, before: bytes) -> None:
    """Law: a client's TCP socket that lingers, which the broker is the last to close, does not block the loop (B8)."""
    with process.client() as other, lingering() as sock:
        other.call("ping")
        client = process.client()
        client.call("ping")
        process.signal(signal.SIGSTOP)  # so that both are there when the broker looks
        client.send(before)
        if not send(client, PING[:3], [sock.fileno()]):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        sock.close()
        client.close()
        process.signal(signal.SIGCONT)

        for _ in range(20):
            assert other.call("ping")
        assert eventually(lambda: other.call("stats")["broker"]["connections"] == 1)


def test_a_socket_sent_over_itself_ends_with_its_process(process: Process) -> None:
    """Law: the client's own end, sent inside an unfinished message, keeps no connection (CVE-2014-3637)."""
    with process.client() as other:
        for _ in range(20):
            client = process.client()
            send(client, PING[:3], [client.sock.fileno()] * 8)
            client.close()

        assert eventually(lambda: other.call("stats")["broker"]["connections"] == 1)


def test_the_line_says_who_sent_descriptors() -> None:
    """Law: one line for a uid that sends descriptors again and again (B7)."""
    with Process(environ=OLDER) as process:
        process.ready()
        for _ in range(3):
            with process.client() as client:
                send(client, PING, [0])
                assert client.ended()
        process.stop()

        said = [line for line in process.lines() if line["event"] == "connection closed: descriptors came"]
        assert [(line["uid"], line["level"]) for line in said] == [(os.getuid(), "warning")]


def within(step: Callable[[], Any]) -> Any:
    """What a step returns; fails when it hangs."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(step()), daemon=True)
    thread.start()
    thread.join(30)
    assert results, "the broker hangs"
    return results[0]


def test_flags_of_an_event_are_its_clients_own_affair() -> None:
    """Law: a client that clears O_NONBLOCK of its events, and fills them, blocks the loop with no method (B8)."""
    with Process() as process:
        process.ready()
        with process.client() as client, process.client() as other:
            client.call("domain.create", kind="hvm", max_pages=16, dom=1)
            client.send(bytes(msgpack.packb([0, 1, "evtchn.alloc_unbound", [{"on": 1, "remote": 0}]])))
            data, fds, _, _ = socket.recv_fds(client.sock, 4096, 2)
            port = msgpack.unpackb(data)[3]["port"]
            for fd in fds:
                os.set_blocking(fd, True)
                os.eventfd_write(fd, 2**64 - 2)
            assert within(lambda: client.call("evtchn.pending", on=1, port=port))["pending"]
            assert not within(lambda: client.call("evtchn.pending", on=1, port=port))["pending"]
            assert within(lambda: client.call("evtchn.notify", on=1, port=port)) == {}
            assert within(lambda: other.call("ping"))
            for fd in fds:
                os.close(fd)


def test_flags_of_a_memory_file_are_its_clients_own_affair() -> None:
    """Law: O_APPEND on a descriptor of a domain's memory changes nothing for the broker, nor for other clients (B8)."""
    with Process() as process:
        process.ready()
        with process.client() as client, process.client() as other:
            client.call("domain.create", kind="hvm", max_pages=16, dom=1)
            client.send(bytes(msgpack.packb([0, 1, "domain.memory", [{"dom": 1, "write": True}]])))
            _, (fd,), _, _ = socket.recv_fds(client.sock, 4096, 2)
            other.send(bytes(msgpack.packb([0, 1, "domain.memory", [{"dom": 1, "write": True}]])))
            _, (theirs,), _, _ = socket.recv_fds(other.sock, 4096, 2)
            fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)

            assert os.pwrite(theirs, b"theirs", 0) == 6
            address = other.call("mmap", len=4096, prot=3)["addr"]
            other.call("privcmd.mmapbatch_v2", dom=1, addr=address, arr=[1])
            other.call("write", addr=address, data=b"ours")
            assert other.call("read", addr=address, len=4)["data"] == b"ours"
            os.close(fd)
            os.close(theirs)
