# SPDX-License-Identifier: Apache-2.0
"""Log-dirty mode: which guest frames were written to since the log was last cleaned (xen/arch/x86/mm/paging.c)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import numpy as np

from privcmdd.model.errors import ModelError
from privcmdd.model.files import grow
from privcmdd.model.machine.domain import POD

if TYPE_CHECKING:
    import numpy.typing as npt

    from privcmdd.model.machine.machine import Machine


def switch(machine: Machine, domid: int, *, on: bool) -> None:
    """Switch log-dirty mode on or off.

    Writes through foreign mappings are never logged (docs/explanation/facts/recorded-host.md, section 10); writes
    that a device model reports are.

    Raises:
        ModelError: ESRCH; EINVAL, the domain is dying, or the mode is on already.
    """
    domain = machine.living(domid)
    if on and domain.dirty is not None:
        raise ModelError(errno.EINVAL, f"domain {domid} is in log-dirty mode", dom=domid)
    if domain.dirty is not None:
        domain.note(slice(0, len(domain.dirty)))
    domain.dirty = np.zeros(0, dtype=np.bool_) if on else None


def mark(machine: Machine, domid: int, first: int, n_pages: int) -> None:
    """Log guest frames that a device model has written to; frames that are not populated are left out.

    Raises:
        ModelError: ESRCH; EINVAL, the domain is dying.
    """
    domain = machine.living(domid)
    end = min(first + n_pages, len(domain.p2m))
    if domain.dirty is None or first >= end:
        return
    if end > len(domain.dirty):
        domain.dirty = grow(domain.dirty, end, machine.max_gfns)
    domain.dirty[first:end] |= domain.p2m[first:end] > POD
    domain.note(slice(first, end))


def take(machine: Machine, domid: int, n_pages: int, *, clean: bool) -> npt.NDArray[np.bool_]:
    """Return for each of the first ``n_pages`` guest frames whether it was written to.

    Args:
        machine: The simulated machine.
        domid: The domain.
        n_pages: The number of guest frames.
        clean: Clean the log of these frames.

    Raises:
        ModelError: ESRCH; EINVAL, the domain is dying, or not in log-dirty mode.
    """
    domain = machine.living(domid)
    if domain.dirty is None:
        raise ModelError(errno.EINVAL, f"domain {domid} is not in log-dirty mode", dom=domid)
    found = np.zeros(n_pages, dtype=np.bool_)
    known = domain.dirty[:n_pages]
    found[: len(known)] = known
    if clean:
        known[:] = False
        domain.note(slice(0, len(known)))
    return found
