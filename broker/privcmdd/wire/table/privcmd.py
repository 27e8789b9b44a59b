# SPDX-License-Identifier: Apache-2.0
"""The ioctls of /dev/xen/privcmd, and those that none of the devices has."""

from typing import Final

from privcmdd.wire import limits
from privcmdd.wire.params import Param
from privcmdd.wire.signature import Field, Method
from privcmdd.wire.table.common import (
    ADDR,
    ARR,
    BATCH_ERRORS,
    DOM,
    ENTRY_NUM,
    ERR,
    EXTENTS,
    EXTENTS_RESULT,
    FILE,
    GENERATION_RESULT,
    MAPPING_ERRORS,
    N_FAILED,
    NO_RIGHT,
    NUM,
    PER_FRAME,
    PROT_RESULT,
    RET,
    VOIDS,
)

ROWS: Final = (
    Method(
        "privcmd.mmap",
        "IOCTL_PRIVCMD_MMAP: map runs of frames at addresses of their own.",
        (
            DOM,
            Param(
                "entry",
                "entries",
                "runs: npages frames, from mfn on, mapped at va",
                unit="entries",
                most=limits.REQUEST_ENTRIES,
            ),
            ENTRY_NUM,
            EXTENTS,
            FILE,
        ),
        (
            Field("ret", "int", "0"),
            Field("done", "int", "entries mapped: all of them", unit="entries"),
            EXTENTS_RESULT,
            PROT_RESULT,
            GENERATION_RESULT,
        ),
        "map",
        {
            **MAPPING_ERRORS,
            "EINVAL": "an entry has npages 0, leaves user addresses, or names a frame that is not there",
            "ENOENT": "a frame is paged out",
            "ESRCH": "there is no such domain (linux)",
            "E2BIG": f"more than {limits.REQUEST_ENTRIES} entries, or together more frames than one batch may have",
        },
        doc="Entries are applied in order. The first bad entry ends the call, and the entries before it stay mapped. "
        "The details of the error then have `entry`, the index of the bad entry, `done`, and, when asked for, "
        "`extents` and `prot` of the entries that are mapped.",
    ),
    Method(
        "privcmd.mmapbatch",
        "IOCTL_PRIVCMD_MMAPBATCH: map single frames over one range, errors in the array.",
        (DOM, ADDR, ARR, NUM, EXTENTS, FILE),
        (
            RET,
            N_FAILED,
            Field(
                "arr",
                "frames",
                "nil when nothing failed, else the array as the ioctl leaves it: 0xF0000000 or-ed into a failed frame, "
                "0x80000000 into a frame that is paged out",
                nullable=True,
            ),
            EXTENTS_RESULT,
            VOIDS,
            PROT_RESULT,
            GENERATION_RESULT,
        ),
        "map",
        BATCH_ERRORS,
        doc=PER_FRAME + " The whole range is replaced in one step, or, when the request fails, not at all.",
    ),
    Method(
        "privcmd.mmapbatch_v2",
        "IOCTL_PRIVCMD_MMAPBATCH_V2: map single frames over one range, errors beside the array.",
        (
            DOM,
            ADDR,
            ARR,
            NUM,
            EXTENTS,
            FILE,
            Param(
                "err_ok",
                "bool",
                "false when the caller's array of errors cannot be written; the answer is then EFAULT, at the place of "
                "this check among the others",
                True,
            ),
        ),
        (RET, N_FAILED, ERR, EXTENTS_RESULT, VOIDS, PROT_RESULT, GENERATION_RESULT),
        "map",
        BATCH_ERRORS,
        doc=PER_FRAME + " The whole range is replaced in one step, or, when the request fails, not at all. An error "
        "that comes after the real driver has cleared the caller's array of errors carries `cleared` in its details.",
    ),
    Method(
        "privcmd.restrict",
        "IOCTL_PRIVCMD_RESTRICT: give up all domains but one; this cannot be undone.",
        (DOM, FILE),
        errors={
            "EINVAL": "the connection, or the file, is restricted to another domain already",
            "EDQUOT": "the uid has restricted too many files",
        },
        doc="Afterwards a request that names another domain is answered EPERM, and so is every hypercall. With a file, "
        "this applies only to requests that name the same file; a child (space.fork) shares the files of its parent.",
    ),
    Method(
        "privcmd.mmap_resource",
        "IOCTL_PRIVCMD_MMAP_RESOURCE: map a resource of a domain, or ask how large it is.",
        (
            DOM,
            Param("type", "u32", "0 ioreq server, 1 grant table, 2 vmtrace; Xen looks at 16 bits of it"),
            Param(
                "id",
                "u32",
                "which resource: the id of the ioreq server; for the grant table 0 shared frames, 1 status frames",
            ),
            Param("idx", "u32", "the first of its frames", 0, "frames"),
            Param("num", "size", "how many frames; 0, together with addr 0, asks for the size", 0, "frames"),
            Param("addr", "addr", "where to map them; its last 12 bits are dropped", 0, "bytes"),
            EXTENTS,
            FILE,
        ),
        (
            Field("num", "int", "the number of frames mapped, or the size", unit="frames"),
            EXTENTS_RESULT,
            PROT_RESULT,
            GENERATION_RESULT,
        ),
        "map",
        {
            **MAPPING_ERRORS,
            "EINVAL": "only one of addr and num is 0, addr is not mapped from the device, or there is no such frame",
            "ENOENT": "there is no such ioreq server",
            "EOPNOTSUPP": "there is no such type of resource (xen 4.17)",
            "EBUSY": "the domain is dying",
            "ENOMEM": "num is too large for the real driver to take memory for",
        },
        doc="This replaces what is mapped there. The pages are behind all guest frames in the domain's memory file and "
        "do not count in its tot_pages, but a dying domain stays until the last of them is unmapped.",
    ),
    Method(
        "privcmd.hypercall",
        "IOCTL_PRIVCMD_HYPERCALL: call the hypervisor.",
        (
            Param("op", "size", "the number of the hypercall"),
            Param("arg", "bin", "its five arguments, little-endian u64", unit="bytes", most=limits.HYPERCALL_BYTES),
            FILE,
            Param("lent_addr", "addr", "the address of `lent` in the caller's memory", 0, "bytes"),
            Param(
                "lent", "bin", "bytes that the hypercall may read at lent_addr", None, "bytes", most=limits.LENT_BYTES
            ),
        ),
        (
            Field("ret", "int", "what the ioctl returns: a value, or a negative errno"),
            Field(
                "want_addr", "int", "only with -EFAULT: the address of the bytes that could not be read", optional=True
            ),
            Field("want_bytes", "int", "only with want_addr: how many bytes they are", optional=True, unit="bytes"),
            Field(
                "why",
                "str",
                "only when something was refused: the errno, the operation, its domain and the reason, for people; in "
                "a multicall of the first call that was refused",
                optional=True,
            ),
        ),
        errors={
            "EINVAL": f"arg is not {limits.HYPERCALL_BYTES} bytes",
            "EPERM": "the file, or the connection, is restricted",
        },
        doc="Pointers among the arguments, and in the structures that they point to, are addresses in the caller's "
        "address space; they must be in mappings of file `hypercall`. Else the answer is -EFAULT and says which bytes "
        "were to be read: the caller may ask again and lend them. An operation that the caller has no right to is "
        "-EPERM, an operation that the broker does not have -ENOSYS.",
    ),
    Method(
        "privcmd.dm_op",
        "IOCTL_PRIVCMD_DM_OP: a device model's request about its domain.",
        (
            DOM,
            Param("bufs", "bins", "the buffers of the request; the first is a struct xen_dm_op", most=limits.NAMES),
            FILE,
        ),
        (
            Field("ret", "int", "what the ioctl returns: 0 or a negative errno"),
            Field("bufs", "bins", "the buffers, as they are after the request"),
            Field("why", "str", "only when ret is negative: the errno, the request and the reason", optional=True),
        ),
        "map",
        {
            "EPERM": NO_RIGHT,
            "E2BIG": f"more than {limits.DM_OP_BUFFERS} buffers, or one of more than {limits.DM_OP_BYTES} bytes",
        },
        doc="Without buffers the answer only says whether such a request is allowed: ret is 0. Requests that change a "
        "domain need the right to map it writable.",
    ),
    Method(
        "privcmd.unknown_ioctl",
        "An ioctl that a device does not have: refuse it as its driver does, and count it.",
        (
            Param("device", "enum", "the device", choices=("privcmd", "gntdev", "gntalloc", "evtchn")),
            Param("number", "u32", "the number of the ioctl"),
        ),
        (
            Field("ret", "int", "what the ioctl returns: -25 (ENOTTY), of evtchn -38 (ENOSYS)"),
            Field("why", "str", "the errno, the device and the ioctl, for people"),
        ),
        doc="A client that stands in for the devices asks this for each ioctl that it does not know, so that `stats` "
        "counts it among what was not answered.",
    ),
)
