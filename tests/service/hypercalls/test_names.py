# SPDX-License-Identifier: Apache-2.0
"""Hypercalls that the broker does not have are counted by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from privcmdd.service.world import MOST_NAMES, OTHERS

if TYPE_CHECKING:
    from support.tool import (
        Tool,
    )


def test_what_is_not_answered_is_counted(tool: Tool) -> None:
    """By name, in stats, so that one can see what a program wanted."""
    tool.call(60)
    tool.call(60)
    tool.call(27)
    tool.domctl(9999, tool.build())
    tool.domctl(22, tool.build())

    counted = tool.desk.call(tool.session, "stats")["broker"]["unanswered"]
    assert counted == {"hypercall 60": 2, "hypercall xsm_op": 1, "domctl 9999": 1, "domctl hypercall_init": 1}


def test_names_that_nobody_expected_are_counted_together(tool: Tool) -> None:
    """However many numbers a client makes up, a bounded number of names is kept, and no call goes uncounted."""
    for number in range(1000, 1000 + 2 * MOST_NAMES):
        tool.call(number)

    counted = tool.desk.call(tool.session, "stats")["broker"]["unanswered"]
    assert (len(counted), counted[OTHERS], sum(counted.values())) == (MOST_NAMES + 1, MOST_NAMES, 2 * MOST_NAMES)
