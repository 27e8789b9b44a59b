# SPDX-License-Identifier: Apache-2.0
"""Grants of guests: /dev/xen/gntdev."""

from typing import Final

from privcmdd.wire import limits
from privcmdd.wire.params import Param
from privcmdd.wire.signature import Field, Method
from privcmdd.wire.table.common import DOM, EXTENTS, EXTENTS_RESULT, GENERATION_RESULT, MAPPING_ERRORS, PROT_RESULT

MOST: Final = 1024

ROWS: Final = (
    Method(
        "gntdev.map",
        "Map grants of a domain, into a mapping of the gntdev device.",
        (
            DOM,
            Param("addr", "addr", "where, inside a mapping of file gntdev", unit="bytes"),
            Param("arr", "frames", "the grants' numbers, one a page", unit="grants"),
            EXTENTS,
        ),
        (
            Field("num", "int", "the number of grants mapped: all that were asked for", unit="frames"),
            EXTENTS_RESULT,
            PROT_RESULT,
            GENERATION_RESULT,
        ),
        "map",
        {
            **MAPPING_ERRORS,
            "EINVAL": "no grants, the range is not in a mapping of file gntdev, or a grant is not for domain 0",
            "E2BIG": "more grants than one batch may have frames",
        },
        doc="All grants are mapped, or none. The grant table, in the domain's own memory, is read once, at the time of "
        "the request. Until they are unmapped the table says that the grants are in use.",
    ),
    Method(
        "gntdev.copy",
        "Copy bytes from and to grants: IOCTL_GNTDEV_GRANT_COPY.",
        (
            Param(
                "segments",
                "segments",
                "what to copy; flags: 1 the source is a grant, 2 the destination is a grant; an end that is not a "
                "grant is the caller's own memory, and its dom, ref and offset are 0",
                unit="segments",
                most=limits.COPY_SEGMENTS,
            ),
            Param(
                "data",
                "bin",
                "the bytes of the segments whose source is the caller's own memory, one after another",
                None,
            ),
        ),
        (
            Field("status", "ints", "for each segment Xen's GNTST_*: 0, or a negative number"),
            Field(
                "data",
                "bin",
                "the bytes of the segments whose destination is the caller's own memory, one after another; zeros for "
                "a segment that failed",
            ),
            Field("why", "str", "only when a segment failed: which is the first, and why", optional=True),
        ),
        "map",
        {
            **MAPPING_ERRORS,
            "EINVAL": "neither end of a segment is a grant, a segment runs over the end of its page, or data is not as "
            "long as the segments say",
            "E2BIG": f"more than {limits.COPY_SEGMENTS} segments",
        },
        doc="When a segment fails, its status says so, and the others are copied all the same. To copy from a domain "
        "needs the right to map it, to copy to it the right to map it writable.",
    ),
    Method(
        "gntdev.notify",
        "Set what is done when a page of grants is unmapped, in whatever way: IOCTL_GNTDEV_SET_UNMAP_NOTIFY.",
        (
            Param("addr", "addr", "a byte of a page that maps a grant", unit="bytes"),
            Param("action", "u32", "1 clear that byte, 2 send an event, or-ed; 0: do nothing"),
            Param("port", "u32", "with action 2: the port of domain 0 whose other end is notified", 0),
        ),
        (),
        "any",
        {
            "ENOENT": "no grant is mapped there",
            "EINVAL": "there is no such action or port, or the byte is to be cleared and the page is mapped read-only",
        },
        doc="Each page has one such setting: the last. The event is sent even if the port is closed by then.",
    ),
)
