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
    LEASE,
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
                "how its frames are named: pv by mfn, hvm and pvh by gfn",
                choices=("pv", "hvm", "pvh"),
            ),
            Param("max_pages", "size", "frames it may hold", unit="pages"),
            Param(
                "ranges",
                "ranges",
                "frames to populate; all from 0 to max_pages when left out",
                None,
                "ranges",
                most=limits.REQUEST_ENTRIES,
            ),
            Param("dom", "domid", "its domain id; a free one when left out", None),
            Param("name", "str", "a name for people", ""),
            Param(
                "until",
                "enum",
                "what it is destroyed with, or destroyed for domain.destroy alone; when left out, the job of the "
                "caller, and destroyed for a caller without a job",
                None,
                "",
                ("connection", "job", "destroyed"),
            ),
            Param("ttl_s", "u32", "after how long it is destroyed in any case; never when left out", None, "s"),
        ),
        (Field("dom", "int", "its domain id"), Field("tot_pages", "int", "frames populated", unit="pages")),
        "admin",
        {
            "EINVAL": "until is job and the caller has none, dom is a number that Xen keeps for itself, ranges "
            "overlap, or a range begins past the last frame that a domain may have",
            "EEXIST": "the domain id is taken",
            "ENOMEM": "more frames than max_pages, than are free, or than a memory file may hold; or too many domains",
            "EPERM": NO_ADMIN,
            "E2BIG": f"more than {limits.REQUEST_ENTRIES} ranges",
        },
    ),
    Method(
        "domain.destroy",
        "Destroy a domain.",
        (DOM,),
        (Field("state", "str", "dying while a frame of the domain is still mapped, else gone"),),
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
        "Describe one domain, and name its frames.",
        (
            DOM,
            Param("start", "size", "first position of the p2m", 0, "pages"),
            Param(
                "num",
                "u32",
                "how many positions to answer; when left out, no frames are answered",
                None,
                "pages",
                most=limits.INFO_FRAMES,
            ),
        ),
        (
            *DOMAIN_ROW,
            LEASE,
            Field(
                "held_pages",
                "int",
                "frames not given back yet; the mapped frames of a dying domain are among them",
                unit="pages",
            ),
            Field("gfn_limit", "int", "the first position after the end of the p2m", unit="pages"),
            GENERATION,
            Field(
                "frames",
                "bin",
                "only with num: for each position the number by which a foreign mapping asks for its frame (gfn for "
                "hvm and pvh, mfn for pv), little-endian u64; 2^64-1 for a hole",
                optional=True,
            ),
        ),
        "map",
        {
            "ESRCH": "there is no such domain",
            "EPERM": NO_RIGHT,
            "E2BIG": f"num is more than {limits.INFO_FRAMES}",
        },
    ),
    Method(
        "domain.memory",
        "Get the memory file of a domain.",
        (DOM, Param("write", "bool", "whether the descriptor is to be writable", False)),
        (Field("size_bytes", "int", "the size of the file", unit="bytes"), GENERATION),
        "map",
        {"ESRCH": NO_DOMAIN, "EPERM": NO_RIGHT, "ENOMEM": "the broker has no descriptors left"},
        fds_out=1,
        doc="One descriptor comes with the first byte of the answer: a memfd, sealed against changes of its size, and "
        "open for reading only unless write is true. The extents of a mapping name pages of this file.",
    ),
    Method(
        "domain.populate",
        "Give a domain frames: populate_physmap.",
        (DOM, Param("arr", "frames", "the gfns (pv: pfns) to populate", unit="frames")),
        (
            Field("done", "int", "frames populated; fewer than asked for when a frame fails", unit="frames"),
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
        (Field("done", "int", "frames taken; fewer than asked for when a frame is not there", unit="frames"), WHY),
        "admin",
        CHANGE_ERRORS,
    ),
    Method(
        "domain.page_out",
        "Page frames out; from then on mapping one of them answers ENOENT.",
        (DOM, Param("arr", "frames", "the frames, named as a mapping names them", unit="frames")),
        (N_FAILED, ERR),
        "admin",
        PAGING_ERRORS,
    ),
    Method(
        "domain.page_in",
        "Page frames in again, with the same contents.",
        (DOM, Param("arr", "frames", "the frames, named as a mapping names them", unit="frames")),
        (N_FAILED, ERR),
        "admin",
        PAGING_ERRORS,
    ),
)
