# SPDX-License-Identifier: Apache-2.0
"""Requests of clients who get into each other's way: few frames, few pages, batches of several slices.

The domains are 1 (hvm), 2 (pv) and 3 (pvh), each of 40 frames; every address space begins with the same range.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from history.record import Setting
from history.world import numbers
from support.desk import BASE, PAGE, frames

if TYPE_CHECKING:
    from collections.abc import Callable

    Pick = Callable[[int], int]  # one of so many

N_PAGES: Final = 40
N_FRAMES: Final = 256 + 180
MAX_GFNS: Final = 4096
KINDS: Final = {1: "hvm", 2: "pv", 3: "pvh"}
SETTING: Final = Setting(n_frames=2048, max_gfns=MAX_GFNS, max_domains=8, slice_frames=8)


class Workload:
    """Asks; remembers what the names of a PV domain's frames are."""

    def __init__(self) -> None:
        self.mfns: list[int] = []

    def setup(self) -> list[tuple[str, dict[str, Any]]]:
        """What the first client asks before all others."""
        made = [self.create(domid) for domid in KINDS]
        return [*made, ("domain.info", {"dom": 2, "num": N_PAGES})]

    def create(self, domid: int) -> tuple[str, dict[str, Any]]:
        params = {"dom": domid, "kind": KINDS[domid], "max_pages": 48, "ranges": [{"gfn": 0, "npages": 40}]}
        return "domain.create", params

    def greet(self, n: int) -> list[tuple[str, dict[str, Any]]]:
        """What each client asks first."""
        personality = ("uvm", "linux", "uvm")[n % 3]
        asked = {"personality": personality, "probe": ("load", "scratch")[n % 2], "merge": n % 4 > 1}
        place = {"addr": BASE, "len": N_PAGES * PAGE, "prot": 3, "fixed": True}
        return [("space.attach", asked), ("mmap", place)]

    def heard(self, method: str, params: dict[str, Any], result: Any) -> None:
        """An answer has come."""
        if params.get("dom") == 2 and method in ("domain.info", "domain.populate"):
            self.mfns = sorted({*self.mfns, *numbers(result.get("frames"), "Q")} - {2**64 - 1})

    def gmfns(self, domid: int, first: int, n: int, stride: int) -> list[int]:
        """Frames of a domain, some of which are not there."""
        wanted = [first + stride * i for i in range(n)]
        if domid != 2 or not self.mfns:
            return wanted if domid != 2 else [2**40 - 1]
        return [self.mfns[name % len(self.mfns)] for name in wanted]

    def request(self, pick: Pick) -> tuple[str, dict[str, Any]]:
        """Any request."""
        domid = (1, 1, 1, 2, 2, 3, 9)[pick(7)]
        at, n = pick(N_PAGES), (1, 2, 5, 26, 30, N_PAGES, N_PAGES)[pick(7)]
        what = pick(26)
        if what < 9:
            at = 0 if n == N_PAGES or not pick(4) else min(at, N_PAGES - n)
            arr = frames(*self.gmfns(domid, pick(16), n, pick(3)))
            batch = {"dom": domid, "addr": BASE + at * PAGE, "arr": arr, "extents": pick(2) == 0}
            return ("privcmd.mmapbatch", "privcmd.mmapbatch_v2")[pick(2)], batch
        if what < 11:
            return "privcmd.mmap", {"dom": domid, "entry": self.entries(domid, pick), "extents": pick(2) == 0}
        place = {"addr": BASE + at * PAGE, "len": min(n, N_PAGES - at) * PAGE}
        if what < 14:
            method = ("munmap", "mprotect", "mmap")[pick(3)]
            if method == "munmap":
                return method, place
            if method == "mprotect":
                return method, {**place, "prot": (3, 1, 0, 5)[pick(4)]}
            place = {"addr": BASE, "len": N_PAGES * PAGE}
            return method, {**place, "prot": (3, 3, 3, 1)[pick(4)], "fixed": pick(6) > 0}
        if what < 18:
            addr, size = place["addr"] + pick(5), 1 + pick(2 * PAGE)
            if pick(3) == 0:
                return "fault", {"addr": addr, "access": ("read", "write")[pick(2)]}
            if pick(2) == 0:
                return "read", {"addr": addr, "len": size}
            return "write", {"addr": addr, "data": bytes([pick(256)]) * (1 + size // 64)}
        if what < 23:
            method = ("populate", "decrease_reservation", "page_out", "page_in", "page_in")[what - 18]
            n = (1, 2, 5, 26)[pick(4)]
            asked = list(range(pick(40), 48)) if method == "populate" else self.gmfns(domid, pick(40), n, 1)
            return f"domain.{method}", {"dom": domid, "arr": frames(*asked)}
        if what == 23:
            domid = (1, 3)[pick(2)]
            return self.create(domid) if pick(2) else ("domain.destroy", {"dom": domid})
        if what == 24:
            method = ("maps", "stats", "domain.list", "domain.info", "space.fork", "no.such", "ping")[pick(7)]
            return method, {"dom": 1, "num": N_PAGES} if method == "domain.info" else {}
        return ("privcmd.restrict", {"dom": domid, "file": 5}) if pick(2) else ("ping", {"odd": 1})

    def entries(self, domid: int, pick: Pick) -> list[dict[str, int]]:
        """Runs that mostly follow each other."""
        rows, at = [], 0
        for _ in range(1 + pick(3)):
            n = (1, 3, 12, 20)[pick(4)]
            at = at if pick(5) else pick(N_PAGES)
            rows.append({"va": BASE + at * PAGE, "mfn": self.gmfns(domid, pick(16), 1, 1)[0], "npages": n})
            at += n
        return rows


class Short(Workload):
    """The few kinds of requests that ``linearize`` knows: all of one slice, each client in a space of its own."""

    def setup(self) -> list[tuple[str, dict[str, Any]]]:
        params = {"dom": 1, "kind": "hvm", "max_pages": 48, "ranges": [{"gfn": 0, "npages": 3}]}
        return [("domain.create", params)]

    def greet(self, n: int) -> list[tuple[str, dict[str, Any]]]:  # noqa: ARG002 - all alike
        return [("mmap", {"addr": BASE, "len": 4 * PAGE, "prot": 3, "fixed": True})]

    def request(self, pick: Pick) -> tuple[str, dict[str, Any]]:
        what = pick(20)
        gfns = frames(*(pick(4) for _ in range(1 + pick(2))))
        addr = BASE + pick(2) * PAGE
        if what < 2:
            return ("domain.populate", "domain.decrease_reservation")[what], {"dom": 1, "arr": gfns}
        if what == 2:
            return "mmap", {"addr": BASE, "len": 4 * PAGE, "prot": 3, "fixed": True}
        if what == 3:
            return "munmap", {"addr": addr, "len": PAGE}
        if what < 10:
            return "privcmd.mmapbatch_v2", {"dom": 1, "addr": addr, "arr": gfns}
        if what < 15:
            return "read", {"addr": addr + 7, "len": 1}
        return "write", {"addr": addr + 7, "data": bytes([1 + pick(250)])}
