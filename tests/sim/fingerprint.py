# SPDX-License-Identifier: Apache-2.0
"""All that a request could change, as one value that can be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from privcmdd.service.methods.spaces import row

if TYPE_CHECKING:
    from privcmdd.model.mm.space import AddressSpace
    from privcmdd.service.broker import Broker
    from support.backing import MemoryBacking


def of_space(space: AddressSpace) -> Any:
    """Entries, page table entries, and what is counted of them."""
    return (
        [row(space, entry) for entry in space.map],
        [(first, leaf.tobytes()) for first, leaf in space.pmap.leaves()],
        space.pmap.n_ptps,
        space.n_wired,
        space.objects.alive,
    )


def of_broker(broker: Broker, disk: MemoryBacking) -> dict[str, Any]:
    """The machine, all spaces, all accounts, all files; not what is only counted."""
    frames = broker.world.machine.frames
    return {
        "spaces": {space.number: of_space(space) for space in broker.world.spaces},
        "refs": frames.refs.tobytes(),
        "owners": frames.owner.tobytes(),
        "free": frames.n_free,
        "domains": {
            domid: (domain.state, domain.tot_pages, domain.n_paged, domain.n_resource, domain.p2m.tobytes())
            for domid, domain in broker.world.machine.domains.items()
        },
        "accounts": broker.world.usage(),
        "files": {key: {page: bytes(data) for page, data in pages.items()} for key, pages in disk.files.items()},
    }
