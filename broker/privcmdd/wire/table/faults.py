# SPDX-License-Identifier: Apache-2.0
"""Methods that make requests and frames fail on demand."""

from typing import Final

from privcmdd.wire import limits
from privcmdd.wire.params import Param
from privcmdd.wire.signature import Field, Method
from privcmdd.wire.table.common import NO_ADMIN

RULE: Final = (
    Param("client", "str", "only requests of clients with this name in hello; * stands for any characters", None),
    Param("connection", "size", "only requests of the connection with this number", None, "connections"),
    Param("pid", "u32", "only requests of this process", None),
    Param("uid", "u32", "only requests of this user", None),
    Param("dom", "domid", "only requests that name this domain, and its frames", None),
    Param(
        "gfns",
        "ranges",
        "only these frames, as a mapping names them (pv: mfns); in a rule about requests: only requests that name one",
        None,
        "frames",
        most=limits.NAMES,
    ),
    Param(
        "method",
        "str",
        "only this method; a name that ends in a dot (privcmd.) means all methods that begin with it; without it all "
        "methods but hello, which libraries say",
        None,
    ),
    Param("frame_errno", "str", "what happens: a frame fails with this errno, by its name", None),
    Param("paged", "u32", "what happens: a frame is paged out (ENOENT) for this many look-ups", None, "look-ups"),
    Param("errno", "str", "what happens: the request fails with this errno before it does anything", None),
    Param("delay_ms", "u32", "what happens: the request waits", None, "milliseconds"),
    Param("drop", "bool", "what happens: the connection is closed, and the request has no answer", False),
    Param(
        "when",
        "enum",
        "of a delay or a drop: before the work is done, or after it",
        "before",
        choices=("before", "after"),
    ),
    Param("nth", "size", "the first match that the rule takes, counted from 1", 1, "matches"),
    Param("times", "size", "how many matches it takes at most; all when left out", None, "matches"),
    Param("probability_ppm", "u32", "the probability that it takes a match", 1_000_000, "parts per million"),
    Param(
        "seed",
        "u32",
        "decides which matches it takes, when it does not take all: the same seed takes the same matches",
        0,
    ),
    Param("keep", "bool", "whether the rule stays, until it is cleared, when the connection that adds it ends", False),
)

ROWS: Final = (
    Method(
        "faults.add",
        "Add a rule that makes requests or frames fail.",
        RULE,
        (Field("id", "int", "the rule's number; no number is used twice"),),
        "admin",
        {
            "EINVAL": "not exactly one of frame_errno, paged, errno, delay_ms and drop; no such errno or method; a "
            "number out of its range",
            "EPERM": NO_ADMIN + "; a rule without dom needs that right on all domains",
            "ENOSPC": "there are too many rules",
            "E2BIG": f"more than {limits.NAMES} ranges",
        },
        doc="Rules about frames (frame_errno, paged) count the good frames that match, wherever a frame is looked up: "
        "in a batch, at a page fault, for a grant or resource; MMAP looks at none behind the one at which it stops. "
        "Frames that a rule takes fail as bad frames do. The other rules count requests. Rules are asked in the order "
        "of their ids; when a rule answers or drops a request, no further rule is asked. No rule applies to the "
        "methods faults.*. A rule that is added by a client in a job is about clients of that job alone, and ends with "
        "the job at the latest.",
    ),
    Method(
        "faults.list",
        "List the rules that the caller could have added; in a job, those of the job.",
        result=(
            Field(
                "faults",
                "maps",
                "in the order of ids",
                fields=(
                    Field("id", "int", "the rule's number"),
                    Field("seen", "int", "how many frames or requests have matched so far"),
                    Field("fired", "int", "how many of them the rule took"),
                    Field(
                        "connection",
                        "int",
                        "the connection with which the rule ends; nil when the rule is kept",
                        nullable=True,
                    ),
                    Field("job", "str", "the job whose clients it is about, and with which it ends; empty for none"),
                    Field("rule", "map", "the parameters of faults.add, without keep and without defaults"),
                ),
            ),
        ),
    ),
    Method(
        "faults.clear",
        "End one rule, or all rules that the caller could have added.",
        (Param("id", "size", "the rule; all of them when left out", None, "rules"),),
        (Field("cleared", "int", "rules that ended"),),
        errors={"ENOENT": "there is no such rule, or the caller could not have added it"},
    ),
)
