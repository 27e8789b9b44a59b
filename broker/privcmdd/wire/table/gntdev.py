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
            Field("num", "int", "as many as were asked for", unit="frames"),
            EXTENTS_RESULT,
            PROT_RESULT,
            GENERATION_RESULT,
        ),
        "map",
        {
            **MAPPING_ERRORS,
            "EINVAL": "no grants, the range is no mapping of file gntdev, or one of them is not granted to domain 0",
            "E2BIG": "more grants than one batch may have frames",
        },
        doc="All or none. What the grant table, in the domain's own memory, says when this is asked counts. From then "
        "on until they are unmapped it says that they are in use.",
    ),
    Method(
        "gntdev.copy",
        "Copy bytes from and to grants: IOCTL_GNTDEV_GRANT_COPY.",
        (
            Param(
                "segments",
                "segments",
                "what to copy; flags: 1 the source is a grant, 2 the destination is one; an end that is none is the "
                "caller's own memory, and its numbers are 0",
                unit="segments",
                most=limits.COPY_SEGMENTS,
            ),
            Param("data", "bin", "bytes of the segments whose source is the caller's own, one after another", None),
        ),
        (
            Field("status", "ints", "of each segment Xen's GNTST_*: 0, or a negative number"),
            Field(
                "data",
                "bin",
                "the bytes of those segments whose destination is the caller's own, one after another; zeros for one "
                "that failed",
            ),
        ),
        "map",
        {
            **MAPPING_ERRORS,
            "EINVAL": "neither end of a segment is a grant, one runs over the end of its page, or data is not as long "
            "as the segments say",
            "E2BIG": f"more than {limits.COPY_SEGMENTS} segments",
        },
        doc="A segment that fails has a status and keeps none of the others from being copied. Copying from a domain "
        "needs the right to map it, copying to it the right to map it writable.",
    ),
    Method(
        "gntdev.notify",
        "Say what is to be done when a page of grants is unmapped, however: IOCTL_GNTDEV_SET_UNMAP_NOTIFY.",
        (
            Param("addr", "addr", "a byte of a page that maps a grant", unit="bytes"),
            Param("action", "u32", "1 clear that byte, 2 send an event, or-ed; 0 nothing any more"),
            Param("port", "u32", "with action 2: the port of domain 0 whose other end is notified", 0),
        ),
        (),
        "any",
        {
            "ENOENT": "no grant is mapped there",
            "EINVAL": "there is no such action or port, or the byte is to be cleared and the page mapped read-only",
        },
        doc="One for each page, the last counts. The event is sent though the port may be closed by then.",
    ),
)
