# SPDX-License-Identifier: Apache-2.0
"""DM_OPs about ioreq servers (xen/common/ioreq.c, xen/common/dm.c)."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Any, Final

from privcmdd.model.errors import ModelError
from privcmdd.model.machine import ioreq
from privcmdd.service.layout import Bytes, Layout

if TYPE_CHECKING:
    from privcmdd.model.machine.machine import Machine
    from privcmdd.model.machine.records import IoreqServer
    from privcmdd.service.backing import Backing
    from privcmdd.service.world import World

    Values = dict[str, Any]

CREATE: Final = Layout(
    "struct xen_dm_op_create_ioreq_server", ("handle_bufioreq", "u8"), ("pad", Bytes(3)), ("id", "u16")
)
INFO: Final = Layout(
    "struct xen_dm_op_get_ioreq_server_info",
    ("id", "u16"),
    ("flags", "u16"),
    ("bufioreq_port", "u32"),
    ("ioreq_gfn", "u64"),
    ("bufioreq_gfn", "u64"),
)
RANGE: Final = Layout(
    "struct xen_dm_op_ioreq_server_range",
    ("id", "u16"),
    ("pad", "u16"),
    ("type", "u32"),
    ("start", "u64"),
    ("end", "u64"),
)
STATE: Final = Layout("struct xen_dm_op_set_ioreq_server_state", ("id", "u16"), ("enabled", "u8"), ("pad", "u8"))
DESTROY: Final = Layout("struct xen_dm_op_destroy_ioreq_server", ("id", "u16"), ("pad", "u16"))
NO_GFNS: Final = 1
# struct ioreq, and where its event channel is (xen/include/public/hvm/ioreq.h).
IOREQ_BYTES: Final = 32
VP_EPORT: Final = 24
# The frames of a server: buffered, then synchronous requests.
SYNCHRONOUS: Final = 1


def create(world: World, domid: int, values: Values) -> Values:
    """``XEN_DMOP_create_ioreq_server``: the id is the answer."""
    return {**values, "id": ioreq.create(world.machine, domid, values["handle_bufioreq"])}


def info(world: World, domid: int, values: Values) -> Values:
    """``XEN_DMOP_get_ioreq_server_info``: the port of buffered requests, and guest frames for the pages if asked for.

    Raises:
        ModelError: ESRCH; ENOENT; EINVAL, there are no such flags; EPERM, the pages are mapped as a resource; ENOMEM,
            the domain has set no guest frames aside (HVM_PARAM_IOREQ_SERVER_PFN), or none is left.
    """
    if values["flags"] & ~NO_GFNS:
        raise ModelError(errno.EINVAL, f"flags are {values['flags']:#x}, expected 0 or 1", key="bufs")
    server = ioreq.server_of(world.machine, domid, values["id"])
    told = {**values, "bufioreq_port": server.bufioreq_port}
    if not values["flags"] & NO_GFNS:
        if server.frames:
            raise ModelError(errno.EPERM, "the pages are mapped as a resource, and have no guest frames", key="bufs")
        raise ModelError(errno.ENOMEM, f"domain {domid} has no guest frames for ioreq pages; map the resource instead")
    return told


def map_range(world: World, domid: int, values: Values) -> Values:
    """``XEN_DMOP_map_io_range_to_ioreq_server``."""
    ioreq.map_io_range(world.machine, domid, values["id"], values["type"], values["start"], values["end"])
    return values


def unmap_range(world: World, domid: int, values: Values) -> Values:
    """``XEN_DMOP_unmap_io_range_from_ioreq_server``."""
    ioreq.unmap_io_range(world.machine, domid, values["id"], values["type"], values["start"], values["end"])
    return values


def set_state(world: World, domid: int, values: Values) -> Values:
    """``XEN_DMOP_set_ioreq_server_state``: a server that is enabled finds the vcpus' ports in its page."""
    server = ioreq.set_state(world.machine, domid, values["id"], enabled=bool(values["enabled"]))
    if server.enabled:
        tell_ports(world.machine, world.backing, domid, server)
    return values


def tell_ports(machine: Machine, backing: Backing, domid: int, server: IoreqServer) -> None:
    """Write each vcpu's port into its slot of the page of requests. The page exists from its first mapping on."""
    if server.frames:
        page = int(machine.frames.page[server.frames[SYNCHRONOUS]])
        for vcpu, port in enumerate(server.ports):
            backing.write(domid, page, vcpu * IOREQ_BYTES + VP_EPORT, struct.pack("<I", port))


def destroy(world: World, domid: int, values: Values) -> Values:
    """``XEN_DMOP_destroy_ioreq_server``."""
    ioreq.destroy(world.machine, domid, values["id"])
    return values


REQUESTS: Final = {
    1: (CREATE, create),
    2: (INFO, info),
    3: (RANGE, map_range),
    4: (RANGE, unmap_range),
    5: (STATE, set_state),
    6: (DESTROY, destroy),
}
