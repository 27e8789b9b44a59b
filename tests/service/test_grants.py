# SPDX-License-Identifier: Apache-2.0
"""gntdev: what a guest's grant table says can be mapped, and nothing else."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest

from service.desk import BASE, PAGE, SMALL, Desk, Refused, frames, triples

PERMIT, READ_ONLY, TRANSFER = 1, 4, 2
TABLE = BASE + (1 << 30)  # where the guest's grant table is mapped, to be filled
GNTDEV = "gntdev"


class Granting:
    """A guest of 64 frames whose grant table this process writes, as the guest would."""

    def __init__(self, kind: str = "hvm") -> None:
        self.desk = Desk(replace(SMALL))
        self.session = self.desk.connect()
        self.call("space.attach", personality="linux")
        self.dom = self.desk.domain(self.session, kind, ranges=[{"gfn": 0, "npages": 32}])
        info = self.call("domain.info", dom=self.dom, start=0, num=64)
        self.names = struct.unpack("<64Q", info["frames"])
        self.call("mmap", addr=TABLE, len=2 * PAGE, prot=3, fixed=True)
        self.call("privcmd.mmap_resource", dom=self.dom, type=1, id=0, num=2, addr=TABLE)

    def call(self, method: str, /, **params: Any) -> Any:
        """The answer. Raises Refused."""
        return self.desk.call(self.session, method, **params)

    def grant(self, ref: int, frame: int, flags: int = PERMIT, to: int = 0) -> None:
        """Write an entry of version 1."""
        self.call("write", addr=TABLE + 8 * ref, data=struct.pack("<HHI", flags, to, frame))

    def map(self, *refs: int, addr: int = BASE, prot: int = 3, **more: Any) -> Any:
        """Map grants at a fresh mapping of the device: the answer, or the name of the errno."""
        self.call("mmap", addr=addr, len=len(refs) * PAGE, prot=prot, fixed=True, file=GNTDEV)
        try:
            return self.call("gntdev.map", dom=self.dom, addr=addr, arr=frames(*refs), **more)
        except Refused as refused:
            return refused.name

    def held(self) -> int:
        """Page table entries of the process, without those of the table."""
        n: int = self.call("stats")["mappings"]["frames"]
        return n - 2


@pytest.mark.parametrize("kind", ["hvm", "pv", "pvh"])
def test_granted_frames_are_mapped(kind: str) -> None:
    """The frames that the entries name, in the order of the request, also from the table's second page."""
    guest = Granting(kind)
    guest.grant(8, guest.names[5])
    guest.grant(9, guest.names[6])
    guest.grant(512, guest.names[20])

    answer = guest.map(512, 8, 9, extents=True)

    assert (answer["num"], answer["prot"]) == (3, 3)
    assert triples(answer["extents"]) == [(0, 20, 1), (1, 5, 2)]
    (entry,) = (row for row in guest.call("maps")["entries"] if row["file"] == GNTDEV)
    assert (entry["dom"], entry["present"], entry["inherit"]) == (guest.dom, 3, "none")
    assert entry["request"].startswith("gntdev.map ")
    guest.call("munmap", addr=BASE, len=3 * PAGE)
    assert guest.held() == 0


def test_what_is_no_grant_to_domain_0_is_refused() -> None:
    """Nothing there, another kind, another domain's, past the table, no such frame: EINVAL, and none is mapped."""
    guest = Granting()
    guest.grant(8, 5)
    guest.grant(9, 5, flags=TRANSFER)
    guest.grant(10, 5, to=3)
    guest.grant(11, 40)

    assert [guest.map(8, bad) for bad in (7, 9, 10, 11, 2 * 512, 2**32)] == ["EINVAL"] * 6
    assert guest.held() == 0
    assert guest.map(8)["num"] == 1


def test_a_read_only_grant_is_mapped_read_only() -> None:
    """GTF_readonly: for a mapping that may not be written."""
    guest = Granting()
    guest.grant(8, 5, flags=PERMIT | READ_ONLY)

    assert guest.map(8) == "EINVAL"
    assert guest.map(8, prot=1, extents=True)["prot"] == 1


def test_only_mappings_of_the_device_are_filled() -> None:
    """A range of another file, one that is too short, no grants at all, a domain that is not there: EINVAL."""
    guest = Granting()
    guest.grant(8, 5)
    guest.map(8)
    asked = {"dom": guest.dom, "addr": BASE, "arr": frames(8)}

    for wrong in ({"addr": TABLE}, {"addr": BASE + PAGE}, {"arr": frames(8, 8)}, {"arr": b""}, {"dom": guest.dom + 1}):
        with pytest.raises(Refused, match="EINVAL"):
            guest.call("gntdev.map", **{**asked, **wrong})


def test_a_mapped_grant_keeps_a_dying_domain() -> None:
    """The guest goes when the last of its frames is unmapped."""
    guest = Granting()
    guest.grant(8, 5)
    guest.map(8)
    guest.call("munmap", addr=TABLE, len=2 * PAGE)

    assert guest.call("domain.destroy", dom=guest.dom) == {"state": "dying"}
    guest.call("munmap", addr=BASE, len=PAGE)
    assert guest.call("domain.list") == {"domains": []}


def test_a_child_has_none() -> None:
    """Grants are not inherited."""
    guest = Granting()
    guest.grant(8, 5)
    guest.map(8)
    child = guest.desk.connect()
    guest.desk.call(child, "space.attach", space=guest.call("space.fork")["space"])

    assert guest.desk.call(child, "maps") == {"entries": []}
