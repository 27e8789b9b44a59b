# SPDX-License-Identifier: Apache-2.0
"""kill -9 before and after each write that the broker makes: what was answered is there, and nothing is half done."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from privcmdd.server.state_dir import StateDir
from sim.snapshot import differences
from support.desk import ROOT, Desk, frames, settings
from support.keeping import image
from support.kills import storm

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = 4096
SECRET = b"secret".ljust(PAGE, b".")
WRITES = {"open", "ftruncate", "fchmod", "pwrite", "unlink", "mkdir", "execute", "executemany", "discard"}
"""Names of functions that change something outside the process, of the system's calls and of the database's."""
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("domain.create", {"kind": "hvm", "max_pages": 64, "dom": 1, "ranges": [{"gfn": 0, "npages": 8}]}),
    ("domain.create", {"kind": "pv", "max_pages": 16, "dom": 2}),
    ("domain.populate", {"dom": 1, "arr": frames(20, 22)}),
    ("domain.page_out", {"dom": 1, "arr": frames(5)}),
    ("domain.decrease_reservation", {"dom": 1, "arr": frames(3)}),
    ("domain.populate", {"dom": 1, "arr": frames(3)}),
    ("evtchn.alloc_unbound", {"on": 1, "remote": 2}),
    ("evtchn.bind_interdomain", {"on": 2, "dom": 1, "port": 1}),
    ("faults.add", {"frame_errno": "EINVAL", "keep": True, "nth": 1000}),
    ("domain.destroy", {"dom": 2}),
    ("domain.create", {"kind": "hvm", "max_pages": 4, "dom": 2}),
    ("faults.clear", {"id": 1}),
    ("domain.destroy", {"dom": 1}),
]


class Broker:
    """A broker without sockets that keeps its state in a directory."""

    def __init__(self, folder: Path) -> None:
        self.state = StateDir(str(folder))
        self.desk = Desk(settings(), cast("Any", self.state.files), self.state.store)
        self._root = self.desk.connect(ROOT)

    def do(self, method: str, params: dict[str, Any]) -> None:
        """A request; guest frame 3 has something in it before it is given back."""
        if method == "domain.decrease_reservation":
            self.desk.backing.write(1, 3, 0, SECRET)
        reply = self.desk.reply(self._root, method, **params)
        for fd in reply.fds:
            os.close(fd)
        assert self.desk.said(reply) is not None

    def close(self) -> None:
        """As an orderly stop does it."""
        self.state.files.close_all()
        self.state.close()


class Killer:
    """Kills the process at the n-th moment just before, or just after, something is written."""

    def __init__(self, nth: int) -> None:
        self._left = nth

    def __call__(self, _frame: object, event: str, argument: Any) -> None:
        """Python's hook for calls."""
        name = getattr(argument, "__name__", None) if event.startswith("c_") else None
        if name is None and event in ("call", "return"):
            name = _frame.f_code.co_name if _frame.f_code.co_name == "discard" else None  # type: ignore[attr-defined]
        if name in WRITES:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)


def life(folder: Path, nth: int) -> tuple[int, bool]:
    """Have a broker live until it is killed. Returns how many requests it has answered, and whether it was killed."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            sys.setprofile(Killer(nth))
            broker = Broker(folder)
            for method, params in REQUESTS:
                broker.do(method, params)
                os.write(theirs, b".")
            broker.close()
            sys.setprofile(None)
            code = 0
        finally:
            os._exit(code)
    os.close(theirs)
    with open(ours, "rb") as told:  # noqa: PTH123 - a descriptor
        n_answered = len(told.read())
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return n_answered, code != 0


@pytest.fixture(scope="module")
def shm() -> Iterator[Path]:
    """A directory where nothing waits for a disk."""
    with tempfile.TemporaryDirectory(prefix="pv", dir="/dev/shm") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def images(shm: Path) -> list[dict[str, Any]]:
    """The state before the first request, and after each."""
    broker = Broker(shm / "undisturbed")
    found = [image(broker.desk)]
    for method, params in REQUESTS:
        broker.do(method, params)
        found.append(image(broker.desk))
    broker.close()
    return found


def test_c8_kill_9_around_each_write(images: list[dict[str, Any]], shm: Path) -> None:
    """Promise C8: the state after a restart is that after the last answer, or that after the request under way.

    Memory files are those of the domains that are there, and a page that was given back is empty when it is used again.
    """
    nth, killed = 0, True
    while killed:
        nth += 1
        folder = shm / str(nth)
        n_answered, killed = life(folder, nth)
        after = Broker(folder)
        try:
            found = image(after.desk)
            steps = range(n_answered, min(n_answered + 2, len(images)))
            assert any(differences(images[step], found) == [] for step in steps), f"killed at moment {nth}"
            after.desk.broker.check()
            domains = after.desk.broker.world.machine.domains
            assert {path.name for path in (folder / "memory").iterdir()} == {f"domain-{dom}" for dom in domains}
            if n_answered >= 4 and 1 in domains and (n_answered > 4 or not domains[1].p2m[3]):
                if not domains[1].p2m[3]:
                    after.do("domain.populate", {"dom": 1, "arr": frames(3)})
                assert after.desk.backing.read(1, 3, 0, PAGE) == bytes(PAGE), f"killed at moment {nth}"
        finally:
            after.close()
    assert n_answered == len(REQUESTS)
    assert nth > 10 * len(REQUESTS)


def test_c7_c8_brokers_that_are_killed_under_load_lose_nothing_that_was_answered(shm: Path) -> None:
    """Promises C7 and C8 with real brokers and clients; ``support.kills`` does it as often as one likes."""
    tally = storm(4, shm / "storm")

    assert (tally.n_kills, tally.n_lost, tally.n_bytes_lost) == (4, 0, 0)
    assert tally.n_answered > 0
