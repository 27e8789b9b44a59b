# SPDX-License-Identifier: Apache-2.0
"""A client that dies at its k-th checkpoint, for every k: all is as before its request, or as after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from sim import faults
from sim.fingerprint import of_broker
from sim.stage import Stage
from support.desk import BASE, PAGE, USER, frames, settings

if TYPE_CHECKING:
    from sim.client import Client

N_PAGES = 48  # more than are done at once
MOST_STEPS = 100
PLACE = {"addr": BASE, "len": N_PAGES * PAGE}
OTHER = BASE + N_PAGES * PAGE
EVERY_OTHER = frames(*(2 * i for i in range(N_PAGES)))
BATCH = {"dom": 1, "addr": BASE, "arr": EVERY_OTHER}
ENTRIES = [{"va": BASE + i * 16 * PAGE, "mfn": 4 * i, "npages": 16} for i in range(3)]
UVM = {"personality": "uvm"}
LINUX = {"personality": "linux"}
SCRATCH = {"personality": "uvm", "probe": "scratch"}
MERGE = {"personality": "uvm", "merge": True}


@dataclass(frozen=True)
class Scene:
    """A request, and what surrounds it.

    Attributes:
        space: How its address space answers.
        before: What the space's other thread has done before.
        waits: That thread holds the turn when the request comes.
        rule: A fault on demand that meets the request.
    """

    method: str
    params: dict[str, Any]
    space: dict[str, Any]
    before: tuple[tuple[str, dict[str, Any]], ...] = ()
    waits: bool = False
    rule: dict[str, Any] | None = None

    def __str__(self) -> str:
        """For the name of a test."""
        extra = [word for word, there in (("in turn", self.waits), ("delayed", self.rule)) if there]
        return " ".join([self.method, *map(str, self.space.values()), *extra])


MAPPED = (("privcmd.mmapbatch_v2", {**BATCH, "arr": frames(*range(N_PAGES))}),)
RESOURCE = {"dom": 1, "type": 1, "id": 0, "idx": 0, "num": 2, "addr": BASE + PAGE}
SCENES = [
    *(Scene("privcmd.mmapbatch", BATCH, space, MAPPED) for space in (UVM, SCRATCH, MERGE)),
    *(Scene("privcmd.mmapbatch_v2", BATCH, space) for space in (UVM, SCRATCH, LINUX)),
    Scene("privcmd.mmapbatch_v2", BATCH, UVM, MAPPED),
    *(Scene("privcmd.mmap", {"dom": 1, "entry": ENTRIES}, space, MAPPED) for space in (UVM, MERGE)),
    Scene("privcmd.mmap", {"dom": 1, "entry": ENTRIES}, LINUX),
    Scene("privcmd.mmapbatch", BATCH, UVM, waits=True),
    Scene("munmap", {"addr": BASE + PAGE, "len": 5 * PAGE}, UVM, waits=True),
    Scene("mprotect", {"addr": BASE + PAGE, "len": 5 * PAGE, "prot": 1}, UVM, waits=True),
    Scene("mmap", {**PLACE, "prot": 1, "fixed": True}, UVM, waits=True),
    Scene("privcmd.mmap_resource", RESOURCE, UVM, waits=True),
    Scene("privcmd.mmapbatch_v2", BATCH, UVM, rule={"delay_ms": 200}),
    Scene("privcmd.mmapbatch_v2", BATCH, UVM, rule={"delay_ms": 200, "when": "after"}),
    Scene("privcmd.mmap_resource", RESOURCE, UVM, rule={"delay_ms": 200}),
    Scene("domain.populate", {"dom": 1, "arr": [60, 61]}, UVM, rule={"delay_ms": 200, "when": "after"}),
]


@dataclass
class Cast:
    """Who is there: the one that dies, another thread of its space, and a client of its own."""

    victim: Client
    thread: Client
    other: Client


def set_up(stage: Stage, scene: Scene) -> Cast:
    """A guest, a space with two threads, and what is mapped before."""
    cast = Cast(*(stage.client(USER) for _ in range(3)))
    stage.ask(cast.other, "domain.create", kind="hvm", max_pages=64, dom=1, ranges=[{"gfn": 0, "npages": 60}])
    stage.ask(cast.other, "domain.decrease_reservation", dom=1, arr=[50, 52])
    space = stage.ask(cast.thread, "space.attach", **scene.space)["space"]
    assert stage.ask(cast.victim, "space.attach", space=space)["space"] == space
    stage.ask(cast.thread, "mmap", **PLACE, prot=3, fixed=True)
    stage.ask(cast.thread, "mmap", addr=OTHER, len=N_PAGES * PAGE, prot=3, fixed=True)
    for method, params in scene.before:
        assert "ret" in stage.ask(cast.thread, method, **params)
    if scene.rule is not None:
        rule = {"connection": cast.victim.session.number, "method": scene.method, **scene.rule, "keep": True}
        assert "id" in stage.ask(cast.other, "faults.add", **rule)
    return cast


def play(scene: Scene, params: dict[str, Any] | None, n_steps: int, how: str) -> tuple[Any, bool]:
    """Let the victim die after so many steps; the state then, and whether it had its answer before."""
    with Stage(settings(slice_frames=6)) as stage:
        cast = set_up(stage, scene)
        if scene.waits:
            stage.say(cast.thread, "privcmd.mmapbatch_v2", dom=1, addr=OTHER, arr=frames(*range(N_PAGES)))
            stage.step(cast.thread)
        answered = params is None
        if params is not None:
            stage.say(cast.victim, scene.method, **params)
            for _ in range(n_steps):
                go_on(stage, cast.victim, cast.thread)
            answered = bool(cast.victim.promised)
        if how == "cancel":
            faults.cancel(stage, cast.victim)
        else:
            faults.hang_up(cast.victim)
        while stage.kernel.tasks and not (cast.victim.task.done and cast.thread.doing is None):
            go_on(stage, cast.victim, cast.thread)
        stage.check()
        state = of_broker(stage.broker, stage.disk)
        cast.thread.read(1 << 30, 0)
        # The others are served as if nothing had been.
        assert stage.ask(cast.other, "ping") == {"instance": "simulated"}
        assert stage.ask(cast.thread, "munmap", **PLACE) == {} or scene.space is LINUX
        return state, answered


def go_on(stage: Stage, *clients: Client) -> None:
    """A step for each that can make one, then time passes."""
    for client in clients:
        if client.task in stage.kernel.ready():
            stage.step(client)
    stage.kernel.now_s += 0.02


def between(scene: Scene) -> list[dict[str, Any]]:
    """Requests that end where this one may stand half done."""
    if scene.method != "privcmd.mmap":
        return []
    shorter = [{**scene.params, "entry": ENTRIES[:n]} for n in (1, 2)]
    if scene.space is not LINUX:
        return shorter
    # There a mapping is used up by the first attempt to fill it, good or bad.
    return [{**scene.params, "entry": [{**ENTRIES[0], "mfn": 5000}]}, *shorter]


@pytest.mark.parametrize("how", ["cancel", "hang-up"])
@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_dying_at_every_checkpoint(scene: Scene, how: str) -> None:
    """Old state or new, never half of it; only MMAP, whose entries are mapped one by one, has states between."""
    before, _ = play(scene, None, 0, how)
    afters = [play(scene, params, MOST_STEPS, how) for params in (*between(scene), scene.params)]
    assert all(answered for _, answered in afters)
    states = [before, *(after for after, _ in afters)]
    assert all(state != before for state in states[1:])

    met = []
    for n_steps in range(MOST_STEPS):
        state, answered = play(scene, scene.params, n_steps, how)
        assert state in (states[-1:] if answered else states)
        met.append(state)
        if answered:
            break
    assert len(met) > 2
    assert before in met or how == "hang-up"  # which is noticed later
    assert states[-1] in met
