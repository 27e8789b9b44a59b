# SPDX-License-Identifier: Apache-2.0
"""What a request may cost is known before it is done; giving back costs nothing."""

from __future__ import annotations

from privcmdd.service.prices import ENTRY_BYTES, FREE, LIST_FACTOR, PAGE_BYTES, REQUEST_BYTES, SEGMENT_BYTES, price
from privcmdd.wire.methods import METHODS
from support.desk import BASE, PAGE, Desk, frames


def test_what_is_free_exists_and_everything_else_costs() -> None:
    """A method that is new costs something until somebody says that it gives back or only looks."""
    session = Desk().connect()
    assert set(METHODS) >= FREE
    assert {"evict", "domain.destroy", "munmap", "job.list", "stats"} <= FREE  # by these memory comes back
    for method in METHODS:
        assert (price(session, method, {}) == 0) == (method in FREE)


def test_the_price_grows_with_what_is_asked_for() -> None:
    """Frames, bytes, pages of a new guest, segments of a copy, and the entries that a fork copies."""
    at = Desk()
    session = at.connect()
    for n in (1, 1_000, 1_000_000):
        assert price(session, "domain.create", {"ranges": [{"gfn": 7, "npages": n}]}) == REQUEST_BYTES + PAGE_BYTES * n
        assert price(session, "write", {"data": bytes(n)}) == REQUEST_BYTES + LIST_FACTOR * n
        assert price(session, "read", {"len": n}) == REQUEST_BYTES + n
    assert price(session, "gntdev.copy", {"segments": [{}] * 9}) == REQUEST_BYTES + 9 * SEGMENT_BYTES
    assert price(session, "domain.create", {"ranges": None}) == REQUEST_BYTES
    assert price(session, "privcmd.mmapbatch", {"arr": frames(*range(500))}) >= REQUEST_BYTES + 500 * 8 * LIST_FACTOR
    for number in range(5):
        at.reserve(session, 1, BASE + 2 * number * PAGE)
    assert price(session, "space.fork", {}) == REQUEST_BYTES + 5 * ENTRY_BYTES
