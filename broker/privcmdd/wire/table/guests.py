# SPDX-License-Identifier: Apache-2.0
"""Methods for a program that plays a guest: where the guest's requests go, which interrupts it gets."""

from typing import Final

from privcmdd.wire.params import Param
from privcmdd.wire.signature import Field, Method
from privcmdd.wire.table.common import DOM, NO_DOMAIN, NO_RIGHT

ROWS: Final = (
    Method(
        "ioreq.servers",
        "List the ioreq servers of a domain: which device model emulates what.",
        (DOM,),
        (
            Field(
                "servers",
                "maps",
                "in the order of their numbers; of servers that emulate the same, Xen asks the highest",
                fields=(
                    Field("id", "int", "its number, the `id` of privcmd.mmap_resource for its pages"),
                    Field("enabled", "bool", "whether requests go to it"),
                    Field("bufioreq", "int", "how it takes buffered requests: 0 not at all, 1 legacy, 2 atomic"),
                    Field("bufioreq_port", "int", "the guest's port for them, or 0"),
                    Field("ports", "ints", "the guest's port for each vcpu's requests"),
                    Field(
                        "ranges",
                        "map",
                        "`port`, `memory` and `pci`: ranges as pairs of first and last; a PCI function is segment << "
                        "16 | bus << 8 | device << 3 | function",
                    ),
                ),
            ),
        ),
        "map",
        {"ESRCH": NO_DOMAIN, "EPERM": NO_RIGHT},
    ),
    Method(
        "guest.interrupts",
        "Get the interrupt lines of a domain.",
        (DOM, Param("after", "u32", "MSIs up to this number are left out", 0)),
        (
            Field("n_changes", "int", "how often any of this has changed"),
            Field("isa", "ints", "ISA interrupts that are asserted, directly or through a PCI link"),
            Field(
                "intx",
                "maps",
                "asserted pins of PCI devices",
                fields=(Field("device", "int", "the device's number"), Field("pin", "int", "0 is INTA")),
            ),
            Field("routes", "ints", "the ISA interrupt that each of the four PCI links leads to, or 0"),
            Field(
                "msis",
                "maps",
                "the last 256 message-signalled interrupts",
                fields=(
                    Field("number", "int", "from 1 on"),
                    Field("address", "int", "the address it was written to"),
                    Field("data", "int", "the value written"),
                ),
            ),
        ),
        "map",
        {"ESRCH": NO_DOMAIN, "EPERM": NO_RIGHT},
        doc="The simulated guest runs no code, so it acknowledges no interrupt: levels are as the device models set "
        "them.",
    ),
)
