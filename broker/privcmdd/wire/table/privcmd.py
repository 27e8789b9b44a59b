# SPDX-License-Identifier: Apache-2.0
"""The devices' ioctls: privcmd and what stands beside it."""

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
                "runs: npages frames from mfn on at va",
                unit="entries",
                most=limits.REQUEST_ENTRIES,
            ),
            ENTRY_NUM,
            EXTENTS,
            FILE,
        ),
        (
            Field("ret", "int", "0"),
            Field("done", "int", "entries mapped: all", unit="entries"),
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
        (DOM, ADDR, ARR, NUM, EXTENTS, FILE),
        (
            RET,
            N_FAILED,
            Field(
                "arr",
                "frames",
                "nil when nothing failed, else the array as the ioctl leaves it: 0xF0000000 or-ed into a "
                "failed "
                "frame, 0x80000000 into one that is paged out",
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
                "false when the caller's array of errors cannot be written, which is EFAULT at its place among the "
                "checks",
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
        "IOCTL_PRIVCMD_RESTRICT: give up all domains but one, for good.",
        (DOM, FILE),
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
            DOM,
            Param("type", "u32", "0 ioreq server, 1 grant table, 2 vmtrace; Xen looks at 16 bits of it"),
            Param("id", "u32", "which one: the ioreq server's, or 0 shared and 1 status frames of the grant table"),
            Param("idx", "u32", "the first frame of it", 0, "frames"),
            Param("num", "size", "how many; 0, together with addr, asks for the size", 0, "frames"),
            Param("addr", "addr", "where; its last 12 bits are dropped", 0, "bytes"),
            EXTENTS,
            FILE,
        ),
        (
            Field("num", "int", "as asked for, or the size", unit="frames"),
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
            FILE,
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
        (DOM, Param("bufs", "bins", "its buffers, the first a struct xen_dm_op", most=limits.NAMES), FILE),
        (
            Field("ret", "int", "what the ioctl returns: 0 or a negative errno"),
            Field("bufs", "bins", "the buffers as they are afterwards"),
        ),
        "map",
        {
            "EPERM": NO_RIGHT,
            "E2BIG": f"more than {limits.DM_OP_BUFFERS} buffers, or one of more than {limits.DM_OP_BYTES} bytes",
        },
        doc="Without buffers it only says whether the request would be allowed: ret is 0. Changes of a domain need "
        "the right to map it writable.",
    ),
)
