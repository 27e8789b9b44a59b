# SPDX-License-Identifier: Apache-2.0
"""The table of methods: it has every method of the protocol, and methods are defined nowhere else.

The reference page, the JSON schema, the golden vectors, `describe` and the checks of parameters are all made
from it. Parameters carry the names of the ioctl's own fields where there is an ioctl.
"""

from collections.abc import Mapping
from typing import Final

from privcmdd.wire.params import Frames, Param, ParamError
from privcmdd.wire.signature import Field, Method, validate
from privcmdd.wire.table import (
    conversation,
    domains,
    evtchn,
    faults,
    findings,
    gntalloc,
    gntdev,
    guests,
    jobs,
    privcmd,
    spaces,
    stats,
)
from privcmdd.wire.table.common import PROTOCOL

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

FEATURES: Final[Mapping[str, str]] = {
    "nvim-errors": 'errors come as [0, "ENAME: text"], the only form that nvim\'s own client prints',
    "closing": "before the broker ends the stream in good order it sends the notification `closing`; then a request "
    "that has no answer has not been done",
    "seq": "every result, and an error's details, carry `seq`: the place of the request among all that the broker did",
}
"""The features that `hello` can turn on, and what each does."""

TOPICS: Final[Mapping[str, tuple[Field, ...]]] = {
    "domain": (
        Field("dom", "int", "the domain whose state changed"),
        Field("state", "str", "its state now: running, paused, dying or gone"),
    ),
    "ioreq": (Field("dom", "int", "the domain whose ioreq servers, or what they emulate, have changed"),),
    "interrupt": (Field("dom", "int", "the domain whose interrupt lines have changed"),),
    "space": (
        Field("space", "int", "an address space that the client sees in `space.list`"),
        Field("state", "str", "made or gone"),
        Field("pid", "int", "the process that made it"),
        Field("client", "str", "what that process called itself in hello"),
        Field("job", "str", "the job that it belongs to; empty for none"),
        Field(
            "held",
            "maps",
            "when it is gone: the foreign mappings that it still had, at most a thousand",
            fields=(
                Field("start", "int", "first address", unit="bytes"),
                Field("present", "int", "pages with a frame", unit="pages"),
                Field("dom", "int", "the domain whose frames they are", nullable=True),
                Field("request", "str", "the request that mapped them"),
            ),
        ),
        Field("held_more", "int", "when it is gone: entries of devices that were not looked at for `held`"),
        Field(
            "unanswered",
            "map",
            "when it is gone: how often its process asked for each operation that the broker does not have, by name",
        ),
    ),
    "finding": findings.FINDING,
}
"""Topics of `subscribe`, and the fields of each one's notification."""

COMMON_ERRORS: Final[Mapping[str, str]] = {
    "ENOSYS": "there is no such method",
    "EINVAL": "params is not an array of one map; a key is missing, unknown, of the wrong type or out of "
    "range (details.key names it)",
    "EIO": "a bug of the broker; the connection ends after the answer",
    "EDQUOT": "the caller's uid or connection has used up what it may hold; details name the slot",
}
"""Errors that every method can answer."""

_ROWS: Final = (
    *conversation.ROWS[:-1],
    *stats.ROWS,
    *conversation.ROWS[-1:],  # subscribe
    *spaces.ROWS,
    *privcmd.ROWS,
    *gntdev.ROWS,
    *gntalloc.ROWS,
    *evtchn.ROWS,
    *domains.ROWS,
    *guests.ROWS,
    *faults.ROWS,
    *findings.ROWS,
    *jobs.ROWS,
)

METHODS: Final[Mapping[str, Method]] = {method.name: method for method in _ROWS}
"""All methods, by name, in the order of the documentation."""
