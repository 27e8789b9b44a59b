# SPDX-License-Identifier: Apache-2.0
"""A broker in the middle of things, and requests that change each part of its state: what may be made to fail."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from privcmdd.service.settings import AccessRule, Limits, MachineSize, Settings
from support.desk import BASE, OTHER, PAGE, USER, Desk, Refused, frames, result
from support.tool import ARRAY, BUFFERS, MEMORY_OP, Tool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from privcmdd.service.keeping import RecordStore
    from privcmdd.service.session import Session

SETTINGS: Final = Settings(
    limits=Limits(slice_frames=12),
    machine=MachineSize(memory_mib=3, domains=8, gfns_per_domain=1024),
    access=(AccessRule("admin", uids=(USER, OTHER)),),
)
N: Final = 30  # frames of a batch: more than numpy is spared for, and several slices
FREE: Final = BASE + (1 << 30)  # where nothing is mapped
HVM, PV = 1, 2
GRANTS: Final = BASE + (2 << 30)
PERSONALITIES: Final[dict[str, dict[str, Any]]] = {
    "uvm": {"personality": "uvm"},
    "scratch": {"personality": "uvm", "probe": "scratch"},
    "merge": {"personality": "uvm", "merge": True},
    "linux": {"personality": "linux"},
}


class Scene:
    """A broker with two domains, one who acts, and a bystander who has frames of both mapped.

    Attributes:
        actor: Who makes the requests; has ``N`` pages reserved at ``BASE`` and another ``N`` mapped behind them.
        pv: Names of frames of the PV domain.
    """

    def __init__(self, personality: str, settings: Settings = SETTINGS, store: RecordStore | None = None) -> None:
        self.desk = desk = Desk(settings, store=store)
        self.actor, self.bystander = desk.connect(), desk.connect(OTHER)
        for session in (self.actor, self.bystander):
            desk.call(session, "space.attach", **PERSONALITIES[personality])
            desk.call(session, "subscribe", topics=["domain", "space"])
        ranges = [{"gfn": 0, "npages": 64}]
        desk.domain(self.actor, "hvm", 96, dom=HVM, ranges=ranges)
        desk.domain(self.actor, "pv", 96, dom=PV, ranges=ranges)
        info = desk.call(self.actor, "domain.info", dom=PV, start=0, num=64)
        self.pv = list(struct.unpack("<64Q", info["frames"]))
        self.map(self.bystander, BASE, HVM, range(20, 20 + N))
        self.map(self.bystander, BASE + N * PAGE, PV, self.pv[:N])
        desk.reserve(self.actor, N)
        self.map(self.actor, BASE + N * PAGE, HVM, range(10, 10 + N))
        desk.call(self.actor, "domain.page_out", dom=HVM, arr=[60, 61])
        desk.events.clear()

    def map(self, session: Session, addr: int, dom: int, names: Any) -> None:
        """Map frames over a range of their own."""
        names = list(names)
        self.desk.reserve(session, len(names), addr=addr)
        answer = self.desk.call(session, "privcmd.mmapbatch_v2", dom=dom, addr=addr, arr=frames(*names))
        assert answer["n_failed"] == 0

    def call(self, method: str, **params: Any) -> Any:
        """A request of the actor's on the way to where it gets interesting."""
        return self.desk.call(self.actor, method, **params)

    def attempt(self, case: Case) -> tuple[str, Any]:
        """The request of a case: ``done`` and its answer, an errno's name and its text, or ``closed``."""
        reply = self.desk.reply(self.actor, case.method, **case.params)
        for fd in reply.fds:
            os.close(fd)
        if reply.close:
            return "closed", reply.incident
        try:
            return "done", result(reply)
        except Refused as refused:
            return refused.name, refused.text


@dataclass(frozen=True)
class Case:
    """A request that changes something.

    Attributes:
        method: What is asked for.
        params: And how.
        before: What happens first.
        partly: What of it may have been done when it fails, and why that is right; empty: nothing.
        meanwhile: Another good answer, when part of the work is put off until there is memory.
        only: The one personality that has it; empty: all.
    """

    method: str
    params: dict[str, Any]
    before: Callable[[Scene], object] = lambda _scene: None
    partly: str = ""
    meanwhile: Any = None
    only: str = ""

    @property
    def personalities(self) -> Sequence[str]:
        """Those whose answers may differ: of what is asked about domains, all are the same."""
        if self.only or self.method.startswith(("domain.", "space.")) or self.method == "privcmd.hypercall":
            return (self.only or "uvm",)
        return list(PERSONALITIES) if self.method in ("privcmd.mmap", "privcmd.mmapbatch_v2") else ("uvm", "linux")


