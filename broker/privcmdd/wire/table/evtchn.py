# SPDX-License-Identifier: Apache-2.0
"""Event channels."""

from typing import Final

from privcmdd.wire.params import Param
from privcmdd.wire.signature import Field, Method
from privcmdd.wire.table.common import DOM, NO_RIGHT

ON: Final = Param(
    "on", "domid", "whose port it is: 0 the caller's own, else the port of this guest, for which the caller acts", 0
)
PORT: Final = Param("port", "u32", "the port's number")
NEW_PORT: Final = Field("port", "int", "the new port's number: the lowest that is free")
NO_PORT: Final = "there is no such port"
NO_DOMAIN: Final = "there is no such domain, or it is dying"
NOT_OURS: Final = "a port of domain 0 that this connection has not taken"
NO_ROOM: Final = "the domain has as many ports as a domain may have"
RESTRICTED: Final = "evtchn.restrict has named another domain"
NO_EVENTS: Final = "the broker has no descriptors left"
EVENTS: Final = (
    "Two descriptors come with the answer, both eventfd(2): the first becomes readable when the port has an event, and "
    "reading it takes the event; writing 1 to the second notifies whoever is at the other end at that time. Neither "
    "needs a request."
)
TAKING: Final = {"ESRCH": NO_DOMAIN, "ENOSPC": NO_ROOM, "EPERM": NO_RIGHT, "EACCES": RESTRICTED, "ENOMEM": NO_EVENTS}
USING: Final = {"ESRCH": NO_DOMAIN, "EINVAL": NO_PORT, "ENOTCONN": NOT_OURS, "EPERM": NO_RIGHT}

ROWS: Final = (
    Method(
        "evtchn.alloc_unbound",
        "Take a port that another domain may bind to: EVTCHNOP_alloc_unbound, IOCTL_EVTCHN_BIND_UNBOUND_PORT.",
        (Param("remote", "domid", "the domain that may bind to it"), ON),
        (NEW_PORT,),
        "map",
        TAKING,
        fds_out=2,
        doc="A port of domain 0 belongs to the connection and is closed with it; one of a guest stays. " + EVENTS,
    ),
    Method(
        "evtchn.bind_interdomain",
        "Take a port for the other end of an unbound one: EVTCHNOP_bind_interdomain, IOCTL_EVTCHN_BIND_INTERDOMAIN.",
        (Param("dom", "domid", "the domain whose port it is"), PORT, ON),
        (NEW_PORT,),
        "map",
        {**TAKING, "EINVAL": "that port is not in use, is bound already, or waits for another domain"},
        fds_out=2,
        doc="The new port has an event at once, as on Xen, so an event that was sent before the port was bound is not "
        "lost. " + EVENTS,
    ),
    Method(
        "evtchn.bind_virq",
        "Take a port for a virtual interrupt: EVTCHNOP_bind_virq, IOCTL_EVTCHN_BIND_VIRQ.",
        (
            Param("virq", "u32", "its number; 3 (VIRQ_DOM_EXC) is raised when a domain dies, is gone or crashes"),
            Param("vcpu", "u32", "the vcpu that is told; 0 for a global interrupt", 0),
            ON,
        ),
        (NEW_PORT,),
        "map",
        {
            **TAKING,
            "EINVAL": "there is no such interrupt of that vcpu",
            "EEXIST": "the guest, or this connection, has bound it already",
        },
        fds_out=2,
        doc="For domain 0 the caller needs the right to administer all domains. The port has no other end, so writing "
        "to the second descriptor notifies nobody. " + EVENTS,
    ),
    Method(
        "evtchn.attach",
        "Get the events of a port that exists already.",
        (PORT, ON),
        (),
        "map",
        {**USING, "ENOMEM": NO_EVENTS},
        fds_out=2,
        doc="A program that plays a guest needs this: others make the ports of the guest's ioreq servers, console and "
        "xenstore ring. " + EVENTS,
    ),
    Method(
        "evtchn.close",
        "Give up a port: EVTCHNOP_close, IOCTL_EVTCHN_UNBIND.",
        (PORT, ON),
        (),
        "map",
        {**USING, "EINVAL": "there is no such port, or it is Xen's own (an ioreq server's)"},
        doc="The other end becomes unbound: another program may bind to it.",
    ),
    Method(
        "evtchn.notify",
        "Notify the other end of a port: EVTCHNOP_send, IOCTL_EVTCHN_NOTIFY.",
        (PORT, ON),
        (),
        "map",
        {**USING, "EINVAL": "there is no such port, or it is of a kind through which nobody can be notified"},
        doc="For clients that cannot receive descriptors. When nobody is at the other end, nothing happens.",
    ),
    Method(
        "evtchn.pending",
        "Take the event of a port.",
        (PORT, ON),
        (Field("pending", "bool", "whether there was an event since one was last taken"),),
        "map",
        USING,
        doc="For clients that cannot receive descriptors.",
    ),
    Method(
        "evtchn.list",
        "List the ports in use: EVTCHNOP_status of each.",
        (ON,),
        (
            Field(
                "ports",
                "maps",
                "in the order of their numbers; of domain 0 only the connection's own",
                fields=(
                    Field("port", "int", "its number"),
                    Field("state", "str", "unbound, interdomain or virq"),
                    Field("dom", "int", "the domain at the other end, or the domain that may bind to the port"),
                    Field("remote_port", "int", "the port at the other end, or 0"),
                    Field("virq", "int", "the virtual interrupt, or 0"),
                    Field("vcpu", "int", "the vcpu that is told"),
                    Field("for_xen", "bool", "whether it is Xen's own: of an ioreq server or a pager"),
                ),
            ),
        ),
        "map",
        {"ESRCH": NO_DOMAIN, "EPERM": NO_RIGHT},
    ),
    Method(
        "evtchn.restrict",
        "IOCTL_EVTCHN_RESTRICT_DOMID: from now on bind only ports of one domain; this cannot be undone.",
        (DOM,),
        errors={"EACCES": "the connection is restricted already", "EINVAL": "dom is not a guest"},
        doc="Ports that are bound already go on working.",
    ),
)
