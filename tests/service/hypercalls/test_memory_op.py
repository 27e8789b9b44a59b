# SPDX-License-Identifier: Apache-2.0
"""``memory_op``: frames of domains are populated, taken, counted and moved."""

from __future__ import annotations

import errno

import pytest

from privcmdd.service.hypercalls import info, memory_op
from support.desk import BASE, PAGE, errnos, frames
from support.tool import (
    HVM,
    PV,
    PVH,
    Tool,
)

KINDS = (HVM, PV, PVH)


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_given_and_taken(tool: Tool, kind: str) -> None:
    """Populate and decrease say how many extents were done; reservations add up."""
    dom = tool.build(kind, n_pages=8, max_pages=20)
    names = tool.array(8)

    def reservation(command: int) -> int:
        return tool.memory(command, memory_op.DOMAIN, domid=dom)[0]

    assert tool.reserve(1, dom, [names[1], names[3], 2**52]) == 2
    assert (reservation(3), reservation(4)) == (6, 20)
    assert tool.reserve(6, dom, [1, 3]) == 2
    assert tool.reserve(6, dom, [16], order=2) == 1
    assert reservation(3) == 12
    assert tool.reserve(6, dom, [32, 64], order=3) == 1
    assert reservation(3) == 20
    assert tool.reserve(6, dom, [100]) == 0
    assert reservation(14) == (39 if kind != PV else 0)
    tool.desk.broker.check()


@pytest.mark.parametrize("command", [0, 1, 6])
@pytest.mark.parametrize("order", [19, 31, 32, 63, 2**32 - 1])
def test_an_absurd_order_is_refused_before_anything_is_multiplied(tool: Tool, command: int, order: int) -> None:
    """XSA-31: an order is the caller's number, and two to the power of it is not to be counted out."""
    _, dom = tool.create(HVM)

    assert tool.reserve(command, dom, [0], order) == -errno.EINVAL


def test_large_extents_of_a_pv_domain_are_contiguous(tool: Tool) -> None:
    """One machine frame is told for each, at a multiple of its size; the others follow it."""
    dom = tool.build(PV, n_pages=3)
    assert tool.reserve(6, dom, [16, 32], order=4) == 2
    first, second = tool.array(2)
    tool.desk.reserve(tool.session, 32)

    names = [*range(first, first + 16), *range(second, second + 16)]
    batch = tool.desk.call(tool.session, "privcmd.mmapbatch_v2", dom=dom, addr=BASE, arr=frames(*names))

    assert (first % 16, second % 16, batch["n_failed"]) == (0, 0, 0)
    assert tool.reserve(0, dom, [0, 0], order=1) == 2  # increase_reservation: wherever there is room
    assert all(mfn % 2 == 0 for mfn in tool.array(2))
    tool.desk.broker.check()


def test_guest_frames_are_populated_on_demand(tool: Tool) -> None:
    """RESULTS section 4: taken from the cache when first mapped; with an empty cache the domain crashes."""
    dom = tool.build(max_pages=64)
    assert tool.reserve(6, dom, list(range(32, 48)), flags=memory_op.POPULATE_ON_DEMAND) == 16
    assert tool.info(dom)["tot_pages"] == 16
    ret, pod = tool.memory(16, memory_op.POD_TARGET, domid=dom, target_pages=24)
    assert (ret, pod["tot_pages"], pod["pod_cache_pages"], pod["pod_entries"]) == (0, 24, 8, 16)
    tool.desk.reserve(tool.session, 16)

    def mapped(first: int, n: int) -> list[int]:
        names = frames(*range(first, first + n))
        got = tool.desk.call(tool.session, "privcmd.mmapbatch_v2", dom=dom, addr=BASE, arr=names)
        return errnos(got["err"]) or [0] * n

    assert mapped(32, 4) == [0] * 4
    _, pod = tool.memory(17, memory_op.POD_TARGET, domid=dom)
    assert (pod["tot_pages"], pod["pod_cache_pages"], pod["pod_entries"]) == (24, 4, 12)
    assert mapped(36, 12) == [0] * 4 + [-errno.EINVAL] * 8
    crashed = tool.info(dom)
    assert crashed["flags"] & info.SHUTDOWN
    assert crashed["tot_pages"] == 24
    tool.desk.broker.check()
    assert tool.domctl(2, dom)[0] == 0
    tool.desk.broker.check()


def test_the_physmap_is_rearranged(tool: Tool) -> None:
    """RESULTS section 10: a moved frame shows at its new place, a removed one nowhere; old mappings are unaffected."""
    dom = tool.build()
    session = tool.session
    tool.desk.reserve(session, 2)
    tool.desk.call(session, "privcmd.mmapbatch_v2", dom=dom, addr=BASE, arr=frames(2, 3))
    tool.desk.call(session, "write", addr=BASE, data=b"two")
    asked = {"domid": dom, "space": 2, "idx": 2, "gpfn": 40}

    assert tool.memory(7, memory_op.ADD_TO_PHYSMAP, **asked)[0] == 0
    assert tool.memory(15, memory_op.REMOVE_FROM_PHYSMAP, domid=dom, gpfn=3)[0] == 0

    tool.desk.reserve(session, 3, BASE + 16 * PAGE)
    at = BASE + 16 * PAGE
    got = tool.desk.call(session, "privcmd.mmapbatch_v2", dom=dom, addr=at, arr=frames(2, 3, 40))
    assert errnos(got["err"]) == [-errno.EINVAL, -errno.EINVAL, 0]
    assert tool.desk.call(session, "read", addr=at + 2 * PAGE, len=3)["data"] == b"two"
    assert tool.desk.call(session, "fault", addr=BASE + PAGE)["dom"] == dom
    assert tool.memory(7, memory_op.ADD_TO_PHYSMAP, **{**asked, "idx": 999})[0] == -errno.EINVAL
    for space, idx, gfn in ((0, 0, 50), (1, 0, 51), (1, 1, 5)):
        assert tool.memory(7, memory_op.ADD_TO_PHYSMAP, domid=dom, space=space, idx=idx, gpfn=gfn)[0] == 0
    assert tool.memory(7, memory_op.ADD_TO_PHYSMAP, domid=dom, space=1, idx=0, gpfn=52)[0] == 0
    got = tool.desk.call(session, "privcmd.mmapbatch_v2", dom=dom, addr=at, arr=frames(50, 51, 52))
    assert errnos(got["err"]) == [0, -errno.EINVAL, 0]
    tool.desk.broker.check()
    assert tool.domctl(2, dom)[0] == 0
    tool.desk.broker.check()
