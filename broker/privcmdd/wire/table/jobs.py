# SPDX-License-Identifier: Apache-2.0
"""Methods about jobs: connections of one uid that belong together."""

from typing import Final

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
                    Field("doms", "ints", "the domains that were made in it"),
                ),
            ),
        ),
        doc="A connection belongs to the job that it named in `hello`. A job ends with its last connection, and what "
        "was made for it ends with it. A client in a job sees that job; others see those of their uid, and a client "
        "that may administer all domains sees all.",
    ),
)
