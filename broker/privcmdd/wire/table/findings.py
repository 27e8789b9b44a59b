# SPDX-License-Identifier: Apache-2.0
"""Methods about findings: requests that do harm on a real host, which reports no error."""

from typing import Final

from privcmdd.wire.signature import Field, Method

FINDING: Final = (
    Field("kind", "str", "its id, under which the page of findings describes it"),
    Field("count", "int", "how often it was made"),
    Field("text", "str", "a sentence that explains it"),
    Field("dom", "int", "the domain concerned; nil without", nullable=True),
    Field("addr", "int", "where in the address space; nil when nowhere", nullable=True, unit="bytes"),
    Field("uid", "int", "whose client it was"),
    Field("pid", "int", "the client's process, as the kernel named it"),
    Field("client", "str", "what the client called itself in hello"),
    Field("connection", "int", "the client's connection, numbered from 1 in the order in which they came"),
    Field("method", "str", "the request that did it"),
    Field("request", "int", "the number of the request within its connection, from 1 on"),
)

ROWS: Final = (
    Method(
        "findings.list",
        "List what was done that a real host would have let pass in silence, and that does harm there.",
        result=(Field("findings", "maps", "in the order in which they were made", fields=FINDING),),
        doc="A finding changes no answer. One sees those of one's own uid; who may administer all domains sees all. "
        "Equal ones of a connection are counted, not listed again, and of each uid at most 256 are kept.",
    ),
    Method(
        "findings.clear",
        "Forget the findings that findings.list would list.",
        result=(Field("cleared", "int", "how many there were"),),
    ),
)
