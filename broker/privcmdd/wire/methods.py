# SPDX-License-Identifier: Apache-2.0
"""THE TABLE: every method of the protocol, and nothing else knows one.

The reference page, the JSON schema, the golden vectors, `describe` and the checks of parameters are all made
from it. Parameters carry the names of the ioctl's own fields where there is an ioctl.
"""

from collections.abc import Mapping
from typing import Final

from privcmdd.wire import limits
from privcmdd.wire.params import Frames, Param, ParamError
from privcmdd.wire.signature import Field, Method, validate

__all__ = [
    "COMMON_ERRORS",
    "FEATURES",
    "METHODS",
    "PROTOCOL",
    "TOPICS",
    "Field",
    "Frames",
    "Method",
    "Param",
    "ParamError",
    "validate",
]

PROTOCOL: Final = 1
"""The protocol spoken; a connection without `hello` speaks 1."""

FEATURES: Final[Mapping[str, str]] = {
    "nvim-errors": 'errors come as [0, "ENAME: text"], the only form that nvim\'s own client prints',
}
"""Names that `hello` may negotiate, and what each turns on."""

TOPICS: Final[Mapping[str, tuple[Field, ...]]] = {
    "domain": (
        Field("dom", "int", "the domain whose state changed"),
        Field("state", "str", "its state now: running, paused, dying or gone"),
    ),
    "space": (
        Field("space", "int", "an address space of the same uid; of any, for who may administer all domains"),
        Field("state", "str", "made or gone"),
        Field("pid", "int", "the process that made it"),
        Field("client", "str", "what that called itself in hello"),
        Field(
            "held",
            "maps",
            "when it is gone: foreign mappings that were still there, at most a thousand",
            fields=(
                Field("start", "int", "first address", unit="bytes"),
                Field("present", "int", "pages with a frame", unit="pages"),
                Field("dom", "int", "whose frames", nullable=True),
                Field("request", "str", "the request that mapped them"),
            ),
        ),
    ),
}
"""Topics of `subscribe`, and the fields of each one's notification."""

COMMON_ERRORS: Final[Mapping[str, str]] = {
    "ENOSYS": "there is no such method",
    "EINVAL": "params is not an array of one map; a key is missing, unknown, of the wrong type or out of "
    "range (details.key names it); fds declares descriptors, and no method of protocol 1 takes any",
    "EIO": "a fault of the broker's own; the connection ends after the answer",
    "EDQUOT": "the caller's uid or connection has used up what it may hold; details name the slot",
}
"""Errors that every method may answer."""

_NO_DOMAIN: Final = "there is no such domain"
_DYING: Final = "the domain is dying: its memory can no longer be changed"
_NO_RIGHT: Final = "the caller has not this right on the domain, or RESTRICT named another domain"
_NO_ADMIN: Final = "the caller has no administration right on the domain"
_PER_FRAME: Final = "Failures of single frames are results, not errors."
_NO_TOUCH: Final = "a page is not mapped, anonymous (the client's own), protected, or its frame failed"
_BAD_RANGE: Final = (
    "len is 0, addr is not page-aligned, the range leaves user addresses, or it would cut a device mapping that "
    "cannot be cut (linux)"
)

_DOM: Final = Param("dom", "domid", "the domain")
_NUM: Final = Param("num", "u32", "number of frames; must be what arr holds", None, "frames")
_ENTRY_NUM: Final = Param("num", "u32", "number of entries; must be what entry holds", None, "entries")
_EXTENTS: Final = Param("extents", "bool", "whether to answer where the good frames lie in the memory file", False)
_ARR: Final = Param(
    "arr",
    "frames",
    "the frames, one a page; nil when the caller's array cannot be read, which is EFAULT at its place among the checks",
    unit="frames",
    nullable=True,
)
_FILE: Final = Param(
    "file",
    "size",
    "which open file of the device asks, by a number of the caller's choice (its inode): RESTRICT is kept for each; "
    "0: the connection itself",
    0,
)
_ADDR: Final = Param("addr", "addr", "first address of the range; a page's first", unit="bytes")
_LEN: Final = Param("len", "size", "length of the range, rounded up to whole pages; not 0", unit="bytes")
_PROT: Final = Param("prot", "prot", "protection")
_BYTES_ADDR: Final = Param("addr", "addr", "first address, aligned or not", unit="bytes")

