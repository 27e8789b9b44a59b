# SPDX-License-Identifier: Apache-2.0
"""What several processes, and the ends of processes, do to mappings."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

from privcmd import PAGE_SIZE, BrokerGone, Client, ForeignMemory, NoAnswer, NoBroker, PrivcmdError
from privcmd._demo.cast import Actor
from privcmd.broker import PrivateBroker

if TYPE_CHECKING:
    from collections.abc import Callable

ABSENT = 17


def in_child(do: Callable[[], object]) -> int:
    """Fork, do something in the child, and give its exit status: 0 when it returned, negative for a signal."""
    child = os.fork()
    if not child:
        status = 1
        try:
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)  # pytest's fault handler would write a dump
            signal.signal(signal.SIGBUS, signal.SIG_DFL)
            do()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_processes_share_frames(broker: PrivateBroker, guest: int) -> None:
    """Law: three processes that map a frame at three addresses see each other's writes at once."""
    with Actor(broker.path) as one, Actor(broker.path) as two, Actor(broker.path) as three:
        models = (one, two, three)
        for model in models:
            assert model.do("map", name="m", domid=guest, ranges=[[20, 4], [0, 1]])["n_failed"] == 0
        for number in range(60):
            at = (number % 5) * PAGE_SIZE + number
            models[number % 3].do("poke", name="m", at=at, data=f"{number:02x}")
            assert models[(number + 1) % 3].do("peek", name="m", at=at, size_bytes=1) == f"{number:02x}"


def test_touching_a_failed_frame_is_sigbus(broker: PrivateBroker, guest: int) -> None:
    """Law: a page whose frame failed kills with SIGBUS, and the broker takes back what the process held."""
    with Actor(broker.path) as model:
        model.do("map", name="m", domid=guest, ranges=[[15, 2]])
        assert model.do("peek", name="m", at=0, size_bytes=1) == "00"

        model.tell("peek", name="m", at=PAGE_SIZE, size_bytes=1)

        assert model.end() == -signal.SIGBUS


def test_a_killed_process_gives_everything_back(broker: PrivateBroker, client: Client, guest: int) -> None:
    """Law: SIGKILL needs no good-bye: objects, entries and frames of the dead are free again."""
    with Actor(broker.path) as model:
        model.do("map", name="m", domid=guest, ranges=[[20, 40]])
        assert client.stats()["mappings"]["frames"] == 40
        assert model.kill() == -signal.SIGKILL

    while client.stats()["broker"]["connections"] > 1:
        continue
    assert client.stats()["mappings"]["frames"] == 0


def test_a_forked_child_has_no_foreign_memory(client: Client, guest: int) -> None:
    """Law: inheritance is NONE: in the child the addresses are there and inaccessible."""
    with ForeignMemory(client) as foreign, foreign.map(guest, [1]) as mapping:
        mapping[0] = 1

        assert in_child(lambda: mapping[0]) == -signal.SIGSEGV
        assert mapping[0] == 1


def test_a_replaced_part_is_not_inherited_either(client: Client, guest: int) -> None:
    """Law: MADV_DONTFORK is applied again to what MAP_FIXED has replaced."""
    with ForeignMemory(client) as foreign, foreign.map(guest, [1, 2, 3]) as mapping:
        foreign.map(guest, [4], addr=mapping.address + PAGE_SIZE)

        assert in_child(lambda: mapping[PAGE_SIZE]) == -signal.SIGSEGV


def test_a_forked_child_cannot_use_its_parents_client(client: Client, guest: int) -> None:
    """Law: the child is told so, may close what it inherited, and its parent's connection stays in step."""
    with ForeignMemory(client) as foreign, foreign.map(guest, [1]) as mapping:

        def child() -> None:
            with pytest.raises(PrivcmdError, match="belongs to process") as caught:
                client.ping()
            assert caught.value.errno == errno.EBADF
            mapping.close()
            client.close()
            with Client(client.path) as own:
                own.ping()

        assert in_child(child) == 0
        mapping[0] = 5
        assert client.read(mapping.address, 1) == b"\5"


