# SPDX-License-Identifier: Apache-2.0
"""Faults on demand: let requests and frames fail, to see whether the code that meets them copes.

``client.faults.add(...)`` and its siblings; both faces have them under the same names.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from privcmd.errors import PrivcmdError
from privcmd.methods import AsyncRules, Rules
from privcmd.rules import InjectedFault, settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

__all__ = ["AsyncFaults", "Faults", "InjectedFault"]


class Faults(Rules):
    """Faults on demand: ``client.faults.add(...)`` and so on."""

    @contextlib.contextmanager
    def during(self, **rule: Any) -> Iterator[InjectedFault]:
        """Have a rule for the time of a block; takes what ``add`` takes.

        After the block ``seen`` and ``fired`` of what it gives say what the rule did. Not within reach any more, as
        when the rule dropped this very connection, they stay 0.

        Raises:
            PrivcmdError: As ``add``.
        """
        made = InjectedFault(self.add(**rule))
        try:
            yield made
        finally:
            with contextlib.suppress(PrivcmdError):
                settle(made, self.list())
                self.clear(made.id)


class AsyncFaults(AsyncRules):
    """Faults on demand: ``await client.faults.add(...)`` and so on."""

    @contextlib.asynccontextmanager
    async def during(self, **rule: Any) -> AsyncIterator[InjectedFault]:
        """Have a rule for the time of a block; see `Faults.during`."""
        made = InjectedFault(await self.add(**rule))
        try:
            yield made
        finally:
            with contextlib.suppress(PrivcmdError):
                settle(made, await self.list())
                await self.clear(made.id)
