# SPDX-License-Identifier: Apache-2.0
"""State that cannot be kept: a full disk, or a broken one, at each commit of each request that changes something."""

from __future__ import annotations

import errno
import os
from typing import Any

import numpy as np
import pytest

from privcmdd.model.machine import pod
from privcmdd.model.units import DOMID_FIRST_RESERVED
from privcmdd.service import records
from sim.scenes import CASES, HVM, PV, Scene
from sim.snapshot import differences, snapshot
from sim.vocabulary import BASE
from support.desk import ROOT, Desk, Refused, frames, result
from support.keeping import MemoryStore, after_crash

RUNS = [(personality, name) for name, case in CASES.items() for personality in case.personalities]
MACHINE = "broker.world.machine"
# Which free frame or unused number comes next is nothing that anybody relies on.
NEXT = (
    f"{MACHINE}.frames._freed",
    f"{MACHINE}.frames._fresh",
    f"{MACHINE}.frames._n_freed",
    f"{MACHINE}.events._last_channel",
)


def state(desk: Desk) -> dict[str, Any]:
    """All that a client can tell, rows of free frames left out."""
    found = snapshot(desk)
    frames = desk.broker.world.machine.frames
    owned = np.flatnonzero(frames.owner < DOMID_FIRST_RESERVED)
    for name in NEXT:
        found.pop(name, None)
    for table in ("owner", "refs", "gfn", "page"):
        found[f"{MACHINE}.frames.{table}"] = (owned.tolist(), getattr(frames, table)[owned].tolist())
    found["free"] = frames.n_free
    return found


def check_kept(desk: Desk, store: MemoryStore) -> None:
    """What is kept is what is."""
    kept = {
        dom: {name: data for name, data in group.items() if name != "broker"} for dom, group in store.records.items()
    }
    assert kept == records.of_world(desk.broker.world)


def begun(personality: str, name: str) -> tuple[Scene, MemoryStore]:
    """The state in which a request is made, with a place to keep it."""
    store = MemoryStore()
    scene = Scene(personality, store=store)
    CASES[name].before(scene)
    return scene, store


def undisturbed(personality: str, name: str) -> tuple[str, Any]:
    """What a request answers when nothing fails."""
    scene, _ = begun(personality, name)
    return scene.attempt(CASES[name])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=["ENOSPC", "EIO"])
@pytest.mark.parametrize(("personality", "name"), RUNS)
def test_c8_each_commit_may_be_refused(personality: str, name: str, number: int) -> None:
    """Promise C8: refused with the errno of the disk, and nothing has changed, in memory or on the disk; or done."""
    case = CASES[name]
    nth = 0
    while True:
        nth += 1
        scene, store = begun(personality, name)
        before, n_before = state(scene.desk), store.n_commits
        store.refused[n_before + nth] = number
        outcome = scene.attempt(case)
        if store.n_commits < n_before + nth:
            break
        assert outcome[0] == errno.errorcode[number], f"commit {nth}: {outcome}"
        scene.desk.broker.check()
        check_kept(scene.desk, store)
        if nth == 1 and not case.partly:
            assert differences(before, state(scene.desk)) == []
        assert scene.attempt(case)[0] != "closed"
        check_kept(scene.desk, store)
    assert outcome == undisturbed(personality, name)
    changes = name.startswith(("create", "destroy", "populate", "decrease", "page ", "resource"))
    assert (nth > 1) == changes


STEPS: dict[str, tuple[str, dict[str, Any]]] = {
    "destroyed while mapped": ("domain.destroy", {"dom": HVM}),
    "destroyed with ports of domain 0 bound to it": ("domain.destroy", {"dom": PV}),
    "a port of a guest": ("evtchn.alloc_unbound", {"on": HVM, "remote": PV}),
    "a port bound to another guest's": ("evtchn.bind_interdomain", {"on": PV, "dom": HVM, "port": 1}),
    "a port closed": ("evtchn.close", {"on": HVM, "port": 1}),
    "a rule": ("faults.add", {"frame_errno": "EINVAL", "keep": True}),
    "a rule cleared": ("faults.clear", {"id": 1}),
    "a frame on demand": ("privcmd.mmapbatch_v2", {"dom": HVM, "addr": BASE, "arr": frames(80)}),
    "a resource": ("privcmd.mmap_resource", {"dom": PV, "type": 1, "id": 0, "num": 2, "addr": BASE}),
}


def do(scene: Scene, method: str, /, **params: Any) -> Any:
    """The answer of a request, its descriptors closed. Raises Refused."""
    reply = scene.desk.reply(scene.actor, method, **params)
    for fd in reply.fds:
        os.close(fd)
    return result(reply)


@pytest.mark.parametrize("name", STEPS)
def test_c8_what_is_taken_back_comes_back_with_its_ports_rules_and_mappings(name: str) -> None:
    """Bound ports stay bound, also to ports of domain 0; mapped frames stay mapped; an answer is never half of one."""
    store = MemoryStore()
    scene = Scene("uvm", store=store)
    method, params = STEPS[name]
    do(scene, "evtchn.alloc_unbound", on=HVM, remote=PV)
    do(scene, "evtchn.alloc_unbound", on=PV, remote=0)
    do(scene, "evtchn.bind_interdomain", dom=PV, port=1)
    scene.call("faults.add", frame_errno="EINVAL", keep=True, nth=1000)
    populate_on_demand(scene)
    before = state(scene.desk)
    store.refused[store.n_commits + 1] = errno.ENOSPC

    with pytest.raises(Refused, match="ENOSPC"):
        do(scene, method, **params)

    scene.desk.broker.check()
    check_kept(scene.desk, store)
    assert differences(before, state(scene.desk)) == []
    do(scene, method, **params)
    check_kept(scene.desk, store)


def populate_on_demand(scene: Scene) -> None:
    """Guest frame 80 of the HVM guest is to be populated when it is looked up."""
    machine = scene.desk.broker.world.machine
    pod.mark_populate_on_demand(machine, HVM, [80])
    pod.set_target(machine, HVM, 65)
    scene.call("ping")


def test_c8_counts_of_rules_are_no_reason_to_refuse() -> None:
    """A rule that meets requests on a full disk: they are answered, and its counts are kept when there is room."""
    store = MemoryStore()
    desk = Desk(store=store)
    root = desk.connect(ROOT)
    desk.call(root, "faults.add", errno="EAGAIN", method="domain.list", nth=4, keep=True)
    for nth in range(1, 4):
        store.refused[store.n_commits + 1] = errno.ENOSPC
        assert desk.call(root, "domain.list") == {"domains": []}, nth
    with pytest.raises(Refused, match="EAGAIN"):
        desk.call(root, "domain.list")

    after = after_crash(desk, store)

    (row,) = after.call(after.connect(ROOT), "faults.list")["faults"]
    assert (row["seen"], row["fired"]) == (4, 1)


def test_c8_a_crash_after_a_refusal_is_as_before_the_request() -> None:
    """What was refused is not there after a restart either, and its memory file is not."""
    store = MemoryStore()
    desk = Desk(store=store)
    root = desk.connect(ROOT)
    desk.domain(root, dom=1)
    store.refused[store.n_commits + 1] = errno.EIO
    with pytest.raises(Refused, match="EIO"):
        desk.domain(root, dom=2)

    assert set(desk.backing.files) == {1}
    after = after_crash(desk, store)
    assert set(after.broker.world.machine.domains) == {1}
    assert desk.domain(root) == 2
