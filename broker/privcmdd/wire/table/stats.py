# SPDX-License-Identifier: Apache-2.0
"""All counters."""

from typing import Final

from privcmdd.wire.signature import Method

ROWS: Final = (
    Method(
        "stats",
        "Get the broker's counters.",
        open_result=True,
        doc="A map of maps of numbers; names end in their unit. What it holds grows with the broker: look "
        "names up, "
        "do not count on their number.",
    ),
)