_EXTENTS_RESULT: Final = Field(
    "extents",
    "extents",
    "only when asked for: the good frames as runs contiguous both in the request and in the memory file",
    optional=True,
)
_PROT_RESULT: Final = Field("prot", "int", "only with extents: the protection to map them with", optional=True)
_GENERATION_RESULT: Final = Field(
    "generation", "int", "only with extents, while the domain lives: as domain.memory says it", optional=True
)
_VOIDS: Final = Field(
    "voids",
    "bin",
    "only with extents, in a PVH dom0 (linux), when frames failed: those as runs, little-endian u32 pairs (first "
    "index, n_pages); in their place lies memory that reads as ones",
    optional=True,
)
_RET: Final = Field(
    "ret", "int", "what the ioctl returns: 0, or -2 (ENOENT) when a frame is paged out, to be asked for again"
)
_N_FAILED: Final = Field("n_failed", "int", "frames that failed", unit="frames")
_WHY: Final = Field(
    "why", "str", "why it stopped at the frame after the last one done; nil when all are", nullable=True
)
_SPACE: Final = Field("space", "int", "the address space's number")
_ERR: Final = Field("err", "errnos", "nil when nothing failed, else one number for each frame asked for", nullable=True)

_DOMAIN_ROW: Final = (
    Field("dom", "int", "its domain id"),
    Field("kind", "str", "pv, hvm or pvh"),
    Field("state", "str", "running, paused or dying"),
    Field("name", "str", "as given to domain.create"),
    Field("tot_pages", "int", "frames it holds", unit="pages"),
    Field("max_pages", "int", "frames it may hold", unit="pages"),
)

_GENERATION: Final = Field(
    "generation", "int", "never the same for two domains while the broker lives, even when their numbers are"
)

_MAPPING_ERRORS: Final = {"EPERM": _NO_RIGHT}

_BATCH_ERRORS: Final = {
    **_MAPPING_ERRORS,
    "EINVAL": "no frames, addr not page-aligned, the range not mapped or not replaceable, num not as arr",
    "EFAULT": "arr is nil, or err_ok false",
    "E2BIG": "more frames than one batch may have",
}

_CHANGE_ERRORS: Final = {
    "ESRCH": _NO_DOMAIN,
    "EPERM": _NO_ADMIN,
    "EINVAL": _DYING,
    "E2BIG": "more frames than one batch may have",
}

_PAGING_ERRORS: Final = {
    **_CHANGE_ERRORS,
    "ENODEV": "the domain is pv, and only hvm and pvh domains can be paged",
}

