# SPDX-License-Identifier: Apache-2.0
"""Injections through a real socket: what waits keeps nobody else waiting, and what is dropped ends there."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import msgpack
import pytest

from support.process import Process, eventually
from support.rawclient import RawClient

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_MS = 60_000  # longer than any test may take


@pytest.fixture(scope="module")
def process() -> Iterator[Process]:
    """One broker for all of them, without a domain before each."""
    with Process("--paranoid") as started:
        yield started.ready()


@pytest.fixture
def admin(process: Process) -> Iterator[RawClient]:
    """Who adds the rules."""
    with process.client() as client:
        yield client


def fired(admin: RawClient) -> int:
    """How often the only rule has."""
    (rule,) = admin.call("faults.list")["faults"]
    n: int = rule["fired"]
    return n


def test_a_delay_keeps_no_other_client_waiting(process: Process, admin: RawClient) -> None:
    """One waits for longer than any test; what it asked before is answered at once, and others are served."""
    admin.call("faults.add", method="maps", delay_ms=LONGEST_MS)
    with process.client() as slow, process.client() as other:
        before, _, _ = (slow.post(method, []) for method in ("ping", "maps", "ping"))
        assert slow.answer(before)
        assert eventually(lambda: fired(admin) == 1)

        assert other.call("ping")
        slow.sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            slow.message()


def test_answers_come_in_order_after_a_delay(process: Process, admin: RawClient) -> None:
    """What was asked behind a request that waits is answered behind it."""
    admin.call("faults.add", method="maps", delay_ms=20)
    with process.client() as client:
        msgids = [client.post(method, []) for method in ("maps", "ping", "maps", "ping")]

        assert [client.message()[1] for _ in msgids] == msgids


def test_a_client_that_hangs_up_while_it_waits_is_noticed(process: Process, admin: RawClient) -> None:
    """Its request is given up, and all that it held given back, long before the delay is over."""
    admin.call("faults.add", method="munmap", delay_ms=LONGEST_MS)
    with process.client() as gone:
        addr = gone.call("mmap", len=4096, prot=3)["addr"]
        gone.post("munmap", [{"addr": addr, "len": 4096}])
        assert eventually(lambda: fired(admin) == 1)

    assert eventually(lambda: admin.call("stats")["broker"]["connections"] == 1)
    assert admin.call("stats")["mappings"]["entries"] == 0


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_dropped_request_ends_the_stream_where_its_answer_would_be(
    process: Process, admin: RawClient, when: str
) -> None:
    """What was answered before it arrives, what comes behind it is not done; and the domain is there or not."""
    admin.call("faults.add", method="domain.create", drop=True, when=when)
    with process.client() as dropped:
        requests = ("ping", "domain.create", "domain.create")
        params = {"kind": "hvm", "max_pages": 1}
        data = b"".join(msgpack.packb([0, i, name, [params] if "." in name else []]) for i, name in enumerate(requests))
        dropped.send(data)

        assert dropped.message()[:3] == [1, 0, None]
        assert dropped.ended()
    made = admin.call("domain.list")["domains"]
    assert len(made) == (when == "after")
    for domain in made:
        admin.call("domain.destroy", dom=domain["dom"])
    assert admin.call("stats")["broker"]["faults"] == 0


def test_a_drop_does_not_lose_answers_that_wait_to_be_read(process: Process, admin: RawClient) -> None:
    """A client that was slow to read gets all that was answered before, and then the end."""
    admin.call("faults.add", method="maps", drop=True)
    n = 24
    with process.client() as slow:
        slow.send(b"".join(msgpack.packb([0, i, "describe", []]) for i in range(n)) + msgpack.packb([0, n, "maps", []]))

        assert [slow.message()[1] for _ in range(n)] == list(range(n))
        assert slow.ended()


def test_a_stop_does_not_wait_for_a_delay() -> None:
    """A broker that is told to stop gives up what waits for longer than it may take to drain."""
    with (
        Process("--set", "server.drain_timeout_s=0.1") as process,
        process.ready().client() as admin,
        process.client() as waiting,
    ):
        admin.call("faults.add", method="ping", delay_ms=LONGEST_MS)
        waiting.post("ping", [])
        assert eventually(lambda: fired(admin) == 1)

        process.signal(signal.SIGTERM)

        assert process.wait() == 3
        assert waiting.ended()


def test_rules_of_a_killed_client_are_gone(process: Process) -> None:
    """A test that dies, by kill -9, leaves no faults to the next one."""
    child = os.fork()
    if child == 0:
        try:
            RawClient(process.path).call("faults.add", method="ping", errno="EIO")
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(255)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

    with process.client() as client:
        assert eventually(lambda: client.call("stats")["broker"]["connections"] == 1)
        assert client.call("ping")
