# SPDX-License-Identifier: Apache-2.0
"""Step 1: the guests that the rest of the demonstration uses."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import privcmd
from privcmd import ForeignMemory
from privcmd._demo.cast import Actor

if TYPE_CHECKING:
    from pathlib import Path

    from privcmd import Client, PrivateBroker
    from privcmd._demo.stage import Stage

PAGE = privcmd.PAGE_SIZE
HVM_PAGES = 64 * 256
PV_PAGES = 256
HOLES = ((0xA0, 0x20), (0x2000, 0x80))
"""Where the HVM guest has no memory: below 1 MiB, where a PC has its VGA, and at one more place above."""

FILE_AT = HOLES[0][0] - 2
FILE_PAGES_MOST = 24 * 256
"""More pages than the file of Python has; the other steps use the rest of the guest."""


@dataclass(frozen=True, slots=True)
class Guests:
    """The broker, the demonstration's own connection, and the guests that step 1 makes.

    Attributes:
        ranges: Where the HVM guest has memory: (first gfn, n_pages).
        n_bytes: How many bytes of the file are in guest memory.
        sha256: The SHA-256 of these bytes.
        n_free_frames: The machine's free frames before there was any guest.
    """

    broker: PrivateBroker
    client: Client
    hvm: int
    pv: int
    ranges: tuple[tuple[int, int], ...]
    n_bytes: int
    sha256: str
    n_free_frames: int

    @classmethod
    def make(cls, stage: Stage, broker: PrivateBroker, client: Client, file: Path, content: bytes) -> Self:
        """Make the guests and load the file."""
        instance = client.ping()
        stage.check(True, f"broker {instance} (process {broker.pid}) listens on a private socket")
        n_free_frames = client.stats()["machine"]["free_frames"]
        ranges = _around_holes()
        hvm = client.domains.create("hvm", HVM_PAGES, ranges=ranges, name="guest")
        info = client.domains.info(hvm, start=0, num=ranges[-1][0] + ranges[-1][1])
        found = {gfn for gfn, name in enumerate(info.frames or ()) if name == privcmd.HOLE}
        holes = {gfn for first, n in HOLES for gfn in range(first, first + n)}
        stage.check(
            info.tot_pages == HVM_PAGES and found == holes,
            f"domain {hvm} is an HVM guest of 64 MiB, with holes at "
            + " and ".join(f"{first:#x}+{n:#x}" for first, n in HOLES),
            f"{info.tot_pages} pages, holes {sorted(found)}",
        )
        pv = client.domains.create("pv", PV_PAGES, name="pv-guest")
        mfns = client.domains.info(pv, start=0, num=PV_PAGES).frames
        stage.check(
            mfns is not None and privcmd.HOLE not in mfns,
            f"domain {pv} is a PV guest of {PV_PAGES} pages; its frames have machine numbers of their own",
            mfns,
        )
        n_bytes = min(len(content), FILE_PAGES_MOST * PAGE)
        sha256 = hashlib.sha256(content[:n_bytes]).hexdigest()
        guests = cls(broker, client, hvm, pv, ranges, n_bytes, sha256, n_free_frames)
        with ForeignMemory(client) as foreign, foreign.map(hvm, guests.file_gfns()) as guest:
            guest[:n_bytes] = content[:n_bytes]
            stage.check(
                hashlib.sha256(guest[:n_bytes]).hexdigest() == guests.sha256,
                f"{n_bytes:,} bytes of {file} are in guest memory",
            )
        return guests

    @property
    def file_pages(self) -> int:
        """The number of pages of guest memory that hold the file; the last page may be used in part."""
        return max(1, -(-self.n_bytes // PAGE))

    def spans(self, n_pages: int, first: int = 0) -> list[list[int]]:
        """The guest's memory from its page ``first`` on, as ranges of gfns around the holes."""
        spans = []
        for gfn, n in self.ranges:
            if first >= n:
                first -= n
                continue
            taken = min(n - first, n_pages)
            if taken:
                spans.append([gfn + first, taken])
            n_pages -= taken
            first = 0
        return spans

    def file_spans(self) -> list[list[int]]:
        """Where the file is: from shortly before the first hole on, so that it lies on both sides of it."""
        return self.spans(self.file_pages, first=FILE_AT)

    def file_gfns(self) -> list[int]:
        """The gfns of the file, one by one."""
        return [gfn for first, n in self.file_spans() for gfn in range(first, first + n)]

    def mfns(self, n_pages: int) -> list[int]:
        """The mfns of the PV guest's first frames."""
        return list(self.client.domains.info(self.pv, start=0, num=n_pages).frames or ())

    def device_model(self) -> Actor:
        """Start one more device model on this broker."""
        return Actor(self.broker.path)


def _around_holes() -> tuple[tuple[int, int], ...]:
    ranges = []
    start, left = 0, HVM_PAGES
    for hole, n_hole in HOLES:
        ranges.append((start, hole - start))
        left -= hole - start
        start = hole + n_hole
    return (*ranges, (start, left))
