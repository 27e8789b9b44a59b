# SPDX-License-Identifier: Apache-2.0
"""The interface to what keeps the state of the broker, so that it outlives the broker.

``server/state_dir.py`` keeps it in a directory; a test may keep it in a dictionary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

# Number of the form of what a broker keeps and passes on. A broker refuses another form, of which it cannot know all.
FORM: Final = 1

Records: TypeAlias = dict[int, dict[str, bytes]]
"""Records by domid and name. Those of the machine itself are domain 0's."""


class StateError(Exception):
    """State that cannot be used. The text says what, and what to do."""


class HandOverError(Exception):
    """One broker cannot take over from another. The text says why."""


@dataclass(frozen=True, slots=True)
class Line:
    """Which line of brokers a broker belongs to: each one took the guests over from the one before it.

    Attributes:
        lineage: The name of the line. Guests of another line are other guests.
        epoch: The number of the broker in its line; 1 for the first.
        lasting: The guests outlive a broker that crashes.
    """

    lineage: str
    epoch: int = 1
    lasting: bool = False


class RecordStore(Protocol):
    """Records that are kept."""

    def load(self) -> Records:
        """All records.

        Raises:
            StateError: They cannot be read.
        """

    def commit(self, changed: Mapping[tuple[int, str], bytes | None]) -> None:
        """Keep new records, and forget those that are None: all of this or nothing, whatever happens meanwhile.

        Args:
            changed: Records by domid and name.

        Raises:
            ModelError: ENOSPC, EIO, or what else the host says; nothing has changed.
        """
