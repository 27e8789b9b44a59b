# SPDX-License-Identifier: Apache-2.0
"""A new domain and its memory file, made together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from privcmdd.model.machine import lifecycle

if TYPE_CHECKING:
    from collections.abc import Iterable

    from privcmdd.model.machine.domain import Domain, DomainKind
    from privcmdd.model.machine.machine import Machine
    from privcmdd.model.machine.records import GrantTable, Traits
    from privcmdd.service.backing import Backing


def make_domain(
    machine: Machine,
    backing: Backing,
    kind: DomainKind,
    max_pages: int,
    ranges: Iterable[tuple[int, int]] | None,
    wanted: int | None,
    name: str,
    *,
    n_spill: int | None = None,
    traits: Traits | None = None,
    grants: GrantTable | None = None,
) -> Domain:
    """Make a domain. Its memory file is made first, because the host may refuse it.

    Args:
        machine: The simulated machine.
        backing: Makes the file.
        kind: Passed to ``lifecycle.create``, as are all that follow.
        max_pages: Its maximum reservation.
        ranges: First gfn and number of pages of each range to populate; None: all of ``max_pages``, from gfn 0 on.
        wanted: Its domid; None: the next free one.
        name: For people.
        n_spill: Pages of the file for frames that do not lie at the page of their number; None: ``max_pages``.
        traits: What the toolstack says about it.
        grants: Its grant table.

    Returns:
        The domain.

    Raises:
        ModelError: As ``lifecycle.create``; ENOMEM, the host refuses the file.
    """
    domid = lifecycle.free_domid(machine, wanted)
    backing.create(domid, lifecycle.file_pages(machine, max_pages, n_spill))
    try:
        return lifecycle.create(
            machine, kind, max_pages, ranges, domid, name, n_spill=n_spill, traits=traits, grants=grants
        )
    except BaseException:
        backing.close(domid)
        raise