def test_a_forked_space_has_a_copy_of_the_map(broker: PrivateBroker, client: Client, guest: int) -> None:
    """Law: space.fork leaves foreign mappings out and keeps the rest, as the kernel does."""
    with ForeignMemory(client) as foreign, foreign.map(guest, [1]) as mapping:
        plain = client.mmap(0, PAGE_SIZE, 3)
        space = client.fork()
        with Client(broker.path) as child:
            child.attach(space)

            assert [entry.start for entry in child.maps()] == [plain]
            with pytest.raises(PrivcmdError, match="EFAULT"):
                child.read(mapping.address, 1)


def test_when_the_broker_is_killed() -> None:
    """Law: memory stays, calls raise BrokerGone, closing is no error."""
    with PrivateBroker() as broker:
        client = broker.client()
        guest = client.domains.create("hvm", 4)
        foreign = ForeignMemory(client)
        mapping = foreign.map(guest, range(4))
        mapping[:4] = b"kept"

        assert broker.kill() == -signal.SIGKILL

        with pytest.raises(BrokerGone) as caught:
            client.ping()
        assert isinstance(caught.value, ConnectionError)
        with pytest.raises(BrokerGone):
            foreign.map(guest, [0])
        assert client.closed
        assert mapping[:4] == b"kept"
        mapping[:4] = b"more"
        mapping.close()
        foreign.close()
        client.close()
        with pytest.raises(NoBroker, match="ECONNREFUSED"):
            Client(broker.path)


def test_a_broker_that_never_answers_is_given_up() -> None:
    """Law: after timeout_s a call raises NoAnswer and the late answer is dropped; a mapping ends the connection."""
    with PrivateBroker() as broker, broker.client() as patient, Client(broker.path, timeout_s=0.05) as client:
        guest = patient.domains.create("hvm", 4)
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            with pytest.raises(TimeoutError, match="ETIMEDOUT"):
                client.ping()
            assert not client.closed
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        client.timeout_s = None
        assert client.ping() == patient.ping()

        client.timeout_s = 0.05
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            with ForeignMemory(client) as foreign, pytest.raises(PrivcmdError):
                foreign.map(guest, [1])
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        assert client.closed


def test_connecting_is_given_up() -> None:
    """Law: timeout_s holds for connect too, whose queue may be full, and for the hello that goes before a call."""
    with contextlib.ExitStack() as stack:
        path = f"{stack.enter_context(tempfile.TemporaryDirectory())}/socket"
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen(1)
        with Client(path, timeout_s=0.05) as client, pytest.raises(NoAnswer) as unanswered:
            client.ping()
        waiting = 0
        while not waiting:
            queued = stack.enter_context(socket.socket(socket.AF_UNIX))
            queued.setblocking(False)
            waiting = queued.connect_ex(path)
        with pytest.raises(NoBroker) as full:
            Client(path, timeout_s=0.05)

    assert [caught.value.errno for caught in (unanswered, full)] == [errno.ETIMEDOUT] * 2
    assert "was full for 0.05 s" in str(full.value)


def test_many_requests_at_once_never_block_each_other(client: Client) -> None:
    """Law: a pipeline far larger than any socket buffer, both ways, is answered whole and in order."""
    addr = client.mmap(0, 1 << 20, 3)
    client.privcmd_mmapbatch_v2(client.domains.create("hvm", 256), addr, range(256))
    writes = [("write", {"addr": addr + (n << 16), "data": bytes([n]) * 65536}) for n in range(16)]
    reads = [("read", {"addr": addr + (n << 16), "len": 65536}) for n in range(16)]
    mixed = [request for pair in zip(writes, reads, strict=True) for request in pair]

    answers = client.call_many([*mixed, ("ping", {}), ("no.such", {})])

    assert [answer["data"][0] for answer in answers[1:32:2]] == list(range(16))
    assert isinstance(answers[-1], PrivcmdError)
    assert answers[-1].errno == errno.ENOSYS


def test_an_abandoned_interpreter_exits_cleanly(broker: PrivateBroker, guest: int) -> None:
    """Law: a program may end with everything still open."""
    code = (
        "import privcmd, sys; c = privcmd.Client(sys.argv[1]); f = privcmd.ForeignMemory(c);"
        "m = f.map(int(sys.argv[2]), range(4)); v = memoryview(m)"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, broker.path, str(guest)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (ran.returncode, ran.stdout) == (0, "")
