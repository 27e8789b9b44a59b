# SPDX-License-Identifier: Apache-2.0
"""Who may do what: every method of the table, for every kind of caller."""

from __future__ import annotations

import os
from typing import Any

import pytest

from privcmdd.service.session import Access, Identity
from privcmdd.service.settings import AccessRule, Rights
from privcmdd.wire.methods import METHODS
from support.desk import BASE, OTHER, PAGE, ROOT, USER, Desk, Refused, frames, result, settings

DOM, ELSE = 1, 2  # the domain that roles have a right to, and one that nobody but root has
COPY = ("source_ref", "source_offset", "dest_dom", "dest_ref", "dest_offset")
ROLES: dict[str, Rights | None] = {"none": None, "read": "read", "write": "write", "admin": "admin"}

# Parameters that would succeed, a method; those of domains name DOM.
CALLS: dict[str, dict[str, Any]] = {
    "hello": {},
    "ping": {},
    "health": {},
    "describe": {},
    "stats": {},
    "subscribe": {"topics": ["domain"]},
    "hand_over": {"form": 1},
    "space.attach": {},
    "space.fork": {},
    "space.list": {},
    "mmap": {"len": PAGE, "prot": 3},
    "munmap": {"addr": BASE, "len": PAGE},
    "mprotect": {"addr": BASE, "len": PAGE, "prot": 1},
    "read": {"addr": BASE, "len": 1},
    "write": {"addr": BASE, "data": b"x"},
    "fault": {"addr": BASE},
    "maps": {},
    "privcmd.mmap": {"dom": DOM, "entry": [{"va": BASE, "mfn": 1, "npages": 1}]},
    "privcmd.mmapbatch": {"dom": DOM, "addr": BASE, "arr": frames(1)},
    "privcmd.mmapbatch_v2": {"dom": DOM, "addr": BASE, "arr": frames(1)},
    "privcmd.restrict": {"dom": DOM},
    "privcmd.mmap_resource": {"dom": DOM, "type": 1, "id": 0},
    "privcmd.hypercall": {"op": 17, "arg": bytes(40)},
    "privcmd.dm_op": {"dom": DOM, "bufs": []},
    "privcmd.unknown_ioctl": {"device": "privcmd", "number": 0x5063},
    "gntdev.map": {"dom": DOM, "addr": BASE, "arr": frames(1)},
    "gntdev.copy": {"segments": [{"flags": 1, "len": 0, "source_dom": DOM, **dict.fromkeys(COPY, 0)}]},
    "gntdev.notify": {"addr": BASE, "action": 0},
    "gntalloc.alloc": {"dom": DOM, "num": 1},
    "gntalloc.free": {"refs": [8]},
    "gntalloc.notify": {"ref": 8, "action": 0},
    "gntalloc.map": {"refs": [8], "on": DOM},
    "space.buffers": {},
    "evtchn.alloc_unbound": {"on": DOM, "remote": 0},
    "evtchn.bind_interdomain": {"on": DOM, "dom": DOM, "port": 1},
    "evtchn.bind_virq": {"on": DOM, "virq": 0},
    "evtchn.attach": {"on": DOM, "port": 1},
    "evtchn.close": {"on": DOM, "port": 1},
    "evtchn.notify": {"on": DOM, "port": 1},
    "evtchn.pending": {"on": DOM, "port": 1},
    "evtchn.list": {"on": DOM},
    "evtchn.restrict": {"dom": DOM},
    "ioreq.servers": {"dom": DOM},
    "guest.interrupts": {"dom": DOM},
    "domain.create": {"dom": 7, "kind": "hvm", "max_pages": 1},
    "domain.destroy": {"dom": DOM},
    "domain.list": {},
    "domain.info": {"dom": DOM},
    "domain.memory": {"dom": DOM},
    "domain.populate": {"dom": DOM, "arr": [60]},
    "domain.decrease_reservation": {"dom": DOM, "arr": [1]},
    "domain.page_out": {"dom": DOM, "arr": [1]},
    "domain.page_in": {"dom": DOM, "arr": [1]},
    "faults.add": {"dom": DOM, "errno": "EIO", "method": "domain.info"},
    "faults.list": {},
    "faults.clear": {},
    "findings.list": {},
    "findings.clear": {},
    "job.list": {},
    "evict": {"uid": USER},
}
# Acting for a guest wants the right to write to it.
ACTING = {name for name in CALLS if name.startswith("evtchn.")} - {"evtchn.list", "evtchn.restrict"} | {
    "gntalloc.alloc",
    "gntalloc.map",
}
EVERYWHERE = {"hand_over"}
"""Methods that the right to all domains is needed for: that to one, which the roles here have, is not enough."""
UNRESTRICTED = {"evict"}
"""Methods of no right that a client may not ask for after RESTRICT."""
WRITABLE = {"privcmd.mmap", "privcmd.mmapbatch", "privcmd.mmapbatch_v2"}  # over a range that is writable
NOTHING_MAPPED = {("gntdev.map", "EINVAL"), ("gntdev.notify", "ENOENT")} | {
    (f"gntalloc.{name}", "ENOENT") for name in ("free", "notify", "map")
}
NEEDS = {"any": 0, "map": 1, "admin": 3}
HELD = {"none": 0, "read": 1, "write": 2, "admin": 3}


