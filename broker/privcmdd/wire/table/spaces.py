# SPDX-License-Identifier: Apache-2.0
"""Methods that act in an address space."""

from typing import Final

from privcmdd.wire import limits
from privcmdd.wire.params import Param
from privcmdd.wire.signature import Field, Method
from privcmdd.wire.table.common import ADDR, BAD_RANGE, BYTES_ADDR, LEN, NO_TOUCH, PERSONALITIES, PROT, SPACE

ROWS: Final = (
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
                PERSONALITIES,
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
            SPACE,
            Field("personality", "str", " or ".join(PERSONALITIES)),
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
        result=(SPACE,),
        doc="Foreign mappings are not inherited (inheritance NONE). The new space waits for one connection to attach.",
    ),
    Method(
        "mmap",
        "Reserve a range of the address space.",
        (
            LEN,
            PROT,
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
            Param(
                "private",
                "bool",
                "whether writes go to copies of the caller's own (MAP_PRIVATE); then frames need only be readable",
                False,
            ),
            Param(
                "opened",
                "size",
                "which open file of the device is mapped, by the number that the methods of privcmd have as file; 0: "
                "not told",
                0,
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
        (ADDR, LEN),
        errors={"EINVAL": BAD_RANGE},
        doc="A range with nothing in it is no error, as in munmap(2).",
    ),
    Method(
        "mprotect",
        "Change the protection of a range.",
        (ADDR, LEN, PROT),
        errors={
            "EINVAL": BAD_RANGE,
            "ENOMEM": "part of the range is not mapped",
            "EACCES": "more than the mapping's maximum protection",
        },
    ),
    Method(
        "read",
        "Read bytes through the address space.",
        (BYTES_ADDR, Param("len", "size", "how many", unit="bytes", most=limits.READ_BYTES)),
        (Field("data", "bin", "the bytes"),),
        errors={
            "EFAULT": NO_TOUCH + "; nothing is answered",
            "EINVAL": "len is 0, or the range leaves user addresses",
            "E2BIG": f"more than {limits.READ_BYTES} bytes",
        },
        doc="For clients that cannot receive descriptors; the others map the memory file.",
    ),
    Method(
        "write",
        "Write bytes through the address space.",
        (BYTES_ADDR, Param("data", "bin", "the bytes", unit="bytes", most=limits.READ_BYTES)),
        (Field("n", "int", "bytes written: all", unit="bytes"),),
        errors={
            "EFAULT": NO_TOUCH + "; nothing is written",
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
        errors={"EFAULT": NO_TOUCH + "; nothing changes"},
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
        "space.buffers",
        "Get the file in which the address space keeps its hypercall buffers.",
        result=(Field("size_bytes", "int", "its size", unit="bytes"),),
        errors={"ENOMEM": "the broker has no descriptor left"},
        fds_out=1,
        doc="A memfd of fixed size comes with the answer's first byte. `mmap` with file `hypercall` says which pages "
        "of it to map where. The child of space.fork shares the file of its parent.",
    ),
)