def batch(method: str, dom: int, names: Any, partly: str = "") -> Case:
    """MMAPBATCH over the reserved range."""
    return Case(method, {"dom": dom, "addr": BASE, "arr": frames(*names), "extents": True}, partly=partly)


def fresh(n_pages: int) -> Callable[[Scene], object]:
    """Begin with a reserved range of another size at ``FREE``, for personality linux a VMA of its own."""
    return lambda scene: scene.desk.reserve(scene.actor, n_pages, addr=FREE)


def grants(scene: Scene) -> None:
    """A grant table with frames 0 to 30 granted in it, and a mapping of gntdev."""
    scene.desk.reserve(scene.actor, 1, addr=GRANTS)
    scene.call("privcmd.mmap_resource", dom=HVM, type=1, id=0, num=1, addr=GRANTS)
    scene.call("write", addr=GRANTS, data=b"".join(struct.pack("<HHI", 1, 0, gfn) for gfn in range(N + 1)))
    scene.call("mmap", addr=FREE, len=N * PAGE, prot=3, fixed=True, file="gntdev")


def reservation(first: int, n: int, dom: int, order: int = 0, flags: int = 0) -> Callable[[Scene], object]:
    """A struct xen_memory_reservation in the hypercall buffers."""

    def before(scene: Scene) -> None:
        tool = Tool(scene.desk, scene.actor)
        tool.put(frames(*range(first, first + (n << order), 1 << order)), ARRAY)
        tool.put(struct.pack("<QQIIHxxxxxx", ARRAY, n, order, flags, dom))

    return before


def hypercall(command: int) -> dict[str, Any]:
    """A memory operation on what lies at ``BUFFERS``."""
    return {"op": MEMORY_OP, "arg": struct.pack("<5Q", command, BUFFERS, 0, 0, 0)}


def balloon(scene: Scene) -> None:
    """Frames that both have mapped are taken from the domain; the actor's mapping holds some of them alone."""
    scene.call("domain.decrease_reservation", dom=HVM, arr=frames(*range(10, 40)))


def buffers(scene: Scene) -> None:
    """Hypercall buffers with something in them."""
    tool = Tool(scene.desk, scene.actor)
    tool.put(b"arguments" * 100)


MADE: Final = "what is made when it is first asked for stays, though it was in vain"
PREFIX: Final = "entries before the one that failed stay mapped, as MMAP's do"
FAULTED: Final = "pages that were faulted in stay in, as after EFAULT"
POPULATED: Final = "a look-up populates frames on demand, whatever becomes of the mapping"
HALF: Final = "a hypercall that fails in the middle leaves what it has done, as Xen's do"

MAPPED: Final = BASE + N * PAGE
ROWS: Final = [{"va": BASE, "mfn": 3, "npages": 12}, {"va": BASE + 12 * PAGE, "mfn": 30, "npages": 18}]

