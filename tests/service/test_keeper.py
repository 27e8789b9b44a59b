# SPDX-License-Identifier: Apache-2.0
"""What outlives a broker: after a crash all domains are as after their clients have hung up, and nothing else is."""

from __future__ import annotations

import contextlib
import os
from copy import deepcopy
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from privcmdd.model import invariants
from privcmdd.model.errors import ModelError
from privcmdd.model.machine import foreign, log_dirty, memory, p2m, paging, pod, resources
from privcmdd.model.machine.changes import PART_GFNS
from privcmdd.service import records
from privcmdd.service.keeping import StateError
from privcmdd.service.packing import pack, unpack
from privcmdd.service.settings import MachineSize
from sim.plan import plan
from sim.snapshot import differences
from sim.vocabulary import Vocabulary
from support.desk import BASE, PAGE, ROOT, SMALL, USER, Desk, Refused, frames
from support.keeping import MemoryStore, after_crash, image

if TYPE_CHECKING:
    from collections.abc import Callable

    from privcmdd.model.machine.machine import Machine
    from privcmdd.service.session import Session

SEEDS = range(60)
N_ASKS = 120


def content(desk: Desk) -> dict[tuple[int, int], bytes]:
    """The bytes of all frames, by domain and page; frames of zeros left out, and the bits of grants in use."""
    machine, found = desk.broker.world.machine, {}
    for domid, domain in machine.domains.items():
        tables = set(
            machine.frames.page[np.array(domain.grants.shared + domain.grants.status, dtype=np.uint32)].tolist()
        )
        unheld = set(domain.file.unheld(np.array(sorted(desk.backing.files[domid]), dtype=np.uint32)).tolist())
        for page, data in desk.backing.files[domid].items():
            if page not in unheld and page not in tables and any(data):
                found[domid, page] = bytes(data)
    return found


def check_kept(desk: Desk, store: MemoryStore) -> None:
    """What is kept is what is."""
    kept = {
        dom: {name: data for name, data in group.items() if name != "broker"} for dom, group in store.records.items()
    }
    there = records.of_world(desk.broker.world)
    for name in ("machine", "rules"):
        if name not in kept[0]:  # nothing of the kind was ever there
            there[0].pop(name, None)
    assert kept == there
    assert len(there) == 1 or "machine" in kept[0]


@pytest.mark.parametrize("seed", SEEDS)
def test_c8_a_crash_is_as_if_all_clients_hung_up(seed: int) -> None:
    """Promise C8, over random requests: what is kept is what is, at each answer, and a crash loses nothing of it."""
    chosen = plan(seed, N_ASKS)
    rng = Random(f"keeper {seed}")
    store = MemoryStore()
    desk = Desk(chosen.settings, store=store)
    words = Vocabulary(rng, {m: w for m, w in chosen.methods.items() if m != "drop"}, chosen.settings.host.xen)
    sessions: list[Session] = []
    for _ in range(N_ASKS):
        if len(sessions) < 3:
            with contextlib.suppress(ModelError):  # a quota is used up
                sessions.append(desk.connect(rng.choice(chosen.uids)))
        if not sessions:
            continue
        session = rng.choice(sessions)
        for ask in words.ask(chosen.nonsense):
            reply = desk.reply_of(session, ask.method, ask.params)
            for fd in reply.fds:
                os.close(fd)
            check_kept(desk, store)
            if reply.close:
                sessions.remove(session)
                desk.broker.disconnect(session)
                break
            if (said := desk.said(reply)) is not None:
                words.learn(ask.method, ask.params, said)
        if rng.random() < 0.05:
            desk = crashed(desk, store, chosen.settings)
            sessions.clear()


def crashed(desk: Desk, store: MemoryStore, chosen: Any) -> Desk:
    """The next broker; it is as the last one would be without clients, and its laws hold."""
    after = after_crash(desk, store, chosen)
    for session in list(desk.broker.world.sessions.values()):
        desk.broker.disconnect(session)
    assert differences(image(desk), image(after)) == []
    assert content(after) == content(desk)
    invariants.check(after.broker.world.machine, [], {})
    check_kept(after, store)
    return after


@pytest.fixture
def store() -> MemoryStore:
    """Where state is kept."""
    return MemoryStore()


