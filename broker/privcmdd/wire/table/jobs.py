# SPDX-License-Identifier: Apache-2.0
"""Methods about jobs: connections of one uid that belong together."""

from typing import Final

from privcmdd.wire.params import Param
from privcmdd.wire.signature import Field, Method

ROWS: Final = (
    Method(
        "job.list",
        "List jobs, and what each has.",
        result=(
            Field(
                "jobs",
                "maps",
                "in the order in which they were made",
                fields=(
                    Field("uid", "int", "whose job it is: two uids may have jobs of one name"),
                    Field("job", "str", "its name"),
                    Field("pid", "int", "the process that made it, as the kernel named it"),
                    Field("client", "str", "what that process called itself in hello"),
                    Field("age_s", "int", "how long ago it was made", unit="s"),
                    Field("connections", "int", "its connections"),
                    Field("requests", "int", "requests of all connections that it has had"),
                    Field("spaces", "int", "address spaces of its processes"),
                    Field("frames", "int", "frames that these have mapped", unit="pages"),
                    Field("doms", "ints", "the domains that were made in it"),
                ),
            ),
        ),
        doc="A connection belongs to the job that it named in `hello`. A job ends with its last connection, and what "
        "was made for it ends with it. A client in a job sees that job; others see those of their uid, and a client "
        "that may administer all domains sees all.",
    ),
    Method(
        "evict",
        "End a connection, a job, or all connections and jobs of a uid, and what was made for them.",
        (
            Param("connection", "size", "the connection of this number", None),
            Param("job", "str", "the job of this name, of the uid that is given, or else of the caller's", None),
            Param("uid", "u32", "whose job it is; without job and connection: all that this uid has connected", None),
        ),
        (
            Field("connections", "int", "connections that end; that of the caller is none of them"),
            Field("jobs", "int", "jobs that have ended"),
            Field("doms", "ints", "domains that were destroyed with the jobs; those of connections go with these"),
        ),
        errors={
            "EPERM": "it belongs to another uid, and the caller may not administer all domains; or the caller is in a "
            "job, and it belongs to another one or to none",
            "ESRCH": "there is no such connection or job",
            "EINVAL": "none of the three is given, or a connection and one of the others",
        },
        doc="The connections are closed without a further answer, and before the next request of the caller is done "
        "they hold nothing any more. A domain that was made until it is destroyed stays.",
    ),
)
