# SPDX-License-Identifier: Apache-2.0
"""Methods that make requests and frames fail on demand."""

from typing import Final

from privcmdd.wire import limits
from privcmdd.wire.params import Param
from privcmdd.wire.signature import Field, Method
from privcmdd.wire.table.common import NO_ADMIN

RULE: Final = (
    Param("client", "str", "only requests of clients that call themselves so in hello; * stands for anything", None),
    Param("connection", "size", "only those of the connection of this number", None, "connections"),
    Param("pid", "u32", "only those of this process", None),
    Param("uid", "u32", "only those of this user", None),
    Param("dom", "domid", "only those that name this domain, and its frames", None),
    Param(
        "gfns",
        "ranges",
        "only these frames, as a mapping names them (pv: mfns); of a rule about requests: only those that name one",
        None,
        "frames",
        most=limits.NAMES,
    ),
    Param("method", "str", "only this method; with a dot at its end, all that begin so: privcmd.", None),
    Param("frame_errno", "str", "what happens: a frame fails with this errno, by its name", None),
    Param("paged", "u32", "what happens: a frame is paged out (ENOENT) for so many look-ups", None, "look-ups"),
    Param("errno", "str", "what happens: the request fails with this errno before it does anything", None),
    Param("delay_ms", "u32", "what happens: the request waits", None, "milliseconds"),
    Param("drop", "bool", "what happens: the connection is closed where the answer would be", False),
    Param(
        "when",
        "enum",
        "of a delay or a drop: before the work is done, or after it",
        "before",
        choices=("before", "after"),
    ),
    Param("nth", "size", "the first match that the rule takes, counted from 1", 1, "matches"),
    Param("times", "size", "how many it takes at most; without end when left out", None, "matches"),
    Param("probability_ppm", "u32", "how probable it is that it takes one", 1_000_000, "parts per million"),
    Param("seed", "u32", "which ones, when it does not take all: the same seed, the same matches", 0),
    Param("keep", "bool", "stay when the connection that adds it ends, until it is cleared", False),
)

ROWS: Final = (
    Method(
        "faults.add",
        "Let requests or frames fail from now on.",
        RULE,
        (Field("id", "int", "the rule's number; never used twice"),),
        "admin",
        {
            "EINVAL": "not exactly one of frame_errno, paged, errno, delay_ms and drop; no such errno or method; a "
            "number out of its range",
            "EPERM": NO_ADMIN + "; a rule without dom takes that right on all domains",
            "ENOSPC": "there are too many rules",
            "E2BIG": f"more than {limits.NAMES} ranges",
        },
        doc="Rules about frames (frame_errno, paged) count the good frames that match, wherever one is looked up: in "
        "a batch, at a page fault, for a grant or resource. MMAP looks up a whole entry before it stops. Those that a "
        "rule takes fail as real ones do. The other rules count requests. Rules are asked in the order of their ids; "
        "the first that answers or drops a request is the last one asked. Requests of the methods named faults. meet "
        "no rule.",
    ),
    Method(
        "faults.list",
        "List the rules that the caller could have added.",
        result=(
            Field(
                "faults",
                "maps",
                "in the order of ids",
                fields=(
                    Field("id", "int", "the rule's number"),
                    Field("seen", "int", "matches so far: of frames, or of requests"),
                    Field("fired", "int", "how many of them it took"),
                    Field("connection", "int", "the connection that it ends with; nil when it is kept", nullable=True),
                    Field("rule", "map", "what faults.add was given, keep and defaults left out"),
                ),
            ),
        ),
    ),
    Method(
        "faults.clear",
        "End one rule, or all that the caller could have added.",
        (Param("id", "size", "the rule; all of them when left out", None, "rules"),),
        (Field("cleared", "int", "rules that ended"),),
        errors={"ENOENT": "there is no such rule, or the caller could not have added it"},
    ),
)
