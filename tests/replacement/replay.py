# SPDX-License-Identifier: Apache-2.0
"""Random walks of the model of replacement, done to a real broker step by step, and the two compared after each.

What makes the model evidence: a step of the model is a step of the broker, from pause to pause, and both have the same
map, page tables, objects, references, queues, charges and answers after it. A page of the model is ``BLOCK`` pages of
the broker, as many as a slice has, so that what pauses in the model pauses in the broker.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from privcmdd.model.ledger import Slot
from privcmdd.model.machine.frames import FEW, NO_FRAME
from privcmdd.model.mm.vm_map import File
from privcmdd.model.units import INVALID_FRAME
from privcmdd.service.steps import Ticket
from replacement.check import MODEL
from support.desk import BASE, PAGE, ROOT, USER, Desk, Refused, frames, result, settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from privcmdd.model.mm.space import AddressSpace
    from privcmdd.service.session import Residence, Session
    from support.desk import Steps

BLOCK: Final = FEW + 1  # a shorter batch is done at once
N_CLIENTS, N_PAGES, N_GFNS, N_FRAMES = 4, 3, 3, 4
N_THREADS: Final = N_CLIENTS - 1  # of the first space
MOST_FRAMES, MOST_BATCHES = N_PAGES + 1, 2
DOM: Final = 1


class Act(IntEnum):
    """What a step does, as the model numbers it."""

    CONNECT, ASK, GO_ON, CANCEL, DISCONNECT, FAULT, DECREASE, POPULATE, DESTROY, CREATE = range(10)


class Op(IntEnum):
    """What a client asks for."""

    BATCH, LIST, RESERVE, UNMAP, HIDE, SHOW = range(1, 7)


class End(IntEnum):
    """How a step ends."""

    PAUSED, DONE, EINVAL, EDQUOT, EFAULT, ENOMEM = range(6)


@dataclass(frozen=True)
class Step:
    """A step of the model, and the state after it: its variables by name."""

    actor: int
    act: Act
    page: int
    gfn: int
    op: int
    lo: int
    hi: int
    shift: int
    after: Mapping[str, list[int]]


def walk(seed: int, directory: Path, *, n_moves: int, bug: int = 0) -> Iterator[Step]:
    """The steps of a random walk of Spin's simulator, which makes some 400 moves a step.

    Args:
        seed: The same walk for the same seed (and the same Spin).
        directory: Where Spin may leave files.
        n_moves: The simulator's, all in all.
        bug: What to plant in the model; the broker has no such bug.
    """
    sizes = [f"-DCLIENTS={N_CLIENTS}", f"-DPAGES={N_PAGES}", f"-DGFNS={N_GFNS}", f"-DPLANTED={bug}"]
    command = ["spin", "-T", f"-n{seed}", f"-u{n_moves}", "-DREPLAY", *sizes, str(MODEL)]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    said: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        word, *numbers = line.split()
        if word == "step":
            said = {}
        said[word] = numbers
        if word == "end" and "step" in said:  # what comes before the first step made the machine
            after = {name: [int(text) for text in texts] for name, texts in said.items()}
            actor, act, page, gfn, op, lo, hi, shift = after.pop("step")
            yield Step(actor, Act(act), page, gfn, op, lo, hi, shift, after)
    done.check_returncode()


class Replay:
    """A broker, and the clients of the model in it. A context: requests that still run at its end are given up."""

    def __init__(self) -> None:
        limits = settings(frames=MOST_FRAMES * BLOCK, batches=MOST_BATCHES, slice_frames=BLOCK, paranoid=False)
        self.desk = Desk(limits)
        self.admin = self.desk.connect(ROOT)
        self.clients: dict[int, Session] = {}
        self.running: dict[int, Steps] = {}
        self.tickets: dict[int, Ticket] = {}
        self.mfns: dict[int, npt.NDArray[np.uint32]] = {0: np.full(BLOCK, NO_FRAME, dtype=np.uint32)}
        self.create(list(range(1, N_GFNS + 1)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for steps in self.running.values():
            steps.close()

    # Steps

    def do(self, step: Step) -> None:
        """Do what the model did, and expect the same end and the same state."""
        who = step.actor
        match step.act:
            case Act.CONNECT:
                self.connect(who)
            case Act.ASK:
                self.running[who] = self.ask(step)
                self.go_on(step)
            case Act.GO_ON:
                self.go_on(step)
            case Act.CANCEL:
                self.running.pop(who).close()
                self.tickets.pop(who, None)
            case Act.DISCONNECT:
                self.desk.broker.disconnect(self.clients.pop(who))
            case Act.FAULT:
                self.fault(step)
            case Act.DECREASE | Act.POPULATE:
                method = "domain.populate" if step.act is Act.POPULATE else "domain.decrease_reservation"
                done = self.desk.call(self.admin, method, dom=DOM, arr=block(step.gfn))
                assert done["done"] == BLOCK, done["why"]
                if step.act is Act.POPULATE:
                    self.learn(step.after["p2m"], [step.gfn])
            case Act.DESTROY:
                self.desk.call(self.admin, "domain.destroy", dom=DOM)
            case Act.CREATE:
                self.create(step.after["p2m"])
        self.desk.broker.check()
        self.compare(step.after)

    def connect(self, who: int) -> None:
        """Join the threads of its space, or make a space."""
        there = self.residence(who >= N_THREADS)
        self.clients[who] = session = self.desk.connect(USER)
        asked = {"space": there.space.number} if there else {"personality": "uvm"}
        self.desk.call(session, "space.attach", **asked)

    def create(self, p2m: list[int]) -> None:
        """Make the domain, with these of the model's frames."""
        ranges = [{"gfn": 0, "npages": N_GFNS * BLOCK}]
        self.desk.domain(self.admin, max_pages=N_FRAMES * BLOCK, dom=DOM, ranges=ranges)
        self.learn(p2m, range(N_GFNS))

    def ask(self, step: Step) -> Steps:
        """Begin a request."""
        session = self.clients[step.actor]
        where = {"addr": at(step.lo), "len": (step.hi - step.lo + 1) * BLOCK * PAGE}
        match step.op:
            case Op.BATCH:
                names = b"".join(block((page + step.shift) % N_GFNS) for page in range(step.lo, step.hi + 1))
                return self.desk.start(session, "privcmd.mmapbatch_v2", dom=DOM, addr=at(step.lo), arr=names)
            case Op.LIST:
                entry = [
                    {"va": at(first), "mfn": first * BLOCK, "npages": n * BLOCK}
                    for first, n in ((step.lo, 1), (step.lo + 1, step.hi - step.lo))
                ]
                return self.desk.start(session, "privcmd.mmap", dom=DOM, entry=entry)
            case Op.RESERVE:
                return self.desk.start(session, "mmap", **where, prot=3, fixed=True)
            case Op.UNMAP:
                return self.desk.start(session, "munmap", **where)
            case _:
                return self.desk.start(session, "mprotect", **where, prot=0 if step.op == Op.HIDE else 3)

    def go_on(self, step: Step) -> None:
        """A request's next step: it pauses, is refused, or is done, as the model says."""
        (end,) = step.after["outcome"]
        steps = self.running.pop(step.actor)
        self.tickets.pop(step.actor, None)
        try:
            pause = next(steps)
        except StopIteration as stop:
            self.answered(step, End(end), stop.value)
        else:
            assert end == End.PAUSED, f"{pause} instead of {End(end).name}"
            self.running[step.actor] = steps
            if isinstance(pause, Ticket):
                self.tickets[step.actor] = pause

    def answered(self, step: Step, end: End, reply: Any) -> None:
        """The answer is the one that the model gives."""
        try:
            answer = result(reply)
        except Refused as refused:
            # A list says why its first bad frame is bad; to the model, a domain that is gone is no other reason.
            absent = step.op == Op.LIST and refused.name == "ESRCH"
            assert ("EINVAL" if absent else refused.name) == end.name, refused.text
            return
        assert end is End.DONE, answer
        if step.op == Op.BATCH:
            space = int(step.actor >= N_THREADS)
            made = step.after["ent"][space * N_PAGES + step.lo] - 2
            bad = step.after["bad"][space * (N_PAGES + 1) + made]
            assert answer["n_failed"] == bad.bit_count() * BLOCK

    def fault(self, step: Step) -> None:
        """Every page of a block is touched, each with the same end."""
        ends = set()
        for i in range(BLOCK):
            try:
                self.desk.call(self.clients[step.actor], "fault", addr=at(step.page) + i * PAGE, access="read")
                ends.add("DONE")
            except Refused as refused:
                ends.add(refused.name)
        assert ends == {End(step.after["outcome"][0]).name}

    def learn(self, p2m: list[int], gfns: Iterable[int]) -> None:
        """Which machine frames those are that the model has just given to the domain."""
        for gfn in gfns:
            self.mfns[p2m[gfn]] = self.p2m(gfn)

    # Comparison

    def residence(self, number: int) -> Residence | None:
        """The space of the model's that its clients live in, if any does."""
        for who, session in self.clients.items():
            if (who >= N_THREADS) == number:
                return session.residence
        return None

    def p2m(self, gfn: int) -> npt.NDArray[np.uint32]:
        """The frames of a block of guest frames."""
        domain = self.desk.broker.world.machine.domains.get(DOM)
        if domain is None or not domain.alive:
            return self.mfns[0]
        return domain.p2m[gfn * BLOCK : (gfn + 1) * BLOCK].copy()

    def compare(self, model: Mapping[str, list[int]]) -> None:
        """The broker's state is the model's."""
        self.compare_machine(model)
        for number in range(2):
            residence = self.residence(number)
            if residence is not None:
                self.compare_space(part_of(model, number, N_PAGES), number, residence.space)
                self.compare_queue(model, number, residence)
        account = next((session.uid_account for session in self.clients.values()), None)
        if account is not None:
            assert account.used[Slot.FRAMES] == model["used"][0] * BLOCK
            assert account.used[Slot.BATCHES] == model["batches"][0]
        assert [who in self.clients for who in range(N_CLIENTS)] == [at > 0 for at in model["at"]]
        assert len(self.desk.broker.world.spaces) == sum(self.residence(number) is not None for number in range(2))

    def compare_machine(self, model: Mapping[str, list[int]]) -> None:
        """The domain's life, its p2m, and every frame's owner and references."""
        machine = self.desk.broker.world.machine
        domain = machine.domains.get(DOM)
        state = 2 if domain is None else int(not domain.alive)
        assert state == model["domain"][0]
        assert (0 if domain is None else domain.tot_pages) == model["tot_pages"][0] * BLOCK
        for gfn, mfn in enumerate(model["p2m"]):
            assert (self.p2m(gfn) == self.mfns[mfn]).all()
        for mfn, (n_refs, owned) in enumerate(zip(model["refs"], model["owned"], strict=True)):
            if owned:
                assert (machine.frames.refs[self.mfns[mfn]] == n_refs).all(), (mfn, n_refs)
                assert (machine.frames.owner[self.mfns[mfn]] == DOM).all()
        assert int(np.count_nonzero(machine.frames.owner == DOM)) == sum(model["owned"]) * BLOCK

    def compare_space(self, model: Mapping[str, list[int]], number: int, space: AddressSpace) -> None:
        """Entries, objects and their references, page table entries, what is reserved and what is paid for."""
        objects: dict[int, int] = {}
        for page, (ent, pte) in enumerate(zip(model["ent"], model["pte"], strict=True)):
            for i in range(BLOCK):
                address = at(page) + i * PAGE
                entry = space.map.lookup(address)
                assert (entry is None) == (ent == 0), (number, page)
                assert space.pmap.get(address // PAGE) == self.mfns[pte][i], (number, page)
                if entry is None:
                    continue
                assert (entry.protection == 0) == bool(model["hidden"][0])
                assert (entry.file is File.ANON) == (ent == 1)
                if entry.object is None:
                    continue
                made = ent - 2
                assert objects.setdefault(made, entry.object.number) == entry.object.number
                assert entry.object.refs == model["orefs"][made]
                name = int(entry.object.gmfns[entry.offset + address // PAGE - entry.page])
                gfn = (page + model["base"][made]) % N_GFNS
                assert name == (INVALID_FRAME if model["bad"][made] >> page & 1 else gfn * BLOCK + i)
        assert len(set(objects.values())) == len(objects) == space.objects.alive
        assert (space.pending is not None) == bool(model["pending"][0])
        assert space._tally.frames == model["tally"][0] * BLOCK

    def compare_queue(self, model: Mapping[str, list[int]], number: int, residence: Residence) -> None:
        """Who is in the queue, in which order, and who has the turn."""
        queue = list(residence.turnstile._queue)
        expected = [who - 1 for who in model["queue"][number * N_CLIENTS : (number + 1) * N_CLIENTS] if who]
        assert len(queue) == len(expected)
        for ticket, who in zip(queue, expected, strict=True):
            assert ticket.granted == bool(model["granted"][who])
            assert self.tickets.get(who, ticket) is ticket


def at(page: int) -> int:
    """The address of a page of the model."""
    return BASE + page * BLOCK * PAGE


def block(gfn: int) -> bytes:
    """The guest frames that one of the model's stands for."""
    return frames(*range(gfn * BLOCK, (gfn + 1) * BLOCK))


def part_of(model: Mapping[str, list[int]], number: int, n_pages: int) -> dict[str, list[int]]:
    """What the model has of one address space."""
    sizes = {"ent": n_pages, "pte": n_pages, "orefs": n_pages + 1, "base": n_pages + 1, "bad": n_pages + 1}
    sizes |= {"hidden": 1, "pending": 1, "tally": 1}
    return {name: model[name][number * n : (number + 1) * n] for name, n in sizes.items()}