def built(rights: Rights | None, domains: tuple[int, ...] = (DOM, 7)) -> Desk:
    """A broker where uid ``USER`` has these rights on ``DOM`` (and on the number 7, which nobody has yet)."""
    rules = [AccessRule("admin", uids=(ROOT,))]
    if rights is not None:
        rules.append(AccessRule(rights, uids=(USER,), domains=domains))
    desk = Desk(settings(access=rules))
    root = desk.connect(ROOT)
    for domid in (DOM, ELSE):
        desk.domain(root, max_pages=64, ranges=[{"gfn": 0, "npages": 32}], dom=domid)
        outcome(desk, root, "evtchn.alloc_unbound", {"on": domid, "remote": domid})
    return desk


def outcome(desk: Desk, session: Any, method: str, params: dict[str, Any]) -> str | None:
    """The name of the errno that a call was answered with, or None; descriptors are closed."""
    reply = desk.reply(session, method, **params)
    for fd in reply.fds:
        os.close(fd)
    try:
        result(reply)
    except Refused as refused:
        assert not reply.close, str(reply.incident)
        return refused.name
    return None


def naming(params: dict[str, Any], domid: int) -> dict[str, Any]:
    """The same request about another domain."""
    if "segments" in params:
        return {"segments": [{**row, "source_dom": domid} for row in params["segments"]]}
    return {**params, "on" if "on" in params else "dom": domid}


def test_the_table_is_complete() -> None:
    """A method without a row here would go untested."""
    assert set(CALLS) == set(METHODS)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("method", CALLS)
def test_who_may_call_what(method: str, role: str) -> None:
    """``any`` never is EPERM; ``map`` wants a right to the domain, writable ranges that to write; ``admin`` its own."""
    desk = built(ROLES[role])
    session = desk.connect()
    if method in WRITABLE:
        desk.reserve(session, 1)
    needed = 2 if method in WRITABLE | ACTING else NEEDS[METHODS[method].privilege] + (method in EVERYWHERE)

    got = outcome(desk, session, method, CALLS[method])

    assert (got == "EPERM") == (HELD[role] < needed)
    # Of anonymous memory, or of none; nothing is mapped from gntdev.
    assert got in (None, "EPERM", "EFAULT", "ENOMEM") or (method, got) in NOTHING_MAPPED
    desk.broker.check()


@pytest.mark.parametrize(
    "method", [name for name in CALLS if METHODS[name].privilege != "any" and name not in EVERYWHERE]
)
def test_another_domain_is_eperm_whatever_one_may_do_elsewhere(method: str) -> None:
    """Rights are of a domain; and what one has no right to looks alike whether it exists or not."""
    desk = built("admin")
    session = desk.connect()
    desk.reserve(session, 1)

    for domid in (ELSE, 3):
        assert outcome(desk, session, method, naming(CALLS[method], domid)) == "EPERM"
    desk.broker.check()


