# SPDX-License-Identifier: Apache-2.0
"""Domains to make for a program: what they are, and what the broker is asked for."""

from __future__ import annotations

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

SESSION = "PRIVCMDD_SESSION"
"""The environment variable by which a run knows that it is in a session, and of which broker."""
VGA_HOLE = (0xA0, 0x20)
"""First gfn and number of pages that domain builders leave out of an HVM guest's memory, for the VGA: it does not jump
over them, but is so much less (xen/tools/libs/guest/xg_dom_x86.c, meminit_hvm)."""
DOMID = "PRIVCMDD_DOMID"
"""The environment variable that tells a program the number of the first domain that was made for it."""
DOMAINS = "PRIVCMDD_DOMAINS"
"""The environment variable that tells it all of them, by name: ``web=1,db=2``."""
DEVICE_PAGES = 16_384
"""Memory that devices may have, beyond the guest's: a VGA has 16 MiB."""


class DomainConfig:
    """A domain to make: what libxl_domain_config says of one.

    Args:
        kind: "pv", "hvm" or "pvh".
        n_pages: Its memory, in pages.
        name: For people.
        holes: Where it has no memory: first gfn and number of pages of each. Its memory jumps over them.
        vga_hole: Whether it has none at gfns 0xa0 to 0xbf either, and so much less; None: as domain builders make one,
            which is so for HVM.
    """

    __slots__ = ("holes", "kind", "n_pages", "name", "vga_hole")

    def __init__(
        self,
        kind: str,
        n_pages: int,
        name: str = "",
        holes: tuple[tuple[int, int], ...] = (),
        *,
        vga_hole: bool | None = None,
    ) -> None:
        self.kind: str = kind
        self.n_pages: int = n_pages
        self.name: str = name
        self.holes: tuple[tuple[int, int], ...] = holes
        self.vga_hole: bool = kind == "hvm" if vga_hole is None else vga_hole

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """Where it has memory: first gfn and number of pages of each range."""
        ranges = around(self.n_pages, self.holes)
        return without(ranges, *VGA_HOLE) if self.vga_hole else ranges


def told(env: Mapping[str, str], doms: Sequence[int], guests: Sequence[DomainConfig]) -> dict[str, str]:
    """An environment that tells a program of the domains that were made for it, and of no others.

    A domain without a name, or with one that would be misread there, is a number alone.
    """
    rest = {name: value for name, value in env.items() if name not in (DOMID, DOMAINS)}
    if not doms:
        return rest
    rows = [
        f"{guest.name}={dom}" if guest.name and not {",", "="} & set(guest.name) else str(dom)
        for dom, guest in zip(doms, guests, strict=True)
    ]
    return {**rest, DOMID: str(doms[0]), DOMAINS: ",".join(rows)}


def request(guest: DomainConfig, *, dom: int | None = None, emulated: bool = False) -> dict[str, Any]:
    """The parameters of the ``domain.create`` that makes a domain.

    Args:
        guest: The domain.
        dom: Its number; None for the next free one.
        emulated: Whether it gets a device model, which populates the memory of devices: there is room for that.
    """
    wanted: dict[str, Any] = {
        "kind": guest.kind,
        "max_pages": guest.n_pages + (DEVICE_PAGES if emulated else 0),
        "ranges": [{"gfn": gfn, "npages": n_pages} for gfn, n_pages in guest.ranges],
        "name": guest.name,
    }
    return wanted if dom is None else {**wanted, "dom": dom}


def around(n_pages: int, holes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges of gfns from 0 on that hold ``n_pages`` and leave the holes out."""
    ranges = []
    gfn = 0
    for hole, n_hole in sorted(holes):
        if n_pages and hole > gfn:
            n_before = min(n_pages, hole - gfn)
            ranges.append((gfn, n_before))
            n_pages -= n_before
        gfn = max(gfn, hole + n_hole)
    return [*ranges, (gfn, n_pages)] if n_pages else ranges


def without(ranges: Sequence[tuple[int, int]], hole: int, n_hole: int) -> list[tuple[int, int]]:
    """The same ranges less those pages of them that are in a hole."""
    left = []
    for gfn, n_pages in ranges:
        end = gfn + n_pages
        left += [(gfn, min(end, hole)), (max(gfn, hole + n_hole), end)]
    return [(first, end - first) for first, end in left if first < end]
