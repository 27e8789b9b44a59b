# SPDX-License-Identifier: Apache-2.0
"""Finds the function that does a method. Methods that need the machine are imported when one is first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from privcmdd import __version__
from privcmdd.model.errors import Unanswered
from privcmdd.service.methods import AT_ONCE, machinery
from privcmdd.wire.methods import METHODS, Method

if TYPE_CHECKING:
    from collections.abc import Mapping

    from privcmdd.service.world import Handler


class Dispatch:
    """The methods, each with its row of the table and its handler.

    Attributes:
        known: The methods that are imported, by name.
        complete: Whether all methods are imported.
    """

    __slots__ = ("complete", "known")

    def __init__(self) -> None:
        self.known = paired(AT_ONCE)
        self.complete = False

    def find(self, name: str) -> tuple[Method, Handler]:
        """Find a method that is not in ``known``: it needs the machine, or it does not exist.

        Raises:
            Unanswered: ENOSYS.
        """
        check_known(name)
        self.known |= paired(machinery().handlers)
        self.complete = True
        return self.known[name]


def paired(handlers: Mapping[str, Handler]) -> dict[str, tuple[Method, Handler]]:
    """Each handler with its row of the table."""
    return {name: (METHODS[name], handler) for name, handler in handlers.items()}


def check_known(name: str) -> None:
    """Check that a method is in the table.

    Raises:
        Unanswered: ENOSYS.
    """
    if name not in METHODS:
        shown = name if len(name) <= 64 and name.isprintable() else repr(name[:64])
        raise Unanswered(
            f"method {shown}", f"there is no method {shown}; ask describe for those there are", version=__version__
        )
