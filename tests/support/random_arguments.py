# SPDX-License-Identifier: Apache-2.0
"""Likely and unlikely arguments of hypercalls, and the state that a refused one must not change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from privcmdd.service.layout import Bytes, Layout
from support.desk import PAGE
from support.tool import ARRAY, BUFFERS, N_BUFFERS, Tool

if TYPE_CHECKING:
    from privcmdd.model.machine.domain import Domain


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
