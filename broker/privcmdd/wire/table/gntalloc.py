# SPDX-License-Identifier: Apache-2.0
"""Pages of domain 0 that other domains may map: /dev/xen/gntalloc."""

from typing import Final

from privcmdd.wire.params import Param
from privcmdd.wire.signature import Field, Method
from privcmdd.wire.table.common import MAPPING_ERRORS

MOST: Final = 1024

ROWS: Final = (
    Method(
        "gntalloc.alloc",
        "Make pages that another domain may map: IOCTL_GNTALLOC_ALLOC_GREF.",
        (
            Param("dom", "domid", "the domain that may map them; 0 another process here"),
            Param("num", "u32", "how many", unit="pages"),
            Param("writable", "bool", "whether it may write to them too", True),
        ),
        (Field("refs", "ints", "the grants' numbers, in the order of the file's pages"),),
        "map",
        {
            **MAPPING_ERRORS,
            "EINVAL": f"num is 0 or more than {MOST}",
            "ENOSPC": f"the uid has {MOST} such pages",
            "ENOMEM": "the broker has no descriptors left",
        },
        fds_out=1,
        doc="One descriptor comes with the answer: the memory file, of these pages and no others, to be mapped shared. "
        "The connection holds the pages until gntalloc.free or its end; who has them mapped keeps them longer.",
    ),
    Method(
        "gntalloc.free",
        "Give such pages up, on either side: IOCTL_GNTALLOC_DEALLOC_GREF.",
        (Param("refs", "ints", "the grants' numbers", most=MOST),),
        (),
        "any",
        {"ENOENT": "one of them is none of this connection's; all stay", "E2BIG": f"more than {MOST}"},
        doc="What gntalloc.map holds at an address goes when that is unmapped.",
    ),
    Method(
        "gntalloc.notify",
        "Set what is done when its maker gives a page up: IOCTL_GNTALLOC_SET_UNMAP_NOTIFY.",
        (
            Param("ref", "u32", "the grant's number"),
            Param("action", "u32", "1 clear a byte, 2 send an event, or-ed; 0 nothing any more"),
            Param("offset", "u32", "which byte of the page", 0, "bytes"),
            Param("port", "u32", "with action 2: the port of domain 0 whose other end is notified", 0),
        ),
        (),
        "any",
        {
            "ENOENT": "the page is none of this connection's",
            "EINVAL": "there is no such action or port, or offset is past the page",
        },
    ),
    Method(
        "gntalloc.map",
        "Map such pages, on the other side or as their maker.",
        (
            Param("refs", "ints", "the grants' numbers", most=MOST),
            Param("on", "domid", "who maps: 0 a process here, else a guest, on whose behalf this is done", 0),
            Param(
                "addr",
                "addr",
                "inside a mapping of file gntdev; 0: the connection holds them instead",
                0,
                "bytes",
            ),
            Param("own", "bool", "whether to hold them as their maker", False),
        ),
        (
            Field("num", "int", "how many of them, from the first on: those that follow each other in one file"),
            Field("page", "int", "the page of the file that the first is", unit="pages"),
            Field("prot", "int", "what they may be mapped for"),
        ),
        "map",
        {
            **MAPPING_ERRORS,
            "ENOENT": "there is no such grant",
            "EINVAL": "refs is empty, one is not granted to that domain, or the range is no mapping that may hold them",
            "E2BIG": f"more than {MOST}",
        },
        fds_out=1,
        doc="One descriptor comes with the answer, the memory file; one to be read only when they may not be written. "
        "Ask again for what is left.",
    ),
)
