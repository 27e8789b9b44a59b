# SPDX-License-Identifier: Apache-2.0
"""Methods about the connection itself."""

from typing import Final

from privcmdd.wire.params import Param
from privcmdd.wire.signature import Field, Method
from privcmdd.wire.table.common import PROTOCOL

ROWS: Final = (
    Method(
        "hello",
        "Say the client's name and choose features; optional.",
        (
            Param("protocol", "ints", "protocols that the caller speaks", (PROTOCOL,)),
            Param(
                "features",
                "strs",
                "features that the caller wants; the answer leaves out unknown ones",
                (),
            ),
            Param("client", "str", "the caller's name and version, for logs", ""),
            Param(
                "job", "str", "the job of its uid that the connection belongs to from now on, made if there is none", ""
            ),
            Param(
                "leads",
                "bool",
                "whether the job, if it is made now, ends with this connection, and all others of it",
                False,
            ),
            Param(
                "keep",
                "bool",
                "whether the domains that are made in the job, if it is made now, stay when it ends",
                False,
            ),
        ),
        (
            Field("protocol", "int", "the protocol that both speak"),
            Field("features", "strs", "the features that are on for this connection from the next message on"),
            Field("instance", "str", "this run of the broker; another value means that nothing is mapped any more"),
            Field("lineage", "str", "the line of brokers that pass guests on; another value means other guests"),
            Field("epoch", "int", "the number of this broker in its line: 1 for the first"),
            Field("lasting", "bool", "whether guests outlive a broker that crashes (server.state_dir)"),
            Field("version", "str", "the broker's version"),
            Field("limits", "map", "the limits in force, by name"),
            Field(
                "host",
                "map",
                "the host that is simulated: dom0 (pv, pvh), linux, xen (versions), build",
            ),
        ),
        errors={
            "EPROTONOSUPPORT": "the broker speaks none of the caller's protocols",
            "EBUSY": "the connection belongs to another job already",
        },
    ),
    Method(
        "ping",
        "Ask whether the broker answers.",
        result=(
            Field("instance", "str", "this run of the broker; another value means that nothing is mapped any more"),
        ),
    ),
    Method(
        "health",
        "Ask whether the broker takes new clients.",
        result=(
            Field("state", "str", "ready, or draining: it answers what has arrived, and then ends"),
            Field("connections", "int", "clients that are connected"),
        ),
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
        "subscribe",
        "Get events as notifications.",
        (Param("topics", "strs", "topics, of: domain, space, finding"),),
        (Field("topics", "strs", "all topics that the connection is subscribed to now"),),
        errors={"EINVAL": "a topic is unknown"},
        doc="Without a subscription the broker sends nothing but answers. A subscriber that does not read loses "
        "notifications, which are counted; other subscribers lose none.",
    ),
    Method(
        "hand_over",
        "Pass all guests on to another broker, and end.",
        (Param("form", "u32", "the form of what is passed on; both brokers have to know it"),),
        (Field("form", "int", "the form of what is passed on"),),
        privilege="admin",
        fds_out=1,
        errors={
            "EPROTONOSUPPORT": "the broker passes on another form",
            "EBUSY": "the broker is handing over already, or stopping",
            "EOPNOTSUPP": "the broker has no sockets and files to pass on",
        },
        doc="`privcmdd serve --take-over` asks this. The broker then ends all connections, as after SIGTERM, and sends "
        "its sockets, memory files and records through the descriptor of the answer. It ends when the other broker has "
        "them, and goes on when the other broker closes the descriptor before.",
    ),
)
