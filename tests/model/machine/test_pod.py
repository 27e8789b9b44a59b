# SPDX-License-Identifier: Apache-2.0
"""Guest frames that are populated when they are first mapped, and the cache that they are populated from."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from privcmdd.model.errors import ModelError
from privcmdd.model.machine import lifecycle, memory, pod
from privcmdd.model.machine.pod import CRASHED
from privcmdd.model.privcmd.linux import Linux
from privcmdd.model.units import PROT_NONE
from support.small_machine import BASE, World, batch, errors_of, seen, shows

if TYPE_CHECKING:
    from privcmdd.model.machine.domain import Domain

WAITING = list(range(200, 216))


def demanding(n_cached: int) -> tuple[World, Domain]:
    """A machine whose HVM domain has 16 guest frames that wait, and so many frames for them."""
    world = World()
    pod.mark_populate_on_demand(world.machine, 1, WAITING)
    pod.set_target(world.machine, 1, world.hvm.tot_pages + n_cached)
    assert (world.hvm.n_pod, world.hvm.n_cached) == (len(WAITING), n_cached)
    return world, world.hvm


@pytest.mark.parametrize("n", [4, 30])
def test_a_mapping_populates_from_the_cache(n: int) -> None:
    """A good frame, taken from the cache, and the same one for whoever maps it next.

    See docs/explanation/facts/recorded-host.md, section 4.
    """
    world, domain = demanding(8)
    total = domain.tot_pages
    gmfns = [*WAITING[:3], WAITING[0], *[1] * (n - 4)]

    for _ in range(2):
        space = world.space(Linux(), n_pages=n)
        assert errors_of(batch(space, 1, BASE, gmfns)) == [0] * n
        assert seen(space, BASE, n) == shows(1, gmfns)
        assert (domain.tot_pages, domain.n_cached, domain.n_pod) == (total + 3, 5, 13)
        world.check()


@pytest.mark.parametrize("n_more", [0, 30])
def test_an_empty_cache_crashes_the_domain(n_more: int) -> None:
    """What the cache has is given out, the rest is EINVAL, and the domain has shut down; it can still be mapped."""
    world, domain = demanding(2)
    space = world.space(Linux(), n_pages=4 + n_more)

    errors = errors_of(batch(space, 1, BASE, [*WAITING[:4], *[1] * n_more]))

    assert errors == [0, 0, -errno.EINVAL, -errno.EINVAL, *[0] * n_more]
    assert (domain.shutdown, domain.n_cached, domain.n_pod) == (CRASHED, 0, 14)
    world.check()


@pytest.mark.parametrize("n_more", [0, 30])
def test_the_cache_serves_frames_in_the_order_of_asking(n_more: int) -> None:
    """Law: it is the frame asked for last that finds the cache empty, not the one of the highest number."""
    world, _ = demanding(2)
    high, low, lower = WAITING[3], WAITING[1], WAITING[0]
    space = world.space(Linux(), n_pages=4 + n_more)

    errors = errors_of(batch(space, 1, BASE, [high, low, high, lower, *[1] * n_more]))

    assert errors == [0, 0, 0, -errno.EINVAL, *[0] * n_more]
    world.check()


def test_without_access_nothing_is_populated() -> None:
    """PROT_NONE in a PV dom0: Xen does not look, so the cache stays as it is."""
    world, domain = demanding(2)

    assert errors_of(batch(world.space(Linux(), n_pages=4, prot=PROT_NONE), 1, BASE, WAITING[:4])) == [0] * 4

    assert (domain.shutdown, domain.n_cached, domain.n_pod) == (None, 2, 16)


def test_what_waits_can_be_given_back() -> None:
    """By the source (p2m_pod_decrease_reservation): it waits no longer, and the cache keeps no more than can wait."""
    world, domain = demanding(8)

    assert memory.decrease_reservation(world.machine, 1, WAITING[:6]).n_done == 6
    assert (domain.n_pod, domain.n_cached) == (10, 8)
    assert memory.decrease_reservation(world.machine, 1, WAITING[6:10]).n_done == 4
    assert (domain.n_pod, domain.n_cached) == (6, 6)
    assert memory.decrease_reservation(world.machine, 1, [WAITING[10], WAITING[0]]).n_done == 1
    assert errors_of(batch(world.space(Linux(), n_pages=1), 1, BASE, [WAITING[0]])) == [-errno.EINVAL]
    world.check()


def test_what_is_given_back_fills_the_cache() -> None:
    """As long as more wait than it has frames for; a frame that is mapped is put."""
    world, domain = demanding(8)
    total = domain.tot_pages
    space = world.space(Linux(), n_pages=1)
    batch(space, 1, BASE, [0])

    assert memory.decrease_reservation(world.machine, 1, list(range(7))).n_done == 7
    assert (domain.tot_pages, domain.n_cached) == (total - 6, 14)
    assert memory.decrease_reservation(world.machine, 1, list(range(7, 12))).n_done == 5
    assert (domain.tot_pages, domain.n_cached) == (total - 11, 16)
    space.close()
    assert (domain.tot_pages, domain.n_cached) == (total - 12, 16)
    world.check()


def test_who_cannot_have_any() -> None:
    """A PV domain, a dying one, a frame that is populated, and a target above the reservation."""
    world, domain = demanding(0)

    assert pod.mark_populate_on_demand(world.machine, 1, [300, 301, 5, 302]) == 2
    for refused in (
        lambda: pod.mark_populate_on_demand(world.machine, 2, [300]),
        lambda: pod.set_target(world.machine, 2, 1),
        lambda: pod.set_target(world.machine, 1, domain.max_pages + 1),
    ):
        with pytest.raises(ModelError, match="EINVAL"):
            refused()
    assert lifecycle.destroy(world.machine, 1) == "gone"
    world.check()