@pytest.mark.parametrize("method", CALLS)
def test_a_restricted_connection_may_only_name_its_domain(method: str) -> None:
    """After RESTRICT another domain is EPERM, for all that name one; for the rest nothing changes."""
    desk = built("admin", (DOM, ELSE, 7))
    session = desk.connect()
    desk.reserve(session, 1)
    desk.call(session, "privcmd.restrict", dom=ELSE)

    got = outcome(desk, session, method, CALLS[method])

    if method == "privcmd.restrict":
        assert got == "EINVAL"
    elif method == "privcmd.hypercall":
        assert got == "EPERM"
    else:
        assert (got == "EPERM") == (METHODS[method].privilege != "any" or method in UNRESTRICTED)


@pytest.mark.parametrize("method", sorted(WRITABLE))
@pytest.mark.parametrize("role", ["read", "write"])
def test_a_right_to_read_maps_read_only(method: str, role: str) -> None:
    """What the range allows decides: read-only ranges need no more than the right to read."""
    desk = built(ROLES[role])
    session = desk.connect()
    desk.reserve(session, 1, prot=1)

    assert outcome(desk, session, method, CALLS[method]) is None
    assert outcome(desk, session, "read", {"addr": BASE, "len": 1}) is None
    assert outcome(desk, session, "write", {"addr": BASE, "data": b"x"}) == "EFAULT"


def test_a_writable_descriptor_wants_the_right_to_write() -> None:
    """And the one for readers is opened read-only."""
    for role, write, expected in (("read", True, "EPERM"), ("write", True, None), ("read", False, None)):
        desk = built(ROLES[role])
        assert outcome(desk, desk.connect(), "domain.memory", {"dom": DOM, "write": write}) == expected


def test_a_new_domain_of_any_number_wants_rights_to_all() -> None:
    """With a number named, the right to administer that one is enough."""
    desk = built("admin")
    session = desk.connect()

    assert outcome(desk, session, "domain.create", {"kind": "hvm", "max_pages": 1}) == "EPERM"
    assert outcome(desk, session, "domain.create", {"kind": "hvm", "max_pages": 1, "dom": 7}) is None
    assert outcome(desk, desk.connect(ROOT), "domain.create", {"kind": "hvm", "max_pages": 1}) is None


def test_one_sees_the_domains_one_has_a_right_to() -> None:
    """``domain.list`` leaves the others out; it takes no right to ask."""
    desk = built("read")

    for uid, listed in ((ROOT, [DOM, ELSE]), (USER, [DOM]), (OTHER, [])):
        rows = desk.call(desk.connect(uid), "domain.list")["domains"]
        assert [row["dom"] for row in rows] == listed


def test_rules_add_up() -> None:
    """By uid, by group or supplementary group; for all domains or for some; the most of all that apply."""
    rules = (
        AccessRule("read", uids=(5,)),
        AccessRule("write", gids=(100,), domains=(1, 2)),
        AccessRule("admin", gids=(200,), domains=(2,)),
        AccessRule("read", gids=(100,), domains=(2,)),
    )

    def held(uid: int, gid: int, *groups: int) -> list[str]:
        access = Access(Identity(uid, gid, frozenset(groups)), rules)
        domids = (1, 2, 3, None)
        return ["".join(right[0] for right in ("read", "write", "admin") if access.allows(right, d)) for d in domids]

    assert held(5, 0) == ["r", "r", "r", "r"]
    assert held(6, 0) == ["", "", "", ""]
    assert held(6, 100) == ["rw", "rw", "", ""]
    assert held(6, 0, 100, 200) == ["rw", "rwa", "", ""]
    assert held(5, 200) == ["r", "rwa", "r", "r"]
