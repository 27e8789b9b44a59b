# SPDX-License-Identifier: Apache-2.0
"""The method that answers all counters."""

from typing import Final

from privcmdd.wire.signature import Method

ROWS: Final = (
    Method(
        "stats",
        "Get the broker's counters.",
        open_result=True,
        doc="A map of maps of numbers; names end in their unit. Later brokers have more counters: look counters up by "
        "name, and do not rely on how many there are.",
    ),
)
