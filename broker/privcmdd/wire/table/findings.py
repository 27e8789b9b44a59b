# SPDX-License-Identifier: Apache-2.0
"""Methods about findings: requests that do harm on a real host, which reports no error."""

from typing import Final

from privcmdd.wire.signature import Field, Method

FINDING: Final = (
    Field("kind", "str", "the kind of finding; the page of findings describes each kind under this name"),
    Field("count", "int", "how often the finding was made"),
    Field("text", "str", "a sentence that explains it"),
    Field("dom", "int", "the domain concerned; nil when there is none", nullable=True),
    Field("addr", "int", "where in the address space; nil when nowhere", nullable=True, unit="bytes"),
    Field("uid", "int", "the uid of the client"),
    Field("job", "str", "the job of the client; empty for none"),
    Field("pid", "int", "the client's process, as the kernel named it"),
    Field("client", "str", "what the client called itself in hello"),
    Field(
        "connection", "int", "the number of the client's connection, from 1 on in the order in which connections came"
    ),
    Field("method", "str", "the method of the request that caused it"),
    Field("request", "int", "the number of the request within its connection, from 1 on"),
)

ROWS: Final = (
    Method(
        "findings.list",
        "List the requests that do harm on a real host, which reports no error.",
        result=(
            Field("findings", "maps", "in the order in which they were made", fields=FINDING),
            Field("dropped", "int", "how many others were found that are not kept"),
        ),
        doc="A finding changes no answer. A client sees the findings of its own uid, or in a job those of that job; "
        "outside, a client that may administer all domains sees all. Equal findings of a connection are counted, not "
        "listed again. Of each job at most 256 are kept, until it ends; of what belongs to no job, 256 of each uid.",
    ),
    Method(
        "findings.clear",
        "Forget the findings that findings.list would list.",
        result=(Field("cleared", "int", "how many findings there were"),),
    ),
)
