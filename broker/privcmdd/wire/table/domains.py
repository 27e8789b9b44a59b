# SPDX-License-Identifier: Apache-2.0
"""Methods that make, look at and change domains."""

from typing import Final

from privcmdd.wire import limits
from privcmdd.wire.params import Param
from privcmdd.wire.signature import Field, Method
from privcmdd.wire.table.common import (
    CHANGE_ERRORS,
    DOM,
    DOMAIN_ROW,
    ERR,
    GENERATION,
    N_FAILED,
    NO_ADMIN,
    NO_DOMAIN,
    NO_RIGHT,
    PAGING_ERRORS,
    WHY,
)

ROWS: Final = (
    Method(
        "domain.create",
        "Make a domain, its memory populated.",
        (
            Param(
                "kind",
                "enum",
                "how frames are named: pv by mfn, hvm and pvh by gfn",
                choices=("pv", "hvm", "pvh"),
            ),
            Param("max_pages", "size", "frames it may hold", unit="pages"),
            Param(
                "ranges",
                "ranges",
                "frames to populate; 0 to max_pages when left out",
                None,
                "ranges",
                most=limits.REQUEST_ENTRIES,
            ),
            Param("dom", "domid", "its domain id; a free one when left out", None),
            Param("name", "str", "a name for people", ""),
        ),
        (Field("dom", "int", "its domain id"), Field("tot_pages", "int", "frames populated", unit="pages")),
        "admin",
        {
            "EINVAL": "dom is one of Xen's own numbers, ranges overlap, or one begins past what a domain may have",
            "EEXIST": "the domain id is taken",
            "ENOMEM": "more than max_pages, than there is free, than a memory file may hold, or too many domains",
            "EPERM": NO_ADMIN,
            "E2BIG": f"more than {limits.REQUEST_ENTRIES} ranges",
        },
    ),
    Method(
        "domain.destroy",
        "Destroy a domain.",
        (DOM,),
        (Field("state", "str", "dying while a frame of it is still mapped, else gone"),),
        "admin",
        {"ESRCH": "there is no such domain", "EPERM": NO_ADMIN},
    ),
    Method(
        "domain.list",
        "List the domains that the caller has a right to.",
        result=(Field("domains", "maps", "in the order of domain ids", fields=DOMAIN_ROW),),
    ),
    Method(
        "domain.info",
        "Look at one domain, and at the names of its frames.",
        (
            DOM,
            Param("start", "size", "first position of the p2m", 0, "pages"),
            Param(
                "num",
                "u32",
                "how many positions to answer; no frames when left out",
                None,
                "pages",
                most=limits.INFO_FRAMES,
            ),
        ),
        (
            *DOMAIN_ROW,
            Field(
                "held_pages",
                "int",
                "frames not given back, mapped ones of a dying domain included",
                unit="pages",
            ),
            Field("gfn_limit", "int", "first position behind the p2m's last", unit="pages"),
            GENERATION,
            Field(
                "frames",
                "bin",
                "only with num: little-endian u64 names by which a foreign mapping asks for each position "
                "(gfn for "
                "hvm and pvh, mfn for pv), 2^64-1 for a hole",
                optional=True,
            ),
        ),
        "map",
        {
            "ESRCH": "there is no such domain",
            "EPERM": NO_RIGHT,
            "E2BIG": f"num more than {limits.INFO_FRAMES}",
        },
    ),
    Method(
        "domain.memory",
        "Get the domain's memory file.",
        (DOM, Param("write", "bool", "whether it is to be writable", False)),
        (Field("size_bytes", "int", "its size", unit="bytes"), GENERATION),
        "map",
        {"ESRCH": NO_DOMAIN, "EPERM": NO_RIGHT, "ENOMEM": "the broker has no descriptors left"},
        fds_out=1,
        doc="One descriptor comes with the answer's first byte: a memfd, sealed against changes of its "
        "size, opened "
        "read-only unless write is true. The pages that a mapping's extents name are pages of this file.",
    ),
    Method(
        "domain.populate",
        "Give a domain frames: populate_physmap.",
        (DOM, Param("arr", "frames", "the gfns (pv: pfns) to populate", unit="frames")),
        (
            Field("done", "int", "frames populated; fewer than asked for when one fails", unit="frames"),
            WHY,
            Field(
                "frames",
                "bin",
                "the new mfns of a pv domain, little-endian u64; nil for others",
                nullable=True,
            ),
        ),
        "admin",
        CHANGE_ERRORS,
    ),
    Method(
        "domain.decrease_reservation",
        "Take frames from a domain: ballooning.",
        (DOM, Param("arr", "frames", "the gfns (pv: mfns) to take", unit="frames")),
        (Field("done", "int", "frames taken; fewer than asked for when one is not there", unit="frames"), WHY),
        "admin",
        CHANGE_ERRORS,
    ),
    Method(
        "domain.page_out",
        "Page frames out: mapping one answers ENOENT from then on.",
        (DOM, Param("arr", "frames", "the frames, named as a mapping names them", unit="frames")),
        (N_FAILED, ERR),
        "admin",
        PAGING_ERRORS,
    ),
    Method(
        "domain.page_in",
        "Page frames in again, their contents as they were.",
        (DOM, Param("arr", "frames", "the frames, named as a mapping names them", unit="frames")),
        (N_FAILED, ERR),
        "admin",
        PAGING_ERRORS,
    ),
)
