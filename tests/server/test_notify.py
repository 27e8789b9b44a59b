# SPDX-License-Identifier: Apache-2.0
"""The service manager is told, when there is one, and cannot hurt us."""

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from privcmdd.server.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, str]]:
    """A listening service manager, and its address as NOTIFY_SOCKET writes it."""
    with tempfile.TemporaryDirectory(prefix="pv") as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        address = str(Path(folder) / "n") if request.param == "path" else f"@privcmdd-test-{os.getpid()}"
        sock.bind("\0" + address[1:] if address[0] == "@" else address)
        sock.setblocking(False)
        yield sock, address


def test_states_are_told(manager: tuple[socket.socket, str]) -> None:
    """READY, RELOADING with the clock that systemd wants, STOPPING; each in one datagram."""
    sock, address = manager
    environ = {"NOTIFY_SOCKET": address}
    notifier = Notifier(environ)
    notifier.ready("Serving")
    notifier.reloading()
    notifier.stopping("Draining")
    notifier.close()
    notifier.close()

    assert sock.recv(1000) == b"READY=1\nSTATUS=Serving"
    state, clock = sock.recv(1000).decode().split("\n")
    assert (state, clock.rstrip("0123456789")) == ("RELOADING=1", "MONOTONIC_USEC=")
    assert sock.recv(1000) == b"STOPPING=1\nSTATUS=Draining"
    assert environ == {}


@pytest.mark.parametrize(
    ("usec", "pid", "watchdog_s"),
    [("3000000", "", 3), ("3000000", "ours", 3), ("3000000", "1", 0), ("", "", 0), ("soon", "", 0)],
)
def test_the_watchdog_is_heeded_when_it_is_meant(usec: str, pid: str, watchdog_s: float) -> None:
    """In the process that it names, or any; and children do not inherit it."""
    pid = str(os.getpid()) if pid == "ours" else pid
    environ = {"NOTIFY_SOCKET": "@nobody-is-there", "WATCHDOG_USEC": usec, "WATCHDOG_PID": pid}
    notifier = Notifier(environ)
    notifier.close()

    assert notifier.watchdog_s == watchdog_s
    assert environ == {}
    assert Notifier({"WATCHDOG_USEC": usec}).watchdog_s == 0


@pytest.mark.parametrize("address", ["", "/no/such/socket", "@nobody-is-there"])
def test_a_missing_manager_is_no_trouble(address: str) -> None:
    """Not being supervised, or by something broken, is not our failure."""
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.ready("Serving")
    notifier.close()
    notifier.stopping("Draining")


def test_a_manager_that_does_not_read_does_not_block_us(manager: tuple[socket.socket, str]) -> None:
    """What it does not take is lost."""
    _, address = manager
    notifier = Notifier({"NOTIFY_SOCKET": address})
    for _ in range(10_000):
        notifier.reloading()
    notifier.close()
