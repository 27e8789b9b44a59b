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
            Param("dom", "domid", "the domain that may map them; 0: another process of domain 0"),
            Param("num", "u32", "how many pages", unit="pages"),
            Param("writable", "bool", "whether the domain may write to them too", True),
        ),
        (Field("refs", "ints", "the grants' numbers, in the order of the file's pages"),),
        "map",
        {
            **MAPPING_ERRORS,
            "EINVAL": f"num is 0 or more than {MOST}",
            "ENOSPC": f"the uid has {MOST} such pages already",
            "ENOMEM": "the broker has no descriptors left",
        },
        fds_out=1,
        doc="One descriptor comes with the answer: a memory file of these pages and no others, to be mapped shared. "
        "The connection holds the pages until gntalloc.free or its end; a page that is mapped stays as long as it is "
        "mapped.",
    ),
    Method(
        "gntalloc.free",
        "Give up such pages, as their maker or as the other side: IOCTL_GNTALLOC_DEALLOC_GREF.",
        (Param("refs", "ints", "the grants' numbers", most=MOST),),
        (),
        "any",
        {"ENOENT": "the connection does not hold one of them; then none is given up", "E2BIG": f"more than {MOST}"},
        doc="Pages that gntalloc.map holds at an address are given up when that address is unmapped.",
    ),
    Method(
        "gntalloc.notify",
        "Set what is done when the maker of a page gives it up: IOCTL_GNTALLOC_SET_UNMAP_NOTIFY.",
        (
            Param("ref", "u32", "the grant's number"),
            Param("action", "u32", "1 clear a byte, 2 send an event, or-ed; 0: do nothing"),
            Param("offset", "u32", "the byte of the page that is cleared", 0, "bytes"),
            Param("port", "u32", "with action 2: the port of domain 0 whose other end is notified", 0),
        ),
        (),
        "any",
        {
            "ENOENT": "the connection does not hold the page",
            "EINVAL": "there is no such action or port, or offset is past the page",
        },
    ),
    Method(
        "gntalloc.map",
        "Map such pages, on the other side or as their maker.",
        (
            Param("refs", "ints", "the grants' numbers", most=MOST),
            Param("on", "domid", "who maps: 0 a process of domain 0, else this guest, for which the caller acts", 0),
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
            Field("num", "int", "how many of them, from the first on, follow each other in one file; these are mapped"),
            Field("page", "int", "the page of the file where the first of them is", unit="pages"),
            Field("prot", "int", "the protection to map them with"),
        ),
        "map",
        {
            **MAPPING_ERRORS,
            "ENOENT": "there is no such grant",
            "EINVAL": "refs is empty, a grant is not for that domain, or the range is not in a mapping that may hold "
            "them",
            "E2BIG": f"more than {MOST}",
        },
        fds_out=1,
        doc="One descriptor of the memory file comes with the answer; it is open for reading only when the pages may "
        "not be written. Ask again for the rest of refs.",
    ),
)
