# SPDX-License-Identifier: Apache-2.0
"""Likely and unlikely arguments of hypercalls, and the state that a refused one must not change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from privcmdd.service.hypercalls import memory_op, paging
from privcmdd.service.layout import Bytes, Layout
from support.desk import PAGE, Desk
from support.tool import ARRAY, BUFFERS, N_BUFFERS, PV, Tool

if TYPE_CHECKING:
    from privcmdd.model.machine.domain import Domain


MEMORY_LAYOUTS = {
    0: memory_op.RESERVATION,
    1: memory_op.RESERVATION,
    3: memory_op.DOMAIN,
    5: memory_op.MACHPHYS,
    6: memory_op.RESERVATION,
    7: memory_op.ADD_TO_PHYSMAP,
    14: memory_op.DOMAIN,
    15: memory_op.REMOVE_FROM_PHYSMAP,
    16: memory_op.POD_TARGET,
    17: memory_op.POD_TARGET,
    20: paging.PAGING_OP,
    21: memory_op.ACCESS_OP,
    24: memory_op.RESERVATION,
    28: memory_op.ACQUIRE_RESOURCE,
}


END = BUFFERS + N_BUFFERS * PAGE


POINTERS = st.one_of(
    st.sampled_from([0, BUFFERS, ARRAY, ARRAY + 1, END - 8, END, 2**64 - 1]), st.integers(0, 2**64 - 1)
)


NUMBERS = st.one_of(st.integers(0, 40), st.sampled_from([2**31, 2**32 - 1, 2**52, 2**63, 2**64 - 1]), POINTERS)


DOMAINS = st.sampled_from([0, 1, 2, 3, 0x7FF0, 0x7FF4, 0xFFFF])


def values_of(layout: Layout) -> st.SearchStrategy[dict[str, Any]]:
    """Likely and unlikely values of a structure."""
    kinds: dict[str, st.SearchStrategy[Any]] = {}
    for member in layout.members:
        if member.name in ("domid", "domain", "dom"):
            kinds[member.name] = DOMAINS
        elif isinstance(member.kind, Layout):
            kinds[member.name] = values_of(member.kind)
        elif isinstance(member.kind, Bytes):
            kinds[member.name] = st.binary(max_size=member.size)
        else:
            kinds[member.name] = NUMBERS
    return st.fixed_dictionaries({}, optional=kinds)


def state(tool: Tool) -> Any:
    """All that a hypercall could change in the machine."""

    def of(domain: Domain) -> Any:
        return (
            domain.state,
            domain.n_pauses,
            domain.tot_pages,
            domain.max_pages,
            domain.n_cached,
            domain.n_pod,
            domain.n_resource,
            domain.p2m[domain.p2m != 0].tobytes(),
            repr((domain.traits, domain.ioreq_servers, domain.interrupts, domain.pager)),
            sorted(map(repr, machine.events.ports(domain.domid).items())) if domain.alive else [],
        )

    machine = tool.desk.broker.world.machine
    frames = machine.frames
    domains = {domid: of(domain) for domid, domain in machine.domains.items()}
    return domains, frames.refs.tobytes(), frames.owner.tobytes(), frames.n_free


def built() -> Tool:
    """Three domains: HVM with memory on demand, PV, and HVM that is dying."""
    desk = Desk()
    tool = Tool(desk)
    tool.build()
    tool.reserve(6, 1, [32, 33], flags=memory_op.POPULATE_ON_DEMAND)
    tool.build(PV)
    dying = tool.build()
    desk.reserve(tool.session, 1)
    desk.call(tool.session, "privcmd.mmapbatch_v2", dom=dying, addr=0x10_0000_0000, arr=[1])
    tool.domctl(2, dying)
    return tool


def check(tool: Tool, before: Any, ret: int) -> None:
    """The law."""
    assert -4096 < ret < 2**53
    if ret < 0:
        assert state(tool) == before
    tool.desk.broker.check()
    assert tool.call(17, 0) == 0x40011  # the session lives
