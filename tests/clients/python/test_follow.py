# SPDX-License-Identifier: Apache-2.0
"""Clients follow guests from one broker to the next: mappings stay valid where they can, and nothing is done twice."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import signal
import threading
from typing import TYPE_CHECKING, Self

import pytest

from privcmd import BrokerGone, Client, ForeignMemory, GuestsGone
from support.process import Process, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = 4096
SMALL = "[machine]\nmemory_mib = 64\n"
RANGES = [(0, 20)]


@pytest.fixture(params=["hand-over", "crash"])
def brokers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Brokers]:
    """A broker, and what ends it and has another one follow."""
    with Brokers(request.param, tmp_path / "state") as made:
        yield made


class Brokers:
    """Brokers at one path, one after the other."""

    def __init__(self, how: str, state: Path) -> None:
        self.how = how
        self.state = state
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.now = self._stack.enter_context(Process(*self._keeping(), "--paranoid", config=SMALL)).ready()
        self.path = self.now.path
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _keeping(self) -> list[str]:
        return ["--set", f"server.state_dir={self.state}"] if self.how == "crash" else []

    def next(self) -> None:
        """The next broker, with the guests of this one."""
        before = self.now
        if self.how == "crash":
            before.signal(signal.SIGKILL)
            before.wait()
        args = ["--take-over"] if self.how == "hand-over" else self._keeping()
        self.now = self._stack.enter_context(Process(*args, "--paranoid", config=SMALL, path=self.path))
        self.now.ready()
        before.wait()


def test_c7_mappings_stay_valid_under_the_next_broker(brokers: Brokers) -> None:
    """Promise C7: pages keep their content and their views; the next broker counts them, so the guest cannot vanish."""
    with Client(brokers.path) as client, ForeignMemory(client) as foreign:
        for dom in (1, 2):
            client.domains.create("hvm", 64, dom=dom, ranges=RANGES)
        memory = foreign.map(1, [3, 5, 99, 7], errors="keep")
        read_only = foreign.map(2, [1, 2], prot=1)
        memory[:5] = b"virtq"
        view = memory.page(1)
        foreign.map(2, [9], addr=memory.address + 3 * PAGE)
        brokers.next()

        view[:2] = b"ok"
        assert [row.state for row in client.domains.list()] == ["paused", "paused"]

        assert (bytes(memory[:5]), bytes(memory[PAGE : PAGE + 2])) == (b"virtq", b"ok")
        assert (list(memory.errors), list(memory.owners)) == ([0, 0, -22, 0], [1, 1, 1, 2])
        entries = {(row["start"], row["dom"], row["present"]) for row in client.call("maps")["entries"]}
        assert {(start, n) for start, _, n in entries} >= {(read_only.address, 2)}
        assert sum(n for _, _, n in entries) == 5
        with ForeignMemory(client) as other, other.map(1, [3]) as again:
            assert bytes(again[:5]) == b"virtq"
        assert client.domains.destroy(1) == "dying"
        assert client.notices[-1].topic in ("domain", "followed")
        assert [notice.body for notice in client.notices if notice.topic == "followed"] == [{"lost": 0}]
        view.release()


def test_frames_that_are_not_there_any_more_are_told(brokers: Brokers) -> None:
    """A frame that was taken from the guest while it was mapped ends with the broker: its page fails from now on."""
    with Client(brokers.path) as client, ForeignMemory(client) as foreign:
        client.domains.create("hvm", 64, dom=1, ranges=RANGES)
        memory = foreign.map(1, [3, 5])
        client.domains.decrease_reservation(1, [5])
        memory[PAGE : PAGE + 1] = b"x"
        brokers.next()

        client.ping()

        assert list(memory.errors) == [0, -22]
        assert [notice.body for notice in client.notices if notice.topic == "followed"] == [{"lost": 1}]


def test_a_connection_is_what_it_was(brokers: Brokers) -> None:
    """Its features, its topics and the settings of its address space are said again, in any order that it said them."""
    with Client(brokers.path) as client:
        client.call("space.attach", personality="linux")
        client.call("hello", features=["seq"], client="test")
        client.subscribe("domain")
        brokers.next()

        assert "seq" in client.call("domain.list")
        with Client(brokers.path) as other:
            other.domains.create("hvm", 4, dom=3)
        client.ping()

        assert [n.body["state"] for n in client.notices if n.topic == "domain"] == ["paused"]
        assert client.call("space.list")["spaces"][0]["personality"] == "linux"


def test_c8_requests_of_a_hand_over_are_done_once(tmp_path: Path) -> None:
    """Promise C8: threads that never stop asking see no end of a connection, and each request is done, once."""
    with Brokers("hand-over", tmp_path) as brokers:
        stop = threading.Event()
        made: list[list[int]] = [[], [], []]

        def work(number: int) -> None:
            with Client(brokers.path) as client:
                while not stop.is_set():
                    made[number].append(client.domains.create("pvh", 1, ranges=[]))
                    if len(made[number]) > 100:
                        client.domains.destroy(made[number].pop(0))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            brokers.next()
        stop.set()
        for thread in threads:
            thread.join()

        with Client(brokers.path) as client:
            assert sorted(row.dom for row in client.domains.list()) == sorted(itertools.chain(*made))
            assert client.call("hello")["epoch"] == 4


def test_a_request_that_was_under_way_at_a_crash_is_not_sent_again(tmp_path: Path) -> None:
    """Nobody knows whether it was done: it raises, and the call after it goes to the next broker."""
    with Brokers("crash", tmp_path / "state") as brokers, Client(brokers.path) as client, Client(brokers.path) as other:
        client.domains.create("hvm", 4, dom=1)
        client.call("faults.add", delay_ms=60_000, method="domain.create")
        raised: list[BrokerGone] = []

        def create() -> None:
            try:
                client.domains.create("hvm", 4, dom=2)
            except BrokerGone as gone:
                raised.append(gone)

        waiting = threading.Thread(target=create)
        waiting.start()
        assert eventually(lambda: other.call("faults.list")["faults"][0]["fired"] == 1)
        brokers.next()
        waiting.join()

        assert len(raised) == 1
        assert [row.dom for row in client.domains.list()] == [1]


def test_other_guests_are_told_from_the_same(tmp_path: Path) -> None:
    """A broker with an empty directory is another line: a client that has mapped something does not go on there."""
    with Brokers("crash", tmp_path / "state") as brokers, Client(brokers.path) as client:
        client.domains.create("hvm", 4, dom=1)
        brokers.now.signal(signal.SIGKILL)
        brokers.now.wait()
        shutil.rmtree(brokers.state)
        brokers.next()

        with pytest.raises(GuestsGone, match=r"ENOTCONN: another broker listens at .*, with other guests"):
            client.domains.list()
        with pytest.raises(GuestsGone):
            client.ping()


def test_when_no_broker_follows_the_call_ends_in_time(tmp_path: Path) -> None:
    """It raises the end of the connection, as it would at once where guests end with their broker."""
    with Brokers("crash", tmp_path / "state") as brokers, Client(brokers.path, timeout_s=0.1) as client:
        client.ping()
        brokers.now.signal(signal.SIGKILL)
        brokers.now.wait()

        with pytest.raises(BrokerGone):
            client.ping()
        with pytest.raises(BrokerGone):
            client.ping()
        brokers.next()
        assert client.ping()


def test_without_a_place_for_state_the_connection_ends_for_good() -> None:
    """The guests are gone, so nothing is to be gained by waiting."""
    with Process(config=SMALL) as process, Client(process.ready().path) as client:
        client.ping()
        process.signal(signal.SIGKILL)
        process.wait()

        for _ in range(2):
            with pytest.raises(BrokerGone):
                client.ping()
        assert client.closed