@pytest.mark.parametrize("joined", [True, False], ids=["joined again", "nobody comes"])
def test_c7_a_job_outlives_its_broker_if_it_is_joined_again(store: MemoryStore, *, joined: bool) -> None:
    """Its domains wait half a minute for its clients; those that were made in no job wait for nobody."""
    desk = Desk(store=store)
    session = desk.connect()
    desk.call(session, "hello", job="ci", client="one")
    ours, loose = desk.domain(session), desk.domain(desk.connect())

    after = after_crash(desk, store)

    (job,) = desk.call(desk.connect(ROOT), "job.list")["jobs"]
    root = after.connect(ROOT)
    assert after.call(root, "job.list")["jobs"] == [{**job, "connections": 0, "requests": 0}]
    after.now_s += 29
    assert after.call(root, "domain.info", dom=ours)["lease"]["job"] == "ci"
    if joined:
        session = after.connect()
        after.call(session, "hello", job="ci")
    after.now_s += 2
    there = [row["dom"] for row in after.call(root, "domain.list")["domains"]]
    assert there == ([ours, loose] if joined else [loose])
    assert len(after.call(root, "job.list")["jobs"]) == joined
    if joined:
        after.broker.disconnect(session)
        assert [row["dom"] for row in after.call(root, "domain.list")["domains"]] == [loose]


def test_c7_memory_and_the_map_of_a_domain_outlive_its_broker(store: MemoryStore) -> None:
    """Kind, reservation, physmap with its holes and content are there again, under another epoch of one lineage."""
    desk = Desk(store=store)
    root = desk.connect(ROOT)
    first = desk.call(root, "hello")
    desk.domain(root, "pvh", 40, dom=3, ranges=[{"gfn": 2, "npages": 8}, {"gfn": 20, "npages": 4}], name="guest")
    desk.reserve(root, 1)
    desk.call(root, "privcmd.mmapbatch_v2", dom=3, addr=BASE, arr=frames(21))
    desk.call(root, "write", addr=BASE, data=b"remember")
    about = desk.call(root, "domain.info", dom=3, start=0, num=40)

    after = after_crash(desk, store)

    root = after.connect(ROOT)
    second = after.call(root, "hello")
    assert (second["lineage"], second["epoch"], second["lasting"]) == (first["lineage"], first["epoch"] + 1, True)
    assert after.call(root, "domain.info", dom=3, start=0, num=40) == about
    assert after.call(root, "maps")["entries"] == []
    after.reserve(root, 1)
    assert after.call(root, "privcmd.mmapbatch_v2", dom=3, addr=BASE, arr=frames(21))["n_failed"] == 0
    assert after.call(root, "read", addr=BASE, len=8)["data"] == b"remember"


def test_without_a_place_for_state_guests_end_with_the_broker() -> None:
    """The line of such a broker is its own: a client can tell that its guests will not come back."""
    desk = Desk()

    said = desk.call(desk.connect(), "hello")

    assert (said["lineage"], said["epoch"], said["lasting"]) == (said["instance"], 1, False)
    assert desk.broker.world.machine.changes is None


def test_a_change_of_one_frame_writes_one_part_anew(store: MemoryStore) -> None:
    """Records of other parts of a large domain are left alone."""
    wide = MachineSize(memory_mib=256, gfns_per_domain=4 * PART_GFNS)
    desk = Desk(settings_of(wide), store=store)
    root = desk.connect(ROOT)
    ranges = [{"gfn": part * PART_GFNS, "npages": PART_GFNS} for part in range(3)]
    desk.domain(root, max_pages=3 * PART_GFNS, dom=1, ranges=ranges)
    before = dict(store.records[1])
    written = store.n_bytes

    desk.call(root, "domain.decrease_reservation", dom=1, arr=frames(PART_GFNS + 5))

    after = store.records[1]
    assert {name for name in after if after[name] != before[name]} == {"part/1"}
    assert store.n_bytes - written < 2048
    crashed(desk, store, settings_of(wide))


