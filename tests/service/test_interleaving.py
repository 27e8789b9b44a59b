# SPDX-License-Identifier: Apache-2.0
"""Any number of clients, any requests, interleaved at every pause, dying at any moment: all laws hold throughout."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from privcmdd.model.errors import ModelError
from privcmdd.model.slices import MIDWAY, Pace
from privcmdd.service.methods.stats import counters
from privcmdd.service.settings import AccessRule
from privcmdd.service.steps import GivenUp, Ticket
from support.desk import BASE, OTHER, PAGE, USER, Desk, frames, only_channels, settings
from support.profiles import PROFILE

if TYPE_CHECKING:
    from collections.abc import Generator

    from privcmdd.service.session import Session
    from privcmdd.service.steps import Pause
    from support.desk import Steps

N_PAGES = 40  # of the range that all use
spots = st.integers(0, N_PAGES - 1)
lengths = st.sampled_from([1, 2, 5, 26, 30, N_PAGES, N_PAGES])
names = st.integers(0, 34)
domids = st.sampled_from([1, 1, 1, 2, 2, 3])
runs = st.tuples(spots, st.integers(0, 20), st.integers(1, 26))  # where, first frame, how many
picks = st.integers(0, 3)
RULES = (
    AccessRule("admin", uids=(USER,)),
    AccessRule("write", uids=(OTHER,), domains=(1,)),
    AccessRule("read", uids=(OTHER,), domains=(2,)),
)
LIMITS = {"frames": 110, "entries": 14, "objects": 8, "spaces": 4, "batches": 3, "fds": 5, "slice_frames": 8}


class Clients(RuleBasedStateMachine):
    """A request is begun, driven by single steps, and may be given up; so may its client."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(settings(access=RULES, **LIMITS, paranoid=False))
        self.desk.broker.world.machine.pace = Pace(bulk=6, entries=3)
        self.running: list[tuple[Session, Steps, Any]] = []
        self.sessions: list[Session] = []
        self.leaving: list[Generator[Pause, None, None]] = []
        for domid, kind in ((1, "hvm"), (2, "pv")):
            admin = self.desk.connect()
            self.desk.domain(admin, kind, dom=domid, max_pages=64, ranges=[{"gfn": 0, "npages": 32}])
            self.desk.broker.disconnect(admin)
        for uid, personality, join in ((USER, "uvm", False), (USER, "uvm", True), (OTHER, "uvm", False)):
            self.connect(uid, personality, join=join, merge=False)

    def start(self, pick: int, method: str, /, **params: Any) -> None:
        """Begin a request of a client that waits for no other, and take its first step."""
        waiting = [session for session, _, _ in self.running]
        idle = [session for session in self.sessions if session not in waiting]
        if idle:
            session = idle[pick % len(idle)]
            self.step(session, self.desk.start(session, method, **params))

    def step(self, session: Session, steps: Steps) -> None:
        """Go on to the next pause or to the reply."""
        try:
            self.running.append((session, steps, next(steps)))
        except StopIteration as stop:
            for fd in stop.value.fds:
                os.close(fd)
            assert not stop.value.close, repr(stop.value.incident)
        self.desk.broker.check()

    @rule(
        uid=st.sampled_from([USER, USER, OTHER]),
        personality=st.sampled_from(["uvm", "uvm", "uvm", "linux"]),
        join=st.booleans(),
        merge=st.booleans(),
    )
    def connect(self, uid: int, personality: str, join: bool, merge: bool) -> None:
        """A new thread of the first space of its uid, or a client of its own."""
        there = [s.residence.space.number for s in self.sessions if s.identity.uid == uid and s.residence]
        try:
            self.sessions.append(self.desk.connect(uid))
        except ModelError as error:
            assert error.name == "EDQUOT"
            return
        asked = {"space": there[0]} if join and there else {"personality": personality, "merge": merge}
        self.start_last("space.attach", **asked)
        if "space" not in asked:
            self.start_last("mmap", addr=BASE, len=N_PAGES * PAGE, prot=3 if uid == USER else 1, fixed=True)

    def start_last(self, method: str, /, **params: Any) -> None:
        """Begin a request of the client that came last."""
        self.step(self.sessions[-1], self.desk.start(self.sessions[-1], method, **params))

    @rule(pick=picks)
    def go_on(self, pick: int) -> None:
        ready = [i for i, (_, _, pause) in enumerate(self.running) if not isinstance(pause, Ticket) or pause.granted]
        if ready:
            session, steps, _ = self.running.pop(ready[pick % len(ready)])
            self.step(session, steps)

    @rule(pick=picks, at_once=st.booleans())
    def die(self, pick: int, at_once: bool) -> None:
        """A client goes: what it has under way is given up, at once or while others go on."""
        if self.sessions:
            session = self.sessions.pop(pick % len(self.sessions))
            for entry in [entry for entry in self.running if entry[0] is session]:
                self.running.remove(entry)
                self.give_up(*entry[1:], at_once=at_once)
            self.desk.broker.check()
            if at_once:
                self.desk.broker.disconnect(session)
                self.desk.broker.check()
            else:
                self.leave(self.desk.broker.leave(session))

    def give_up(self, steps: Steps, pause: Any, *, at_once: bool) -> None:
        """A request whose client has gone."""
        try:
            while not at_once:
                pause = next(steps) if pause is MIDWAY else steps.throw(GivenUp())
                self.desk.broker.check()
        except StopIteration as stop:
            for fd in stop.value.fds:
                os.close(fd)
        steps.close()

    def leave(self, ending: Generator[Pause, None, None]) -> None:
        """The next step of the end of a client."""
        if next(ending, ending) is not ending:
            self.leaving.append(ending)
        self.desk.broker.check()

    @rule(pick=picks)
    def go_on_leaving(self, pick: int) -> None:
        if self.leaving:
            self.leave(self.leaving.pop(pick % len(self.leaving)))

    @rule(pick=picks, space=st.integers(1, 8), fork=st.booleans())
    def fork(self, pick: int, space: int, fork: bool) -> None:
        """Make a child's space, or try to live in any."""
        if fork:
            self.start(pick, "space.fork")
        else:
            self.connect(USER, "uvm", join=False, merge=False)
            self.start(-1, "space.attach", space=space)

    @rule(pick=picks, spot=spots, n=lengths, prot=st.sampled_from([3, 3, 1, 0]), call=st.integers(0, 5))
    def system_call(self, pick: int, spot: int, n: int, prot: int, call: int) -> None:
        where = {"addr": BASE + spot * PAGE, "len": n * PAGE}
        if call == 0:
            self.start(pick, "munmap", **where)
        elif call == 1:
            self.start(pick, "mprotect", prot=prot, **where)
        elif call == 2:
            self.start(pick, "fault", addr=where["addr"])
        else:
            self.start(pick, "mmap", prot=prot or 3, fixed=True, addr=BASE, len=N_PAGES * PAGE)

    @rule(pick=picks, dom=domids, spot=spots, n=lengths, first=names, stride=st.integers(0, 2), v2=st.booleans())
    def batch(self, pick: int, dom: int, spot: int, n: int, first: int, stride: int, v2: bool) -> None:
        wanted = [first + stride * i for i in range(n)]
        if dom == 2 and 2 in self.desk.broker.world.machine.domains:
            mfns = self.desk.broker.world.machine.domain(2).gmfns(0, 48).tolist() or [0]
            wanted = [mfns[name % len(mfns)] for name in wanted]
        method = "privcmd.mmapbatch_v2" if v2 else "privcmd.mmapbatch"
        at = min(spot, N_PAGES - n)
        self.start(pick, method, dom=dom, addr=BASE + at * PAGE, arr=frames(*wanted), extents=stride == 1)

    @rule(
        pick=picks,
        dom=domids,
        rows=st.lists(st.tuples(spots, st.integers(0, 20), st.integers(1, 26)), min_size=1, max_size=4),
    )
    def mmap_entries(self, pick: int, dom: int, rows: list[tuple[int, int, int]]) -> None:
        rows = [(min(at, N_PAGES - n) if i else 0, mfn, n) for i, (at, mfn, n) in enumerate(rows)]
        entry = [{"va": BASE + at * PAGE, "mfn": mfn, "npages": n} for at, mfn, n in rows]
        self.start(pick, "privcmd.mmap", dom=dom, entry=entry, extents=True)

    @rule(pick=picks, dom=domids, arr=st.lists(names, min_size=1, max_size=30), change=st.integers(0, 3))
    def change_memory(self, pick: int, dom: int, arr: list[int], change: int) -> None:
        method = ("populate", "decrease_reservation", "page_out", "page_in")[change]
        self.start(pick, f"domain.{method}", dom=dom, arr=arr)

    @rule(pick=picks, dom=domids, port=st.integers(0, 4), remote=st.sampled_from([0, 0, 1]), op=st.integers(0, 6))
    def channel(self, pick: int, dom: int, port: int, remote: int, op: int) -> None:
        """Take, use and give up event channels, one's own and those of guests."""
        if op == 0:
            self.start(pick, "evtchn.alloc_unbound", on=dom, remote=remote)
        elif op < 3:
            self.start(pick, "evtchn.bind_interdomain", dom=dom, port=port)
        elif op == 3:
            self.start(pick, "evtchn.bind_virq", virq=3)
        else:
            method = ("attach", "notify", "close")[op - 4]
            self.start(pick, f"evtchn.{method}", on=dom if remote else 0, port=port)

    @rule(pick=picks, dom=domids, server=st.integers(0, 1), op=st.sampled_from([1, 1, 5, 6]))
    def device_model(self, pick: int, dom: int, server: int, op: int) -> None:
        """Make an ioreq server, enable it, end it."""
        first = struct.pack("<IIHH4x", op, 0, server if op > 1 else 2, op == 5)
        self.start(pick, "privcmd.dm_op", dom=dom, bufs=[first])

    @rule(pick=picks, dom=st.integers(1, 3))
    def domain(self, pick: int, dom: int) -> None:
        """Destroy it if it lives, make it if it is gone."""
        found = self.desk.broker.world.machine.domains.get(dom)
        if found is None:
            kind = "pv" if dom == 2 else "hvm"
            self.start(pick, "domain.create", dom=dom, kind=kind, max_pages=64, ranges=[{"gfn": 0, "npages": 32}])
        else:
            self.start(pick, "domain.destroy", dom=dom)

    @rule(pick=picks, method=st.sampled_from(["maps", "stats", "domain.list", "ping"]))
    def look(self, pick: int, method: str) -> None:
        self.start(pick, method)

    def teardown(self) -> None:
        """When all clients have gone and all domains are destroyed, nothing is left of them."""
        while self.sessions:
            self.die(0, at_once=True)
        while self.leaving:
            self.go_on_leaving(0)
        broker = self.desk.broker
        assert set(counters(broker.world)["mappings"].values()) == {0}
        assert only_channels(broker.world.usage())
        assert broker.world.machine.events.ports(0) == {}
        assert set(self.desk.backing.files) == set(broker.world.machine.domains)
        admin = self.desk.connect()
        for domid in list(broker.world.machine.domains):
            assert self.desk.call(admin, "domain.destroy", dom=domid) == {"state": "gone"}
        assert self.desk.backing.files == {}
        assert self.desk.backing.raised == {}
        self.desk.broker.disconnect(admin)
        assert broker.world.usage() == {}
        assert broker.world.machine.frames.n_free == broker.world.machine.frames.n_frames - 256
        broker.check()


def test_clients_interleaved_at_every_pause() -> None:
    """No incident, no law broken, nothing left behind."""
    run_state_machine_as_test(Clients, settings=PROFILE.machine)
