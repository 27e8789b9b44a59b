# SPDX-License-Identifier: Apache-2.0
"""Injections: rules by which requests and frames fail, to test the code that meets such failures.

``client.faults.add(...)`` and so on; both faces have the same names.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from privcmd._methods import AsyncRules, Rules
from privcmd._rules import InjectedFault, settle
from privcmd.errors import PrivcmdError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

__all__ = ["AsyncFaults", "Faults", "InjectedFault"]


class Faults(Rules):
    """Injections: ``client.faults.add(...)`` and so on."""

    @contextlib.contextmanager
    def during(self, **rule: Any) -> Iterator[InjectedFault]:
        """Have a rule for the time of a block; takes the arguments of ``add``.

        After the block, ``seen`` and ``fired`` of the rule that it gives say what the rule did. They stay 0 when the
        broker cannot be asked any more, as when the rule dropped this very connection.

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
    """Injections: ``await client.faults.add(...)`` and so on."""

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
