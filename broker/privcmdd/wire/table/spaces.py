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
                "the personality; the configured default when left out",
                None,
                "",
                PERSONALITIES,
            ),
            Param(
                "probe",
                "enum",
                "how frames are probed; the configured default when left out",
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
            "EINVAL": "a setting differs from that of the space to join",
        },
        doc="A connection that does not attach gets a new space, with the configured settings, when it first needs "
        "one. Connections attached to one space are like threads of a process; when the last of them ends, all that "
        "the space holds is given back.",
    ),
    Method(
        "space.fork",
        "Copy the connection's address space, as a fork does.",
        result=(SPACE,),
        doc="Foreign mappings are not inherited (inheritance NONE). The new space waits for one connection to attach.",
    ),
    Method(
        "space.list",
        "List who maps what: the address spaces, and the domains whose frames each has mapped.",
        (Param("dom", "domid", "only mappings of this domain; all when left out", None),),
        (
            Field(
                "spaces",
                "maps",
                "a row for each domain that a space has mapped, in the order of spaces and domains; without dom a "
                "space that has mapped none has one row too",
                fields=(
                    Field("space", "int", "number of the address space"),
                    Field("uid", "int", "the uid that it belongs to"),
                    Field("pid", "int", "the process that made it, as the kernel named it"),
                    Field("client", "str", "what that process called itself in hello"),
                    Field("job", "str", "the job that it belongs to; empty for none"),
                    Field("personality", "str", " or ".join(PERSONALITIES)),
                    Field("threads", "int", "connections that live in it"),
                    Field("dom", "int", "the domain; nil when the space has mapped none", nullable=True),
                    Field("entries", "int", "map entries with frames of the domain"),
                    Field("present", "int", "pages with a page table entry", unit="pages"),
                    Field("writable", "int", "those of them that lie in entries which allow writes", unit="pages"),
                    Field("failed", "int", "pages whose frame failed", unit="pages"),
                ),
            ),
        ),
        doc="A client sees the spaces of its own uid, or in a job those of that job; outside, a client that may "
        "administer all domains sees all. After "
        "`privcmd.restrict` it sees mappings of the domain that is left to it.",
    ),
    Method(
        "mmap",
        "Reserve a range of the address space.",
        (
            LEN,
            PROT,
            Param("addr", "addr", "where; only a hint unless fixed is true", 0, "bytes"),
            Param("fixed", "bool", "whether to replace what is at addr", False),
            Param(
                "file",
                "enum",
                "what backs the range: anonymous memory, the privcmd or gntdev device, or hypercall buffers "
                "(space.buffers); anon for uvm and privcmd for linux when left out",
                None,
                "",
                ("anon", "privcmd", "hypercall", "gntdev"),
            ),
            Param(
                "private",
                "bool",
                "whether writes go to private copies (MAP_PRIVATE); then frames need only be readable",
                False,
            ),
            Param(
                "opened",
                "size",
                "which open file of the device is mapped, by the number that is the parameter file of the methods "
                "privcmd.*; 0: not known",
                0,
            ),
        ),
        (
            Field("addr", "int", "first address of the range", unit="bytes"),
            Field(
                "page",
                "int",
                "only with file hypercall: the first page of the range in that file",
                optional=True,
                unit="pages",
            ),
        ),
        errors={
            "EINVAL": "len is 0, addr is fixed and not page-aligned, or the range leaves user addresses",
            "ENOMEM": "there is no room",
            "ENODEV": "file is privcmd and the personality is uvm, where the device cannot be mapped",
        },
    ),
    Method(
        "munmap",
        "Unmap all that is mapped in a range.",
        (ADDR, LEN),
        errors={"EINVAL": BAD_RANGE},
        doc="A range in which nothing is mapped is not an error, as in munmap(2).",
    ),
    Method(
        "mprotect",
        "Change the protection of a range.",
        (ADDR, LEN, PROT),
        errors={
            "EINVAL": BAD_RANGE,
            "ENOMEM": "part of the range is not mapped",
            "EACCES": "prot is more than the maximum protection of the mapping",
        },
    ),
    Method(
        "read",
        "Read bytes through the address space.",
        (BYTES_ADDR, Param("len", "size", "how many bytes", unit="bytes", most=limits.READ_BYTES)),
        (Field("data", "bin", "the bytes"),),
        errors={
            "EFAULT": NO_TOUCH + "; nothing is answered",
            "EINVAL": "len is 0, or the range leaves user addresses",
            "E2BIG": f"more than {limits.READ_BYTES} bytes",
        },
        doc="For clients that cannot receive descriptors; other clients map the memory file.",
    ),
    Method(
        "write",
        "Write bytes through the address space.",
        (BYTES_ADDR, Param("data", "bin", "the bytes", unit="bytes", most=limits.READ_BYTES)),
        (Field("n", "int", "bytes written: all of them", unit="bytes"),),
        errors={
            "EFAULT": NO_TOUCH + "; nothing is written",
            "EINVAL": "data is empty, or the range leaves user addresses",
            "E2BIG": f"more than {limits.READ_BYTES} bytes",
        },
    ),
    Method(
        "fault",
        "Touch one page, as a processor does.",
        (
            Param("addr", "addr", "an address in the page", unit="bytes"),
            Param("access", "enum", "how it is touched", "read", "", ("read", "write")),
        ),
        (
            Field("dom", "int", "the domain whose frame is mapped there"),
            Field("frame", "int", "the frame's number, as the mapping named it"),
            Field(
                "entered",
                "bool",
                "whether this page fault made the page table entry; false when the entry was there already",
            ),
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
                    Field("end", "int", "the address after the last", unit="bytes"),
                    Field("prot", "int", "protection"),
                    Field("max_prot", "int", "maximum protection"),
                    Field("inherit", "str", "what a fork's child gets: none, copy or share"),
                    Field("file", "str", "anon, privcmd, hypercall or gntdev"),
                    Field("object", "int", "number of the uvm object; nil when there is none", nullable=True),
                    Field("dom", "int", "domain whose frames are mapped; nil when there is none", nullable=True),
                    Field("offset", "int", "offset in the object at which the entry begins", unit="bytes"),
                    Field("wired", "int", "wired count"),
                    Field("present", "int", "pages with a page table entry", unit="pages"),
                    Field("failed", "int", "pages whose frame failed", unit="pages"),
                    Field(
                        "request",
                        "str",
                        "the last request that mapped frames here; nil when there was none",
                        nullable=True,
                    ),
                ),
            ),
        ),
    ),
    Method(
        "space.buffers",
        "Get the file that holds the hypercall buffers of the address space.",
        result=(Field("size_bytes", "int", "the size of the file", unit="bytes"),),
        errors={"ENOMEM": "the broker has no descriptor left"},
        fds_out=1,
        doc="A memfd of fixed size comes with the first byte of the answer. `mmap` with file `hypercall` says which "
        "pages of it to map where. The child of space.fork shares the file of its parent.",
    ),
)
