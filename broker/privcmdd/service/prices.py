# SPDX-License-Identifier: Apache-2.0
"""How much memory of the host a request may cost at most, roughly, before it is done.

Only a broker whose memory is bounded asks (``server/headroom.py``): a request that does not fit is refused with ENOMEM
instead of being what the broker is killed for. Whatever gives something back, or only looks, is always done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from privcmdd.service.session import Session

REQUEST_BYTES: Final = 1024
"""A request that makes one thing: an entry, a port, a rule."""

LIST_FACTOR: Final = 8
"""A frame number has 8 bytes in the request; while it is worked on, and as a page that is present, it has 64."""

PAGE_BYTES: Final = 16
"""A guest's page in the tables of the machine."""

ENTRY_BYTES: Final = 1024
"""A map entry with its object; a fork copies all of them."""

SEGMENT_BYTES: Final = 4096
"""A segment of a copy writes one page of a memory file."""

FREE: Final = frozenset({
    "hello", "ping", "health", "describe", "subscribe", "stats", "hand_over", "job.list", "evict",
    "munmap", "maps", "space.list", "evtchn.close", "evtchn.notify", "evtchn.pending", "evtchn.list", "gntalloc.free",
    "domain.destroy", "domain.list", "domain.info", "domain.decrease_reservation", "domain.page_out",
    "ioreq.servers", "guest.interrupts", "faults.list", "faults.clear", "findings.list", "findings.clear",
})  # fmt: skip
"""Methods that cost nothing that lasts."""


def price(session: Session, method: str, params: Any) -> int:
    """What a request may cost, in bytes.

    Args:
        session: Who asks.
        method: The request's method.
        params: Its parameters, checked.
    """
    if method in FREE:
        return 0
    total = REQUEST_BYTES
    for key, value in params.items():
        if isinstance(value, bytes | memoryview):
            total += LIST_FACTOR * len(value)
        elif key == "ranges":
            total += PAGE_BYTES * sum(row["npages"] for row in value or ())
        elif key == "segments":
            total += SEGMENT_BYTES * len(value)
        elif key == "num" or (key == "len" and method == "read"):
            total += value or 0
        elif hasattr(value, "__len__"):
            total += LIST_FACTOR * LIST_FACTOR * len(value)
    if method == "space.fork" and session.residence is not None:
        total += ENTRY_BYTES * len(session.residence.space.map)
    return total
