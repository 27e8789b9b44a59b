# SPDX-License-Identifier: Apache-2.0
"""How long frames and domains live when somebody has them mapped, held against recorded answers (PV dom0)."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from privcmdd.model.machine import lifecycle, memory, p2m, page_types
from privcmdd.model.mm import syscalls
from privcmdd.model.mm.access import touch
from privcmdd.model.privcmd.linux import Linux
from privcmdd.model.units import PAGE_SIZE, PROT_READ, PROT_WRITE
from support.small_machine import BASE, HOLE, World, batch, errors_of, page


@pytest.mark.parametrize("held", [1, 30])
def test_the_life_of_a_frame_of_a_translated_domain(held: int) -> None:
    """A destroyed domain keeps what is mapped, and only that; it cannot be mapped anew; it goes with the last."""
    world = World()
    space = world.space(Linux(), n_pages=held + 1)
    batch(space, 1, BASE, [*range(held), HOLE])
    other = world.space(Linux(), n_pages=2)

    assert lifecycle.destroy(world.machine, 1) == "dying"
    assert world.machine.domain(1).tot_pages == held
    assert errors_of(batch(other, 1, BASE, [0, held])) == [-errno.EINVAL] * 2
    assert errors_of(batch(space, 1, page(held), [0])) == [-errno.EINVAL]
    assert not any(touch(space, BASE, access).entered for access in (PROT_READ, PROT_WRITE))
    assert lifecycle.destroy(world.machine, 1) == "dying"
    syscalls.munmap(space, BASE, (held + 1) * PAGE_SIZE)
    assert 1 not in world.machine.domains
    assert errors_of(batch(other, 1, BASE, [0, held])) == [-errno.ESRCH] * 2
    world.check()


def test_the_life_of_a_frame_of_a_pv_domain() -> None:
    """A dying PV domain's frames can still be mapped as long as somebody holds them; released ones are EBUSY."""
    world = World()
    first, second = world.mfns(0, 2)
    space, other = world.space(Linux(), n_pages=2), world.space(Linux(), n_pages=2)
    batch(space, 2, BASE, [first, 3])

    assert lifecycle.destroy(world.machine, 2) == "dying"
    assert errors_of(batch(other, 2, BASE, [first, second])) == [0, -errno.EBUSY]
    assert errors_of(batch(space, 2, page(1), [first])) == [0]
    space.close()
    assert world.machine.domain(2).tot_pages == 1
    other.close()
    assert 2 not in world.machine.domains
    world.check()


def test_a_dying_domain_has_no_page_tables() -> None:
    """What it had pinned is an ordinary frame then: somebody who holds it read-only can have it writable as well."""
    world = World()
    mfn = world.mfns(0, 1)[0]
    batch(world.space(Linux(), n_pages=1, prot=PROT_READ), 2, BASE, [mfn])
    page_types.pin(world.machine, 2, mfn, 1, np.zeros(512, dtype=np.uint64), written=False)
    assert errors_of(batch(world.space(Linux(), n_pages=1), 2, BASE, [mfn])) == [-errno.EBUSY]

    assert lifecycle.destroy(world.machine, 2) == "dying"

    assert errors_of(batch(world.space(Linux(), n_pages=1), 2, BASE, [mfn])) == [0]
    world.check()


def test_ballooning_under_a_mapping() -> None:
    """The mapping keeps the old frame; the guest's number is gone, and a new frame is another one."""
    world = World()
    space, other = world.space(Linux(), n_pages=1), world.space(Linux(), n_pages=1)
    batch(space, 1, BASE, [5])
    old = space.pmap.get(page(0) >> 12)
    total = world.hvm.tot_pages

    assert memory.decrease_reservation(world.machine, 1, [5]).n_done == 1
    assert world.hvm.tot_pages == total
    assert errors_of(batch(other, 1, BASE, [5])) == [-errno.EINVAL]
    assert memory.populate(world.machine, 1, [5]).n_done == 1
    assert errors_of(batch(other, 1, BASE, [5])) == [0]
    new = other.pmap.get(page(0) >> 12)
    assert new != old
    assert world.machine.frames.page_of[new] != world.machine.frames.page_of[old]
    syscalls.munmap(space, BASE, PAGE_SIZE)
    assert world.hvm.tot_pages == total
    world.check()


def test_ballooning_a_pv_domain_under_a_mapping() -> None:
    """A PV frame that was given up but is still mapped can be mapped again, for it is the domain's still."""
    world = World()
    first, second = world.mfns(0, 2)
    space = world.space(Linux(), n_pages=1)
    batch(space, 2, BASE, [first])
    memory.decrease_reservation(world.machine, 2, [first, second])

    assert errors_of(batch(world.space(Linux(), n_pages=2), 2, BASE, [first, second])) == [0, -errno.EBUSY]
    assert memory.decrease_reservation(world.machine, 2, [first]).n_done == 0
    world.check()


def test_a_frame_out_of_the_physmap_stays_with_its_domain() -> None:
    """XENMEM_remove_from_physmap: it can no longer be mapped, yet counts until the domain ends, mapped or not."""
    world = World()
    space = world.space(Linux(), n_pages=2)
    batch(space, 1, BASE, [5, 6])
    total = world.hvm.tot_pages

    p2m.remove(world.machine, 1, 5)
    p2m.remove(world.machine, 1, 7)

    assert errors_of(batch(world.space(Linux(), n_pages=2), 1, BASE, [5, 7])) == [-errno.EINVAL] * 2
    assert not touch(space, BASE, PROT_WRITE).entered
    syscalls.munmap(space, BASE, 2 * PAGE_SIZE)
    assert world.hvm.tot_pages == total
    assert memory.populate(world.machine, 1, [5]).n_done == 1
    world.check()
    assert lifecycle.destroy(world.machine, 1) == "gone"
    world.check()
