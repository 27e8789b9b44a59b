# SPDX-License-Identifier: Apache-2.0
"""A service manager that keeps descriptors keeps guests' events over a crash of the broker (promise C8)."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from privcmd import Client
from privcmdd.server.event_store import split
from support.process import Process, eventually

if TYPE_CHECKING:
    from pathlib import Path

SMALL = "[machine]\nmemory_mib = 64\n"
ADOPT = (
    "import fcntl,os,sys; fds=[fcntl.fcntl(int(n), fcntl.F_DUPFD, 30) for n in sys.argv[1].split(',')];"
    "[os.dup2(fd, 3 + at) for at, fd in enumerate(fds)];"
    "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=sys.argv[2]);"
    "os.execv(sys.argv[3], sys.argv[3:])"
)


class Manager:
    """What a service manager keeps for a broker."""

    def __init__(self) -> None:
        self.kept: dict[str, int] = {}

    def keeps(self, n: int, process: Process) -> bool:
        """Do what the broker has asked for so far. Returns whether so many descriptors are kept now."""
        told = process._manager
        while select.select([told], [], [], 0)[0]:
            data, fds, _, _ = socket.recv_fds(told, 4096, 4)
            lines = dict(line.split("=", 1) for line in data.decode().split("\n"))
            if "FDSTORE" in lines:
                (self.kept[lines["FDNAME"]],) = fds
            elif "FDSTOREREMOVE" in lines:
                self.close(lines["FDNAME"])
        return len(self.kept) == n

    def close(self, name: str) -> None:
        """Keep a descriptor no longer; there may be none of this name."""
        if (fd := self.kept.pop(name, None)) is not None:
            os.close(fd)

    def start(self, state: Path, path: str | None = None) -> Process:
        """Start a broker, and hand in all that is kept."""
        wrapper = []
        fds = list(self.kept.values())
        if fds:
            wrapper = [sys.executable, "-c", ADOPT, ",".join(map(str, fds)), ":".join(self.kept)]
        args = ("--set", f"server.state_dir={state}", "--paranoid")
        return Process(*args, config=SMALL, environ={"FDSTORE": "64"}, wrapper=wrapper, fds=fds, path=path)


def test_c8_a_guest_s_program_goes_on_with_the_same_events(tmp_path: Path) -> None:
    """Who waited for an event under the broker that was killed is woken by a notification under the next one."""
    manager = Manager()
    with manager.start(tmp_path / "state") as first:
        first.ready()
        with Client(first.path) as client:
            for dom in (1, 2):
                client.domains.create("hvm", 16, dom=dom)
            port = client.events.alloc_unbound(2, on=1)
            other = client.events.bind_interdomain(1, port.port, on=2)
            assert eventually(lambda: manager.keeps(2, first))
            waiting = os.dup(other.fileno())
            stray = [os.eventfd(0), os.eventfd(0)]
            manager.kept |= {f"event-999-{side}": fd for side, fd in enumerate(stray)}
            first.signal(signal.SIGKILL)
            first.wait()
            with manager.start(tmp_path / "state", first.path) as second:
                assert eventually(lambda: manager.keeps(2, second))
                assert not any(name.startswith("event-999") for name in manager.kept)
                with Client(first.path) as again:
                    if select.select([waiting], [], [], 0)[0]:  # a port that is bound begins pending
                        os.eventfd_read(waiting)
                    again.call("evtchn.notify", on=1, port=port.port)
                    assert select.select([waiting], [], [], 30)[0]
                    again.call("evtchn.close", on=1, port=port.port)
                    again.call("evtchn.close", on=2, port=other.port)
                    assert eventually(lambda: manager.keeps(0, second))
                assert second.stop() == 0
            os.close(waiting)


@pytest.mark.parametrize("whole", [True, False])
def test_what_is_handed_in_is_looked_at(whole: bool) -> None:
    """Sockets stay where they are; of events, both of a channel have to be there and be eventfds."""
    code = (
        "import os, sys; from privcmdd.server.event_store import split\n"
        "while max(made := [os.eventfd(0), os.eventfd(0)]) < 5: pass\n"
        "os.dup2(made[0], 3); os.dup2(made[0], 4); os.dup2(made[1] if sys.argv[1] == 'True' else 0, 5)\n"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='3', LISTEN_FDNAMES='s:event-7-0:event-7-1')\n"
        "print(split(os.environ), os.environ['LISTEN_FDS'], os.environ['LISTEN_FDNAMES'])"
    )
    words = [sys.executable, "-c", code, str(whole)]

    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=True)

    assert done.stdout.strip() == ("{7: (4, 5)} 1 s" if whole else "{} 1 s")


def test_others_events_are_not_taken() -> None:
    """LISTEN_PID says whose they are."""
    assert split({"LISTEN_PID": "1", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "event-1-0:event-1-1"}) == {}