_TABLE: Final = (
    Method(
        "hello",
        "Say who you are and agree on features; optional.",
        (
            Param("protocol", "ints", "protocols the caller speaks", (PROTOCOL,)),
            Param(
                "features",
                "strs",
                "features the caller would like; unknown ones are left out of the answer",
                (),
            ),
            Param("client", "str", "the caller's name and version, for logs", ""),
        ),
        (
            Field("protocol", "int", "the protocol that both speak"),
            Field("features", "strs", "the features that hold on this connection from the next message on"),
            Field("instance", "str", "this run of the broker; another value means that all state is new"),
            Field("version", "str", "the broker's version"),
            Field("limits", "map", "the limits in force, by name"),
            Field("host", "map", "the host that is simulated: dom0 (pv, pvh), linux, xen (versions)"),
        ),
        errors={"EPROTONOSUPPORT": "none of the caller's protocols is spoken here"},
    ),
    Method(
        "ping",
        "Ask whether the broker answers.",
        result=(Field("instance", "str", "this run of the broker; another value means that all state is new"),),
    ),
    Method(
        "describe",
        "Get this table, for programs.",
        result=(
            Field("protocol", "int", "the protocol described"),
            Field("version", "str", "the broker's version", optional=True),
            Field("features", "map", "name -> what it turns on"),
            Field("topics", "map", "name -> fields of its notification"),
            Field("limits", "map", "the bounds of messages and methods, by name"),
            Field("types", "map", "parameter type -> what it takes"),
            Field("result_types", "map", "result type -> what it holds"),
            Field("errors", "map", "errors that every method may answer: name -> when"),
            Field("methods", "map", "name -> summary, doc, params, result, errors, privilege, fds_out, since"),
        ),
    ),
    Method(
        "stats",
        "Get the broker's counters.",
        open_result=True,
        doc="A map of maps of numbers; names end in their unit. What it holds grows with the broker: look "
        "names up, "
        "do not count on their number.",
    ),
    Method(
        "subscribe",
        "Be told of events, as notifications.",
        (Param("topics", "strs", "topics, of: domain, space"),),
        (Field("topics", "strs", "all that the connection is subscribed to now"),),
        errors={"EINVAL": "a topic is not known"},
        doc="Until then the broker never speaks unasked. A subscriber that does not read loses "
        "notifications, which are counted, and nobody else does.",
    ),
    Method(
        "space.attach",
        "Join an address space, or make one with settings of its own.",
        (
            Param("space", "u32", "the space to join; a new one when left out", None),
            Param(
                "personality",
                "enum",
                "whose rules hold; the configured default when left out",
                None,
                "",
                ("uvm", "linux"),
            ),
            Param(
                "probe",
                "enum",
                "how frames are tried; the configured default when left out",
                None,
                "",
                ("load", "scratch"),
            ),
            Param(
                "merge",
                "bool",
                "whether adjacent entries of one MMAP share an object; the configured default when left out",
                None,
            ),
        ),
        (
            _SPACE,
            Field("personality", "str", "uvm or linux"),
            Field("probe", "str", "load or scratch"),
            Field("merge", "bool", "whether adjacent entries share an object"),
        ),
        errors={
            "ESRCH": "there is no such space",
            "EPERM": "the space belongs to another uid",
            "EBUSY": "the connection already has another space",
            "EINVAL": "a setting differs from what the space to join has",
        },
        doc="A connection that does not attach gets a space of its own, with the configured settings, when "
        "it first "
        "needs one. Connections attached to one space are its threads; when the last goes, all it held is "
        "given back.",
    ),
    Method(
        "space.fork",
        "Copy the connection's address space as fork does.",
        result=(_SPACE,),
        doc="Foreign mappings are not inherited (inheritance NONE). The new space waits for one connection to attach.",
    ),
    Method(
        "mmap",
        "Reserve a range of the address space.",
        (
            _LEN,
            _PROT,
            Param("addr", "addr", "where; a hint unless fixed", 0, "bytes"),
            Param("fixed", "bool", "whether to replace what is at addr", False),
            Param(
                "file",
                "enum",
                "what backs it: anonymous memory, the privcmd or gntdev device, or hypercall buffers (space.buffers); "
                "anon for uvm and privcmd for linux when left out",
                None,
                "",
                ("anon", "privcmd", "hypercall", "gntdev"),
            ),
        ),
        (
            Field("addr", "int", "first address of the range", unit="bytes"),
            Field("page", "int", "only with file hypercall: where it begins in that file", optional=True, unit="pages"),
        ),
        errors={
            "EINVAL": "len is 0, addr is fixed and not page-aligned, or the range leaves user addresses",
            "ENOMEM": "no room",
            "ENODEV": "file is privcmd and the personality uvm, whose device cannot be mapped",
        },
    ),
    Method(
        "munmap",
        "Remove whatever is mapped in a range.",
        (_ADDR, _LEN),
        errors={"EINVAL": _BAD_RANGE},
        doc="A range with nothing in it is no error, as in munmap(2).",
    ),
    Method(
        "mprotect",
        "Change the protection of a range.",
        (_ADDR, _LEN, _PROT),
        errors={
            "EINVAL": _BAD_RANGE,
            "ENOMEM": "part of the range is not mapped",
            "EACCES": "more than the mapping's maximum protection",
        },
    ),
    Method(
        "read",
        "Read bytes through the address space.",
        (_BYTES_ADDR, Param("len", "size", "how many", unit="bytes", most=limits.READ_BYTES)),
        (Field("data", "bin", "the bytes"),),
        errors={
            "EFAULT": _NO_TOUCH + "; nothing is answered",
            "EINVAL": "len is 0, or the range leaves user addresses",
            "E2BIG": f"more than {limits.READ_BYTES} bytes",
        },
        doc="For clients that cannot receive descriptors; the others map the memory file.",
    ),
    Method(
        "write",
        "Write bytes through the address space.",
        (_BYTES_ADDR, Param("data", "bin", "the bytes", unit="bytes", most=limits.READ_BYTES)),
        (Field("n", "int", "bytes written: all", unit="bytes"),),
        errors={
            "EFAULT": _NO_TOUCH + "; nothing is written",
            "EINVAL": "data is empty, or the range leaves user addresses",
            "E2BIG": f"more than {limits.READ_BYTES} bytes",
        },
    ),
    Method(
        "fault",
        "Touch one page, as the processor would.",
        (
            Param("addr", "addr", "an address in the page", unit="bytes"),
            Param("access", "enum", "how it is touched", "read", "", ("read", "write")),
        ),
        (
            Field("dom", "int", "whose frame is there"),
            Field("frame", "int", "the frame's number, as the mapping named it"),
            Field("entered", "bool", "whether this fault entered the page table entry; false when it was there"),
        ),
        errors={"EFAULT": _NO_TOUCH + "; nothing changes"},
    ),
    Method(
        "maps",
        "List the entries of the address space.",
        result=(
            Field(
                "entries",
                "maps",
                "in the order of addresses",
                fields=(
                    Field("start", "int", "first address", unit="bytes"),
                    Field("end", "int", "first address behind", unit="bytes"),
                    Field("prot", "int", "protection"),
                    Field("max_prot", "int", "maximum protection"),
                    Field("inherit", "str", "what a fork's child gets: none, copy or share"),
                    Field("file", "str", "anon, privcmd, hypercall or gntdev"),
                    Field("object", "int", "number of the uvm object; nil without one", nullable=True),
                    Field("dom", "int", "domain whose frames are mapped; nil without", nullable=True),
                    Field("offset", "int", "where in the object it begins", unit="bytes"),
                    Field("wired", "int", "wired count"),
                    Field("present", "int", "pages with a page table entry", unit="pages"),
                    Field("failed", "int", "pages whose frame failed", unit="pages"),
                    Field("request", "str", "the request that mapped frames last; nil without", nullable=True),
                ),
            ),
        ),
    ),
    Method(
        "privcmd.mmap",
        "IOCTL_PRIVCMD_MMAP: map runs of frames at addresses of their own.",
        (
            _DOM,
            Param(
                "entry",
                "entries",
                "runs: npages frames from mfn on at va",
                unit="entries",
                most=limits.REQUEST_ENTRIES,
            ),
            _ENTRY_NUM,
            _EXTENTS,
            _FILE,
        ),
        (
            Field("ret", "int", "0"),
            Field("done", "int", "entries mapped: all", unit="entries"),
            _EXTENTS_RESULT,
            _PROT_RESULT,
            _GENERATION_RESULT,
        ),
        "map",
        {
            **_MAPPING_ERRORS,
            "EINVAL": "an entry has npages 0, leaves user addresses, or names a frame that is not there",
            "ENOENT": "a frame is paged out",
            "ESRCH": "there is no such domain (linux)",
            "E2BIG": f"more than {limits.REQUEST_ENTRIES} entries, or than a batch of frames together",
        },
        doc="Entries are applied in order. The first bad one ends the call, and the earlier ones stay "
        "mapped: the "
        "error's details then carry `entry`, its index, `done`, and `extents` and `prot` of those mapped when "
        "asked for.",
    ),
    Method(
        "privcmd.mmapbatch",
        "IOCTL_PRIVCMD_MMAPBATCH: map single frames over one range, errors in the array.",
        (_DOM, _ADDR, _ARR, _NUM, _EXTENTS, _FILE),
        (
            _RET,
            _N_FAILED,
            Field(
                "arr",
                "frames",
                "nil when nothing failed, else the array as the ioctl leaves it: 0xF0000000 or-ed into a "
                "failed "
                "frame, 0x80000000 into one that is paged out",
                nullable=True,
            ),
            _EXTENTS_RESULT,
            _VOIDS,
            _PROT_RESULT,
            _GENERATION_RESULT,
        ),
        "map",
        _BATCH_ERRORS,
        doc=_PER_FRAME + " The whole range is replaced in one step, or, when the request fails, not at all.",
    ),
    Method(
        "privcmd.mmapbatch_v2",
        "IOCTL_PRIVCMD_MMAPBATCH_V2: map single frames over one range, errors beside the array.",
        (
            _DOM,
            _ADDR,
            _ARR,
            _NUM,
            _EXTENTS,
            _FILE,
            Param(
                "err_ok",
                "bool",
                "false when the caller's array of errors cannot be written, which is EFAULT at its place among the "
                "checks",
                True,
            ),
        ),
        (_RET, _N_FAILED, _ERR, _EXTENTS_RESULT, _VOIDS, _PROT_RESULT, _GENERATION_RESULT),
        "map",
        _BATCH_ERRORS,
        doc=_PER_FRAME + " The whole range is replaced in one step, or, when the request fails, not at all. An error "
        "that comes after the real driver has cleared the caller's array of errors carries `cleared` in its details.",
    ),
    Method(
        "privcmd.restrict",
        "IOCTL_PRIVCMD_RESTRICT: give up all domains but one, for good.",
        (_DOM, _FILE),
        errors={
            "EINVAL": "the connection, or the file, is restricted to another domain",
            "EDQUOT": "the address space has restricted too many files",
        },
        doc="Afterwards a request that names another domain is EPERM, and so is every hypercall. With a file, only "
        "requests that name the same file are meant; a child (space.fork) shares the files of its parent.",
    ),
    Method(
        "privcmd.mmap_resource",
        "IOCTL_PRIVCMD_MMAP_RESOURCE: map a resource of a domain, or ask how large it is.",
        (
            _DOM,
            Param("type", "u32", "0 ioreq server, 1 grant table, 2 vmtrace; Xen looks at 16 bits of it"),
            Param("id", "u32", "which one: the ioreq server's, or 0 shared and 1 status frames of the grant table"),
            Param("idx", "u32", "the first frame of it", 0, "frames"),
            Param("num", "size", "how many; 0, together with addr, asks for the size", 0, "frames"),
            Param("addr", "addr", "where; its last 12 bits are dropped", 0, "bytes"),
            _EXTENTS,
            _FILE,
        ),
        (
            Field("num", "int", "as asked for, or the size", unit="frames"),
            _EXTENTS_RESULT,
            _PROT_RESULT,
            _GENERATION_RESULT,
        ),
        "map",
        {
            **_MAPPING_ERRORS,
            "EINVAL": "only one of addr and num is 0, addr is not mapped from the device, or there is no such frame",
            "ENOENT": "there is no such ioreq server",
            "EOPNOTSUPP": "there is no such type of resource (xen 4.17)",
            "EBUSY": "the domain is dying",
            "ENOMEM": "num is absurd",
        },
        doc="Replaces what is mapped there. The pages lie behind all guest frames in the domain's memory file and do "
        "not count for its tot_pages, but a dying domain stays until the last of them is unmapped.",
    ),
    Method(
        "privcmd.hypercall",
        "IOCTL_PRIVCMD_HYPERCALL: call the hypervisor.",
        (
            Param("op", "size", "the number of the hypercall"),
            Param("arg", "bin", "its five arguments, little-endian u64", unit="bytes", most=limits.HYPERCALL_BYTES),
            _FILE,
            Param("lent_addr", "addr", "where `lent` lies in the caller's memory", 0, "bytes"),
            Param("lent", "bin", "bytes that the hypercall may read there", None, "bytes", most=limits.LENT_BYTES),
        ),
        (
            Field("ret", "int", "what the ioctl returns: a value, or a negative errno"),
            Field("want_addr", "int", "only with -EFAULT: what was to be read begins here", optional=True),
            Field("want_bytes", "int", "only with want_addr: how much it is", optional=True, unit="bytes"),
        ),
        errors={
            "EINVAL": f"arg is not {limits.HYPERCALL_BYTES} bytes",
            "EPERM": "the file, or the connection, is restricted",
        },
        doc="Pointers among the arguments, and inside what they point to, are addresses of the caller's; they must lie "
        "in mappings of file `hypercall`, else the answer is -EFAULT, with what was to be read: the caller may ask "
        "again and lend that. What the caller has no right to is -EPERM, an "
        "operation that is not there -ENOSYS.",
    ),
    Method(
        "privcmd.dm_op",
        "IOCTL_PRIVCMD_DM_OP: a device model's request about its domain.",
        (_DOM, Param("bufs", "bins", "its buffers, the first a struct xen_dm_op", most=limits.NAMES), _FILE),
        (
            Field("ret", "int", "what the ioctl returns: 0 or a negative errno"),
            Field("bufs", "bins", "the buffers as they are afterwards"),
        ),
        "map",
        {
            "EPERM": _NO_RIGHT,
            "E2BIG": f"more than {limits.DM_OP_BUFFERS} buffers, or one of more than {limits.DM_OP_BYTES} bytes",
        },
        doc="Without buffers it only says whether the request would be allowed: ret is 0. Changes of a domain need "
        "the right to map it writable.",
    ),
    Method(
        "gntdev.map",
        "Map grants of a domain, into a mapping of the gntdev device.",
        (
            _DOM,
            Param("addr", "addr", "where, inside a mapping of file gntdev", unit="bytes"),
            Param("arr", "frames", "the grants' numbers, one a page", unit="grants"),
            _EXTENTS,
        ),
        (
            Field("num", "int", "as many as were asked for", unit="frames"),
            _EXTENTS_RESULT,
            _PROT_RESULT,
            _GENERATION_RESULT,
        ),
        "map",
        {
            **_MAPPING_ERRORS,
            "EINVAL": "no grants, the range is no mapping of file gntdev, or one of them is not granted to domain 0",
            "E2BIG": "more grants than one batch may have frames",
        },
        doc="All or none. What the grant table, in the domain's own memory, says when this is asked counts.",
    ),
    Method(
        "space.buffers",
        "Get the file in which the address space keeps its hypercall buffers.",
        result=(Field("size_bytes", "int", "its size", unit="bytes"),),
        errors={"ENOMEM": "the broker has no descriptor left"},
        fds_out=1,
        doc="A memfd of fixed size comes with the answer's first byte. `mmap` with file `hypercall` says which pages "
        "of it to map where. The child of space.fork shares the file of its parent.",
    ),
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
            "EPERM": _NO_ADMIN,
            "E2BIG": f"more than {limits.REQUEST_ENTRIES} ranges",
        },
    ),
    Method(
        "domain.destroy",
        "Destroy a domain.",
        (_DOM,),
        (Field("state", "str", "dying while a frame of it is still mapped, else gone"),),
        "admin",
        {"ESRCH": "there is no such domain", "EPERM": _NO_ADMIN},
    ),
    Method(
        "domain.list",
        "List the domains that the caller has a right to.",
        result=(Field("domains", "maps", "in the order of domain ids", fields=_DOMAIN_ROW),),
    ),
    Method(
        "domain.info",
        "Look at one domain, and at the names of its frames.",
        (
            _DOM,
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
            *_DOMAIN_ROW,
            Field(
                "held_pages",
                "int",
                "frames not given back, mapped ones of a dying domain included",
                unit="pages",
            ),
            Field("gfn_limit", "int", "first position behind the p2m's last", unit="pages"),
            _GENERATION,
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
            "EPERM": _NO_RIGHT,
            "E2BIG": f"num more than {limits.INFO_FRAMES}",
        },
    ),
    Method(
        "domain.memory",
        "Get the domain's memory file.",
        (_DOM, Param("write", "bool", "whether it is to be writable", False)),
        (Field("size_bytes", "int", "its size", unit="bytes"), _GENERATION),
        "map",
        {"ESRCH": _NO_DOMAIN, "EPERM": _NO_RIGHT, "ENOMEM": "the broker has no descriptors left"},
        fds_out=1,
        doc="One descriptor comes with the answer's first byte: a memfd, sealed against changes of its "
        "size, opened "
        "read-only unless write is true. The pages that a mapping's extents name are pages of this file.",
    ),
    Method(
        "domain.populate",
        "Give a domain frames: populate_physmap.",
        (_DOM, Param("arr", "frames", "the gfns (pv: pfns) to populate", unit="frames")),
        (
            Field("done", "int", "frames populated; fewer than asked for when one fails", unit="frames"),
            _WHY,
            Field(
                "frames",
                "bin",
                "the new mfns of a pv domain, little-endian u64; nil for others",
                nullable=True,
            ),
        ),
        "admin",
        _CHANGE_ERRORS,
    ),
    Method(
        "domain.decrease_reservation",
        "Take frames from a domain: ballooning.",
        (_DOM, Param("arr", "frames", "the gfns (pv: mfns) to take", unit="frames")),
        (Field("done", "int", "frames taken; fewer than asked for when one is not there", unit="frames"), _WHY),
        "admin",
        _CHANGE_ERRORS,
    ),
    Method(
        "domain.page_out",
        "Page frames out: mapping one answers ENOENT from then on.",
        (_DOM, Param("arr", "frames", "the frames, named as a mapping names them", unit="frames")),
        (_N_FAILED, _ERR),
        "admin",
        _PAGING_ERRORS,
    ),
    Method(
        "domain.page_in",
        "Page frames in again, their contents as they were.",
        (_DOM, Param("arr", "frames", "the frames, named as a mapping names them", unit="frames")),
        (_N_FAILED, _ERR),
        "admin",
        _PAGING_ERRORS,
    ),
)

METHODS: Final[Mapping[str, Method]] = {method.name: method for method in _TABLE}
"""Every method, by name, in the order of the documentation."""