CASES: Final[dict[str, Case]] = {
    "batch v1": batch("privcmd.mmapbatch", HVM, range(N)),
    "batch v2": batch("privcmd.mmapbatch_v2", HVM, range(N)),
    "batch v2, some fail": batch("privcmd.mmapbatch_v2", HVM, range(40, 40 + N)),
    "batch v2, one": Case(
        "privcmd.mmapbatch_v2", {"dom": HVM, "addr": FREE, "arr": [5], "extents": True}, before=fresh(1)
    ),
    "batch v1, few fail": Case("privcmd.mmapbatch", {"dom": HVM, "addr": FREE, "arr": [5, 60, 999]}, before=fresh(3)),
    "batch v2 of io": batch("privcmd.mmapbatch_v2", 0x7FF1, range(N), partly=MADE),
    "munmap": Case("munmap", {"addr": MAPPED, "len": N * PAGE}),
    "munmap, last references": Case("munmap", {"addr": MAPPED, "len": N * PAGE}, before=balloon),
    "mmap over": Case("mmap", {"addr": MAPPED, "len": N * PAGE, "prot": 3, "fixed": True}),
    "mmap over, last references": Case(
        "mmap", {"addr": MAPPED, "len": N * PAGE, "prot": 3, "fixed": True}, before=balloon
    ),
    "mmap anywhere": Case("mmap", {"len": N * PAGE, "prot": 3}),
    "mprotect": Case("mprotect", {"addr": MAPPED, "len": N * PAGE, "prot": 1}),
    "mprotect to nothing": Case("mprotect", {"addr": MAPPED, "len": N * PAGE, "prot": 0}, before=balloon),
    "mmap": Case("privcmd.mmap", {"dom": HVM, "entry": ROWS, "extents": True}, partly=PREFIX),
    "mmap, runs of two protections": Case(
        "privcmd.mmap",
        {"dom": HVM, "entry": [*ROWS, {"va": FREE, "mfn": 1, "npages": 28}], "extents": True},
        before=lambda scene: (
            scene.desk.reserve(scene.actor, 28, addr=FREE),
            scene.call("mprotect", addr=BASE, len=12 * PAGE, prot=1),
        ),
        partly=PREFIX,
        only="merge",
    ),
    "mmap, a bad entry behind good ones": Case(
        "privcmd.mmap",
        {"dom": HVM, "entry": [*ROWS, {"va": FREE, "mfn": 1, "npages": 28}], "extents": True},
        partly=PREFIX,
        only="merge",
    ),
    "resource": Case(
        "privcmd.mmap_resource",
        {"dom": HVM, "type": 1, "id": 0, "num": N, "addr": BASE, "extents": True},
        partly=MADE,
    ),
    "fork": Case("space.fork", {}, before=buffers),
    "buffers": Case("space.buffers", {}),
    "buffers, mapped": Case("mmap", {"addr": BUFFERS, "len": 16 * PAGE, "prot": 3, "fixed": True, "file": "hypercall"}),
    "buffers, unmapped": Case("munmap", {"addr": BUFFERS, "len": 8 * PAGE}, before=buffers),
    "buffers, protected": Case("mprotect", {"addr": BUFFERS, "len": 8 * PAGE, "prot": 1}, before=buffers),
    "write": Case("write", {"addr": MAPPED + 5, "data": b"x" * (9 * PAGE)}),
    "read": Case("read", {"addr": MAPPED + 5, "len": 9 * PAGE}),
    "create hvm": Case("domain.create", {"kind": "hvm", "max_pages": 64, "name": "new"}),
    "create pv": Case("domain.create", {"kind": "pv", "max_pages": 64, "ranges": [{"gfn": 8, "npages": 40}]}),
    "destroy, held": Case("domain.destroy", {"dom": HVM}),
    "destroy, not held": Case(
        "domain.destroy",
        {"dom": 3},
        before=lambda scene: scene.desk.domain(scene.actor, dom=3, max_pages=40),
        meanwhile={"state": "dying"},
    ),
    "populate hvm": Case("domain.populate", {"dom": HVM, "arr": frames(*range(64, 64 + N))}),
    "populate pv": Case("domain.populate", {"dom": PV, "arr": frames(*range(64, 64 + N))}),
    "populate what is held still": Case("domain.populate", {"dom": HVM, "arr": frames(*range(10, 40))}, before=balloon),
    "decrease hvm": Case("domain.decrease_reservation", {"dom": HVM, "arr": frames(*range(40, 62))}),
    "page out": Case("domain.page_out", {"dom": HVM, "arr": frames(*range(50, 60))}),
    "page in": Case("domain.page_in", {"dom": HVM, "arr": frames(60, 61)}),
    "memory": Case("domain.memory", {"dom": HVM, "write": True}),
    "grants": Case(
        "gntdev.map",
        {"dom": HVM, "addr": FREE, "arr": frames(*range(1, N)), "extents": True},
        before=grants,
        only="linux",
    ),
    "restrict": Case("privcmd.restrict", {"dom": HVM, "file": 3}),
    "populate by hypercall": Case("privcmd.hypercall", hypercall(6), before=reservation(64, N, PV), partly=HALF),
    "populate extents": Case("privcmd.hypercall", hypercall(6), before=reservation(64, 3, PV, order=3), partly=HALF),
    "populate on demand": Case("privcmd.hypercall", hypercall(6), before=reservation(64, N, HVM, flags=1 << 16)),
    "decrease by hypercall": Case("privcmd.hypercall", hypercall(1), before=reservation(40, 20, HVM), partly=HALF),
}
