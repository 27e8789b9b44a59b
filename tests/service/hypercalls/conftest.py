# SPDX-License-Identifier: Apache-2.0
"""The toolstacks that the tests of hypercalls use."""

from __future__ import annotations

import pytest

from support.desk import Desk
from support.tool import Tool
from support.watching import CountingBacking, WatchingTool


@pytest.fixture(params=["plain", "watched"])
def tool(request: pytest.FixtureRequest) -> Tool:
    """A toolstack that may do everything; each test also runs with one whose memory accesses are checked."""
    return Tool(Desk()) if request.param == "plain" else WatchingTool(Desk(backing=CountingBacking()))
