# SPDX-License-Identifier: Apache-2.0
"""Hypercall arguments are in memory that the caller can change at any time: each byte of them is fetched once.

The tests of this room run with a toolstack that checks this for each hypercall (the fixture ``tool``). The tests here
hold that the check sees what it has to see.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from privcmdd.model.file_keys import BufferFile
from support.desk import Desk
from support.tool import HVM, PV, Tool
from support.watching import CountingBacking, WatchingTool

if TYPE_CHECKING:
    from privcmdd.model.file_keys import FileKey


class FetchingTwice(CountingBacking):
    """Reads every byte of a buffer again, as a hypercall does that copies its arguments twice."""

    def read(self, key: FileKey, page: int, offset: int, size: int) -> bytes:
        """Read bytes, twice if they are of a buffer."""
        if isinstance(key, BufferFile):
            super().read(key, page, offset, size)
        return super().read(key, page, offset, size)


@pytest.mark.parametrize("kind", [HVM, PV])
def test_no_byte_of_an_argument_is_fetched_twice(kind: str) -> None:
    """Structures, and the lists that they point to."""
    tool = WatchingTool(Desk(backing=CountingBacking()))

    dom = tool.build(kind)

    assert tool.info(dom)["tot_pages"] == 16
    assert tool.n_fetched > 0


def test_a_byte_that_is_fetched_twice_is_noticed() -> None:
    """The check fails when the law is broken on purpose."""
    tool = WatchingTool(Desk(backing=FetchingTwice()))

    with pytest.raises(AssertionError, match="reads bytes of its caller twice"):
        tool.build(HVM)


def test_watching_changes_no_answer() -> None:
    """A watched toolstack gets the answers of one that is not watched."""
    plain, watched = Tool(Desk()), WatchingTool(Desk(backing=CountingBacking()))

    assert plain.info(plain.build(PV)) == watched.info(watched.build(PV))
