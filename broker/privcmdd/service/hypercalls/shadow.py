# SPDX-License-Identifier: Apache-2.0
"""Log-dirty mode, and the pool of memory from which Xen takes a domain's page tables."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from privcmdd.model.errors import ModelError
from privcmdd.model.machine import lifecycle, log_dirty
from privcmdd.service.layout import Layout

if TYPE_CHECKING:
    from privcmdd.model.machine.domain import Domain
    from privcmdd.service.hypercalls.context import Hypercall

SHADOW_OP: Final = Layout(
    "struct xen_domctl_shadow_op",
    ("op", "u32"),
    ("mode", "u32"),
    ("mb", "u32"),
    ("dirty_bitmap", "u64"),
    ("pages", "u64"),
    ("stats", Layout("struct xen_domctl_shadow_op_stats", ("fault_count", "u32"), ("dirty_count", "u32"))),
)
MEMPOOL: Final = Layout("struct xen_domctl_paging_mempool", ("size", "u64"))

# XEN_DOMCTL_SHADOW_OP_*
SHADOW_OFF: Final = 0
SHADOW_LOGDIRTY: Final = 2
SHADOW_CLEAN: Final = 11
SHADOW_PEEK: Final = 12
SHADOW_GET_POOL: Final = 30
SHADOW_SET_POOL: Final = 31
SHADOW_ENABLE: Final = 32
ENABLE_LOG_DIRTY: Final = 1 << 2
MIB_SHIFT: Final = 20


def shadow_op(call: Hypercall, domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DOMCTL_shadow_op``: log-dirty mode, and the size of the pool in MiB."""
    op, mode = values["op"], values["mode"]
    if op in (SHADOW_LOGDIRTY, SHADOW_OFF) or (op == SHADOW_ENABLE and mode == ENABLE_LOG_DIRTY):
        log_dirty.switch(call.machine, domain.domid, on=op != SHADOW_OFF)
        return values
    if op == SHADOW_GET_POOL:
        return {**values, "mb": domain.traits.mempool_bytes >> MIB_SHIFT}
    if op == SHADOW_SET_POOL:
        lifecycle.set_mempool(call.machine, domain.domid, values["mb"] << MIB_SHIFT)
        return values
    if op not in (SHADOW_CLEAN, SHADOW_PEEK):
        raise ModelError(errno.EINVAL, f"there is no shadow_op {op} of mode {mode:#x}")
    n_pages = min(values["pages"], call.machine.max_gfns)
    log_dirty.take(call.machine, domain.domid, 0, clean=False)
    if values["dirty_bitmap"]:
        call.memory.check(values["dirty_bitmap"], -(-n_pages // 8))
    dirty = log_dirty.take(call.machine, domain.domid, n_pages, clean=op == SHADOW_CLEAN)
    if values["dirty_bitmap"]:
        call.memory.write(values["dirty_bitmap"], np.packbits(dirty, bitorder="little").tobytes())
    return {**values, "pages": n_pages, "stats": {"dirty_count": int(np.count_nonzero(dirty))}}


def get_mempool(_call: Hypercall, domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DOMCTL_get_paging_mempool_size``."""
    check_paged(domain)
    return {**values, "size": domain.traits.mempool_bytes}


def set_mempool(call: Hypercall, domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DOMCTL_set_paging_mempool_size``: whole pages."""
    check_paged(domain)
    if values["size"] & 0xFFF:
        raise ModelError(errno.EINVAL, f"size is {values['size']}, expected a multiple of 4096")
    if values["size"] >> 12 > 0x7FFF_FFFF:
        raise ModelError(errno.ENOMEM, f"size is {values['size']}, more than the machine has")
    lifecycle.set_mempool(call.machine, domain.domid, values["size"])
    return values


def check_paged(domain: Domain) -> None:
    """Check that Xen keeps page tables for a domain.

    Raises:
        ModelError: EOPNOTSUPP.
    """
    if not domain.kind.translated:
        raise ModelError(errno.EOPNOTSUPP, f"domain {domain.domid} is PV: it has no pool for page tables")