LOW, HIGH = 7, 2 * PART_GFNS + 5  # guest frames of different parts
OPERATIONS: dict[str, Callable[[Machine], object]] = {
    "populate": lambda machine: memory.populate(machine, 1, [HIGH + 1]),
    "decrease": lambda machine: memory.decrease_reservation(machine, 1, [LOW, HIGH]),
    "move up": lambda machine: p2m.move(machine, 1, LOW, HIGH),
    "move down": lambda machine: p2m.move(machine, 1, HIGH, LOW),
    "remove": lambda machine: p2m.remove(machine, 1, HIGH),
    "read-only for the guest": lambda machine: p2m.set_mem_type(machine, 1, p2m.MEM_READ_ONLY, HIGH, 2),
    "emulated": lambda machine: p2m.set_mem_type(machine, 1, p2m.MEM_MMIO, HIGH, 1),
    "page out": lambda machine: paging.page_out(machine, 1, [LOW, HIGH]),
    "page in": lambda machine: paging.page_in(machine, 1, [HIGH]),
    "on demand": lambda machine: pod.mark_populate_on_demand(machine, 1, [HIGH + 9]),
    "memory for it": lambda machine: pod.set_target(machine, 1, PART_GFNS),
    "demanded": lambda machine: foreign.look(machine, 1, [HIGH + 9]),
    "not demanded any more": lambda machine: memory.decrease_reservation(machine, 1, [HIGH + 9]),
    "log of writes": lambda machine: log_dirty.switch(machine, 1, on=True),
    "written": lambda machine: log_dirty.mark(machine, 1, HIGH, 2),
    "log cleaned": lambda machine: log_dirty.take(machine, 1, HIGH + 1, clean=True),
    "no log of writes": lambda machine: log_dirty.switch(machine, 1, on=False),
    "shared info": lambda machine: resources.add_to_physmap(machine, 1, 0, 0, HIGH + 3),
    "grant table": lambda machine: resources.add_to_physmap(machine, 1, 1, 0, HIGH + 4),
    "grant table elsewhere": lambda machine: resources.add_to_physmap(machine, 1, 1, 0, LOW + 4),
}
BEFORE: dict[str, list[str]] = {
    "page in": ["page out"],
    "memory for it": ["on demand"],
    "demanded": ["on demand", "memory for it"],
    "not demanded any more": ["on demand"],
    "written": ["log of writes"],
    "log cleaned": ["log of writes", "written"],
    "no log of writes": ["log of writes", "written"],
    "grant table elsewhere": ["grant table"],
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_change_in_each_part_is_kept(store: MemoryStore, name: str) -> None:
    """Whatever changes a table of guest frames, in whichever part of it: what is kept is what is."""
    wide = settings_of(MachineSize(memory_mib=256, gfns_per_domain=4 * PART_GFNS))
    desk = Desk(wide, store=store)
    ranges = [{"gfn": 0, "npages": 16}, {"gfn": HIGH - 3, "npages": 4}, {"gfn": HIGH + 2, "npages": 1}]
    desk.domain(desk.connect(ROOT), max_pages=PART_GFNS, dom=1, ranges=ranges)
    machine = desk.broker.world.machine
    for step in BEFORE.get(name, []):
        OPERATIONS[step](machine)
    desk.broker.world.keep()
    check_kept(desk, store)
    before = deepcopy(store.records)

    if name == "read-only for the guest":
        memory.populate(machine, 1, [HIGH + 1])
    OPERATIONS[name](machine)
    desk.broker.world.keep()

    check_kept(desk, store)
    assert store.records != before
    crashed(desk, store, wide)


def settings_of(size: MachineSize) -> Any:
    """Settings with another machine."""
    return replace(SMALL, machine=size, paranoid=False)


def test_rules_that_stay_outlive_the_broker_with_their_counts(store: MemoryStore) -> None:
    """A rule goes on counting where it was; one of a connection, and one about a connection, has ended."""
    desk = Desk(store=store)
    root = desk.connect(ROOT)
    desk.domain(root, dom=1)
    desk.reserve(root, 4)
    batch = {"dom": 1, "addr": BASE, "arr": frames(1, 2)}
    third = desk.call(root, "faults.add", frame_errno="EINVAL", nth=3, times=1, keep=True)["id"]
    paged = desk.call(root, "faults.add", paged=2, gfns=[{"gfn": 9, "npages": 1}], keep=True)["id"]
    desk.call(root, "faults.add", frame_errno="EINVAL")
    desk.call(root, "faults.add", frame_errno="EINVAL", connection=1, keep=True)
    cleared = desk.call(root, "faults.add", frame_errno="EINVAL", keep=True)["id"]
    desk.call(root, "faults.clear", id=cleared)
    desk.call(root, "faults.clear", id=3)
    desk.call(root, "faults.clear", id=4)
    assert desk.call(root, "privcmd.mmapbatch_v2", **batch)["n_failed"] == 0
    for _ in range(2):
        assert desk.call(root, "privcmd.mmapbatch_v2", **{**batch, "arr": frames(9)})["n_failed"] == 1
    desk.call(root, "faults.add", frame_errno="EINVAL", nth=999)
    desk.call(root, "faults.add", frame_errno="EINVAL", connection=1, nth=999, keep=True)

    after = after_crash(desk, store)
    root = after.connect(ROOT)
    after.reserve(root, 4)

    listed = after.call(root, "faults.list")["faults"]
    assert [(row["id"], row["seen"], row["fired"]) for row in listed] == [(third, 4, 1), (paged, 1, 1)]
    errors = after.call(root, "privcmd.mmapbatch_v2", **{**batch, "arr": frames(9)})
    assert errors["n_failed"] == 1
    assert after.call(root, "privcmd.mmapbatch_v2", **{**batch, "arr": frames(9)})["n_failed"] == 0
    assert after.call(root, "faults.add", frame_errno="EINVAL", keep=True)["id"] == 8


def test_an_event_that_was_sent_before_a_restart_is_not_missed(store: MemoryStore) -> None:
    """Channels of guests have new events: each end finds its event raised when it first looks, once."""
    desk = Desk(store=store)
    root = desk.connect(ROOT)
    for dom in (1, 2):
        desk.domain(root, dom=dom)
    took(desk, root, "evtchn.alloc_unbound", on=1, remote=2)
    took(desk, root, "evtchn.bind_interdomain", on=2, dom=1, port=1)
    for dom in (1, 2):
        desk.call(root, "evtchn.pending", on=dom, port=1)
    desk.call(root, "evtchn.notify", on=1, port=1)

    after = after_crash(desk, store)
    root = after.connect(ROOT)
    took(after, root, "evtchn.attach", on=2, port=1)
    took(after, root, "evtchn.attach", on=1, port=1)

    for dom in (1, 2):
        assert after.call(root, "evtchn.pending", on=dom, port=1) == {"pending": True}
    took(after, root, "evtchn.attach", on=2, port=1)
    assert after.call(root, "evtchn.pending", on=2, port=1) == {"pending": False}
    after.call(root, "evtchn.notify", on=1, port=1)
    assert after.call(root, "evtchn.pending", on=2, port=1) == {"pending": True}


def took(desk: Desk, session: Session, method: str, **params: Any) -> None:
    """A request whose answer brings descriptors."""
    reply = desk.reply(session, method, **params)
    for fd in reply.fds:
        os.close(fd)
    assert desk.said(reply) is not None


def test_a_domain_that_is_destroyed_does_not_come_back(store: MemoryStore) -> None:
    """Neither one that is gone nor one that was dying because a client mapped it; their files go too."""
    desk = Desk(store=store)
    root, holder = desk.connect(ROOT), desk.connect(USER)
    for dom in (1, 2, 3):
        desk.domain(root, dom=dom)
    desk.reserve(holder, 1)
    desk.call(holder, "privcmd.mmapbatch_v2", dom=2, addr=BASE, arr=frames(5))
    assert [desk.call(root, "domain.destroy", dom=dom)["state"] for dom in (1, 2)] == ["gone", "dying"]

    after = after_crash(desk, store)

    assert set(after.broker.world.machine.domains) == {3}
    assert set(after.backing.files) == {3}
    assert set(store.records) == {0, 3}


def test_numbers_are_not_given_twice(store: MemoryStore) -> None:
    """After a restart the next domain has the next number, and a generation that no other one ever had."""
    desk = Desk(store=store)
    root = desk.connect(ROOT)
    first = desk.domain(root)
    desk.call(root, "domain.destroy", dom=first)

    after = after_crash(desk, store)
    root = after.connect(ROOT)
    second = after.domain(root)

    assert second == first + 1
    assert after.call(root, "domain.info", dom=second)["generation"] == 2


def test_a_page_that_no_frame_has_is_empty_after_a_restart(store: MemoryStore) -> None:
    """A crash between the record and the host's page: what the page held never shows up in a new frame."""
    desk = Desk(store=store)
    root = desk.connect(ROOT)
    desk.domain(root, dom=1)
    desk.backing.write(1, 7, 0, b"secret")
    kept_page = desk.backing.files[1][7]
    desk.call(root, "domain.decrease_reservation", dom=1, arr=frames(7))
    desk.backing.files[1][7] = kept_page

    after = after_crash(desk, store)

    assert 7 not in after.backing.files[1]


def test_no_grant_is_in_use_after_a_restart(store: MemoryStore) -> None:
    """Whatever mapped it has ended with the broker, so the guest may end the grant."""
    desk = Desk(store=store)
    table = entered(desk)
    desk.domain(table, dom=1)
    map_table(desk, table)
    permit = (1).to_bytes(2, "little") + (0).to_bytes(2, "little") + (9).to_bytes(4, "little")
    desk.call(table, "write", addr=BASE + 8 * 8, data=permit)
    desk.call(table, "mmap", addr=BASE + PAGE, len=PAGE, prot=3, fixed=True, file="gntdev")
    desk.call(table, "gntdev.map", dom=1, addr=BASE + PAGE, arr=frames(8))
    in_use = desk.call(table, "read", addr=BASE + 8 * 8, len=1)["data"]

    after = after_crash(desk, store)
    table = entered(after)
    map_table(after, table)

    assert in_use[0] & 0x18
    assert after.call(table, "read", addr=BASE + 8 * 8, len=8)["data"] == permit


def entered(desk: Desk) -> Session:
    """A client with an address space of Linux'."""
    session = desk.connect(ROOT)
    desk.call(session, "space.attach", personality="linux")
    return session


def map_table(desk: Desk, session: Session) -> None:
    """Map the grant table of domain 1."""
    desk.reserve(session, 1)
    desk.call(session, "privcmd.mmap_resource", dom=1, type=1, id=0, num=1, addr=BASE)


def test_a_domain_whose_memory_is_lost_is_not_made_up(store: MemoryStore) -> None:
    """Records without a file, as after a reboot that emptied a tmpfs: the domain is said to be lost, for good."""
    desk = Desk(store=store)
    root = desk.connect(ROOT)
    for dom in (1, 2):
        desk.domain(root, dom=dom)
    del desk.backing.files[1]

    after = after_crash(desk, store)

    assert after.lost == [1]
    assert set(after.broker.world.machine.domains) == {2}
    assert after_crash(after, store).lost == []


DAMAGE: dict[str, Callable[[MemoryStore], None]] = {
    "form 99, this version knows forms up to": lambda store: store.records[0].update(
        broker=pack({"form": 99, "lineage": "x", "epoch": 1})
    ),
    "records are damaged: bytes that cannot be read": lambda store: store.records[1].update(domain=b"\xc1"),
    "records are damaged: a value of Unheard": lambda store: store.records[1].update(ports=pack_as("Unheard")),
    "records are damaged: the record of a domain of a later version": lambda store: store.records[1].update(
        domain=pack({**unpack(store.records[1]["domain"]), "colour": 1})
    ),
    "a frame of domain 2 belongs to another domain": lambda store: store.records[2].update(
        {"part/0": store.records[1]["part/0"]}
    ),
}


def pack_as(name: str) -> bytes:
    """Bytes of a class that nobody knows."""
    return pack({"x": 1}).replace(b"\xa4dict", b"\xa7" + name.encode())


@pytest.mark.parametrize("text", DAMAGE)
def test_records_that_cannot_be_right_are_refused_and_say_why(store: MemoryStore, text: str) -> None:
    """A broker does not begin with half of a state."""
    desk = Desk(store=store)
    root = desk.connect(ROOT)
    for dom in (1, 2):
        desk.domain(root, dom=dom)
    DAMAGE[text](store)

    with pytest.raises(StateError, match=text):
        after_crash(desk, store)


def test_a_machine_of_another_size_is_refused(store: MemoryStore) -> None:
    """Frames and memory files would not fit; the text names the key."""
    desk = Desk(store=store)
    desk.domain(desk.connect(ROOT))

    with pytest.raises(StateError, match=r"made with 4096 pages by machine.gfns_per_domain, and there are 8192 now"):
        after_crash(desk, store, settings_of(MachineSize(memory_mib=8, domains=8, gfns_per_domain=8192)))


def test_reading_changes_nothing_that_is_kept(store: MemoryStore) -> None:
    """Requests that look at a domain, and mappings of it, write nothing."""
    desk = Desk(store=store)
    root = desk.connect(ROOT)
    desk.domain(root, dom=1)
    desk.reserve(root, 4)
    n_commits = store.n_commits

    desk.call(root, "domain.info", dom=1, start=0, num=8)
    desk.call(root, "privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=frames(1, 2, 3, 99))
    with pytest.raises(Refused):
        desk.call(root, "domain.info", dom=9)
    desk.call(root, "munmap", addr=BASE, len=4 * PAGE)

    assert store.n_commits == n_commits
