# SPDX-License-Identifier: Apache-2.0
"""What is started when its first client comes."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from privcmd import BrokerGone, Client, NoBroker, PrivcmdError
from privcmd.run import host
from privcmd.run._door import Door
from privcmd.run._relay import Relay

if TYPE_CHECKING:
    from collections.abc import Iterator

GUARD_S = 60


class Started:
    """Something behind a door: it answers each client with one byte."""

    def __init__(self, path: Path) -> None:
        self.n = 0
        self.began = threading.Event()
        self.ended = threading.Event()
        self.door = Door(str(path), self._start)

    def _start(self, door: Door) -> None:
        self.n += 1
        self.began.set()
        door.stack.callback(self.ended.set)
        sock, _ = door.listener.accept()
        sock.sendall(b"!")
        sock.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Started]:
    """A door that nobody watches yet."""
    started = Started(tmp_path / "s")
    yield started
    started.door.close()


def connected(tmp_path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(GUARD_S)
    sock.connect(str(tmp_path / "s"))
    return sock


def test_nothing_is_started_for_nobody(place: Started) -> None:
    """Law: a door that nobody comes to closes, and nothing has been started."""
    place.door.watch()
    place.door.close()

    assert (place.n, place.door.opened) == (0, False)


def test_the_first_client_has_it_started(place: Started, tmp_path: Path) -> None:
    """Law: who connects waits until it is there, and is served by it; it ends with the door."""
    place.door.watch()
    with connected(tmp_path) as client:
        assert client.recv(1) == b"!"
    place.door.close()

    assert (place.n, place.ended.is_set()) == (1, True)


def test_it_is_started_once(place: Started, tmp_path: Path) -> None:
    """Law: to open a door that is open does nothing."""
    with connected(tmp_path) as client:
        place.door.open()
        place.door.open()
        assert client.recv(1) == b"!"

    assert place.n == 1


def test_clients_of_what_cannot_be_started_are_refused(tmp_path: Path) -> None:
    """Law: the reason is kept, and raised to whoever opens; who waits is let go, and who comes later is refused."""

    def start(_door: Door) -> None:
        raise PrivcmdError(5, "it does not start")

    place = Door(str(tmp_path / "s"), start)
    with socket.socket(socket.AF_UNIX) as early, socket.socket(socket.AF_UNIX) as late:
        early.settimeout(GUARD_S)
        early.connect(str(tmp_path / "s"))
        place.watch()
        with pytest.raises(ConnectionResetError):
            early.recv(1)
        with pytest.raises(ConnectionRefusedError):
            late.connect(str(tmp_path / "s"))
    with pytest.raises(PrivcmdError, match="it does not start"):
        place.open()
    place.close()


def test_a_door_closes_while_something_is_being_started(tmp_path: Path) -> None:
    """Law: what is being started learns that nobody needs it any more, and what it has begun is ended."""
    began, ended = threading.Event(), threading.Event()

    def start(door: Door) -> None:
        door.stack.callback(ended.set)
        began.set()
        while not door.closing:
            threading.Event().wait(0.001)
        raise PrivcmdError(5, "given up")

    place = Door(str(tmp_path / "s"), start)
    place.watch()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))
        assert began.wait(GUARD_S)
        place.close()

    assert ended.is_set()


def test_a_relay_takes_clients_to_another_socket(tmp_path: Path) -> None:
    """Law: bytes and ends of streams arrive in both directions; all connections end with the relay."""
    with socket.socket(socket.AF_UNIX) as here, socket.socket(socket.AF_UNIX) as there:
        there.settimeout(GUARD_S)
        for sock, name in ((here, "here"), (there, "there")):
            sock.bind(str(tmp_path / name))
            sock.listen()
        with socket.socket(socket.AF_UNIX) as client, socket.socket(socket.AF_UNIX) as other:
            for sock in (client, other):
                sock.settimeout(GUARD_S)
            client.connect(str(tmp_path / "here"))
            relay = Relay(here, str(tmp_path / "there"))
            server, _ = there.accept()
            with server:
                client.sendall(b"ask")
                assert server.recv(9) == b"ask"
                server.sendall(b"answer")
                assert client.recv(9) == b"answer"
                client.shutdown(socket.SHUT_WR)
                assert server.recv(9) == b""
            assert client.recv(9) == b""
            other.connect(str(tmp_path / "here"))
            still, _ = there.accept()
            with still:
                relay.close()
                assert other.recv(9) == still.recv(9) == b""


def test_a_host_has_its_domains_when_its_first_client_comes() -> None:
    """Law: a broker that is started lazily has its domains, by the numbers that were promised."""
    guests = [host.DomainConfig("hvm", 16, "one"), host.DomainConfig("pv", 16, "two")]
    with host.running(guests, store=False, lazily=True) as up:
        assert up.link is None
        with Client(up.socket) as client:
            assert [(row.dom, row.name) for row in client.domains.list()] == [(1, "one"), (2, "two")]
        assert up.doms == [1, 2]
        assert not Path(up.socket).parent.joinpath("n").exists()

    assert not Path(up.socket).parent.exists()


def test_a_host_says_why_its_broker_does_not_start() -> None:
    """Law: its first client's connection ends, the next ones are refused, and the host has the broker's own words."""
    with host.running(config="[machine]\nmemory_mib = -1\n", store=False, lazily=True) as up:
        with Client(up.socket) as client, pytest.raises(BrokerGone):
            client.ping()
        with pytest.raises(NoBroker):
            Client(up.socket)
        assert isinstance(up.error, NoBroker)
        assert "memory_mib" in str(up.error)


def test_a_host_says_which_domain_is_refused() -> None:
    """Law: what the broker refuses to make when it is started is the host's error, and ends the broker."""
    with host.running([host.DomainConfig("hvm", 1 << 40)], store=False, lazily=True) as up:
        with Client(up.socket) as client, contextlib.suppress(BrokerGone):
            while True:  # some may still be answered
                client.ping()
        assert isinstance(up.error, PrivcmdError)
        assert up.error.name == "ENOMEM"
