# SPDX-License-Identifier: Apache-2.0
"""No request does more in one step than its share, whatever it asks for: counted in steps, for each kind of request.

At every pause all laws hold, somebody else is served, and the client may go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

from privcmdd.model.slices import MIDWAY, Pace
from privcmdd.service.steps import GivenUp, Ticket
from support.desk import BASE, PAGE, USER, Desk, frames, result, settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from privcmdd.service.session import Session
    from support.desk import Steps

BULK: Final = 8
N: Final = 40
ALL: Final = frames(*range(N))


class Asked(NamedTuple):
    """A request that takes several steps.

    Attributes:
        method: The method.
        params: Its parameters.
        n_steps: How many steps it takes at least.
        before: What there is to be before.
        kind: The personality.
    """

    method: str
    params: dict[str, Any]
    n_steps: int
    before: Callable[[Desk, Session], object] = lambda _desk, _session: None
    kind: str = "uvm"


def reserve(desk: Desk, session: Session) -> None:
    """A range to map in."""
    desk.reserve(session, N)


def mapped(desk: Desk, session: Session) -> None:
    """A range with frames."""
    reserve(desk, session)
    desk.call(session, "privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=ALL)


CASES: Final = {
    "mmapbatch over frames": Asked("privcmd.mmapbatch_v2", {"dom": 1, "addr": BASE, "arr": ALL}, 2 * N // BULK, mapped),
    "munmap of frames": Asked("munmap", {"addr": BASE, "len": N * PAGE}, 1 + N // BULK, mapped),
    "munmap of frames, linux": Asked("munmap", {"addr": BASE, "len": N * PAGE}, 1 + N // BULK, mapped, "linux"),
    "mmap over frames": Asked(
        "mmap", {"addr": BASE, "len": N * PAGE, "prot": 3, "fixed": True}, 1 + N // BULK, mapped, "linux"
    ),
    "mprotect of frames": Asked("mprotect", {"addr": BASE, "len": N * PAGE, "prot": 0}, 1 + N // BULK, mapped, "linux"),
}


class Table:
    """A broker that does little in a step, a client, and somebody else."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.desk = Desk(settings(paranoid=False, slice_frames=BULK))
        self.desk.broker.world.machine.pace = Pace(bulk=BULK, entries=2)
        self.bystander = self.desk.connect(USER)
        self.desk.domain(self.bystander, max_pages=N + 16, dom=1, ranges=[{"gfn": 0, "npages": N}])
        self.client = self.desk.connect(USER)
        self.desk.call(self.client, "space.attach", personality=asked.kind)
        asked.before(self.desk, self.client)

    def start(self) -> Steps:
        """The request."""
        return self.desk.start(self.client, self.asked.method, **self.asked.params)

    def leave(self) -> None:
        """The client goes, and nothing is left of it."""
        for _ in self.desk.broker.leave(self.client):
            self.desk.broker.check()
        self.desk.broker.check()
        world = self.desk.broker.world
        assert len(world.spaces) == 0
        assert not world.machine.debts.owed
        assert self.desk.call(self.bystander, "ping")


@pytest.mark.parametrize("name", CASES)
def test_a_request_does_its_share_in_each_step(name: str) -> None:
    """Laws hold at every pause, and somebody else may change the same domain there."""
    table = Table(CASES[name])
    steps = table.start()
    n_steps = 1
    while True:
        try:
            pause = next(steps)
        except StopIteration as stop:
            result(stop.value)
            break
        n_steps += 1
        assert not isinstance(pause, Ticket) or pause.granted
        table.desk.broker.check()
        assert table.desk.call(table.bystander, "domain.populate", dom=1, arr=[N + n_steps % 16])
    assert n_steps >= table.asked.n_steps
    table.leave()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("at_once", [False, True], ids=["in steps", "at once"])
def test_a_client_may_go_at_any_pause(name: str, at_once: bool) -> None:
    """C1: whatever had been done, everything is given back; a request that must go on does so without its client."""
    n_pauses = 0
    while True:
        n_pauses += 1
        table = Table(CASES[name])
        steps = table.start()
        pause = None
        for _ in range(n_pauses):
            pause = next(steps, steps)
        if pause is steps:
            break
        try:
            while not at_once:
                pause = next(steps) if pause is MIDWAY else steps.throw(GivenUp())
                table.desk.broker.check()
        except StopIteration:
            pass
        steps.close()
        table.desk.broker.check()
        table.leave()
    assert n_pauses >= table.asked.n_steps
