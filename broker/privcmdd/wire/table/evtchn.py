# SPDX-License-Identifier: Apache-2.0
"""Event channels."""

from typing import Final

from privcmdd.wire.params import Param
from privcmdd.wire.signature import Field, Method
from privcmdd.wire.table.common import DOM, NO_RIGHT

ON: Final = Param("on", "domid", "whose port: 0 the caller's own, else a guest's, on whose behalf this is done", 0)
PORT: Final = Param("port", "u32", "the port's number")
NEW_PORT: Final = Field("port", "int", "the new port's number: the lowest that is free")
NO_PORT: Final = "there is no such port"
NO_DOMAIN: Final = "there is no such domain, or it is dying"
NOT_OURS: Final = "a port of domain 0 that another connection took, or nobody"
NO_ROOM: Final = "the domain has as many ports as there may be"
RESTRICTED: Final = "evtchn.restrict has named another domain"
NO_EVENTS: Final = "the broker has no descriptors left"
EVENTS: Final = (
    "Two descriptors come with the answer, both eventfd(2): the first becomes readable when the port has an event, and "
    "reading it takes the event; writing 1 to the second notifies the other end, whoever that is then. No request is "
    "needed for either."
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
        {**TAKING, "EINVAL": "that port is not in use, bound already, or waits for another domain"},
        fds_out=2,
        doc="The new port has an event at once, as on Xen: what was sent before anybody was there is not lost. "
        + EVENTS,
    ),
    Method(
        "evtchn.bind_virq",
        "Take a port for a virtual interrupt: EVTCHNOP_bind_virq, IOCTL_EVTCHN_BIND_VIRQ.",
        (
            Param("virq", "u32", "its number; 3 (VIRQ_DOM_EXC) is raised when a domain dies, is gone or crashes"),
            Param("vcpu", "u32", "which vcpu is told; of a global interrupt 0", 0),
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
        doc="For domain 0 it takes the right to administer all domains. Nobody is at the other end, and the second "
        "descriptor leads nowhere. " + EVENTS,
    ),
    Method(
        "evtchn.attach",
        "Get the events of a port that is there already.",
        (PORT, ON),
        (),
        "map",
        {**USING, "ENOMEM": NO_EVENTS},
        fds_out=2,
        doc="This is how a guest is played: the ports of its ioreq servers, its console and its xenstore ring are made "
        "by others. " + EVENTS,
    ),
    Method(
        "evtchn.close",
        "Give a port up: EVTCHNOP_close, IOCTL_EVTCHN_UNBIND.",
        (PORT, ON),
        (),
        "map",
        {**USING, "EINVAL": "there is no such port, or it is Xen's own (an ioreq server's)"},
        doc="The other end waits for somebody else to bind to it.",
    ),
    Method(
        "evtchn.notify",
        "Notify the other end of a port: EVTCHNOP_send, IOCTL_EVTCHN_NOTIFY.",
        (PORT, ON),
        (),
        "map",
        {**USING, "EINVAL": "there is no such port, or nobody can be notified through it"},
        doc="For clients that cannot receive descriptors. When nobody is at the other end nothing happens.",
    ),
    Method(
        "evtchn.pending",
        "Take the event of a port.",
        (PORT, ON),
        (Field("pending", "bool", "whether there was one since it was last taken"),),
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
                "in order; of domain 0 only the connection's own",
                fields=(
                    Field("port", "int", "its number"),
                    Field("state", "str", "unbound, interdomain or virq"),
                    Field("dom", "int", "the domain at the other end, or the one that may bind there"),
                    Field("remote_port", "int", "the port at the other end, or 0"),
                    Field("virq", "int", "the virtual interrupt, or 0"),
                    Field("vcpu", "int", "which vcpu is told"),
                    Field("for_xen", "bool", "Xen's own: an ioreq server's or a pager's"),
                ),
            ),
        ),
        "map",
        {"ESRCH": NO_DOMAIN, "EPERM": NO_RIGHT},
    ),
    Method(
        "evtchn.restrict",
        "IOCTL_EVTCHN_RESTRICT_DOMID: bind nothing but ports of one domain from now on, for good.",
        (DOM,),
        errors={"EACCES": "the connection is restricted already", "EINVAL": "dom is no guest"},
        doc="What is bound already goes on working.",
    ),
)
