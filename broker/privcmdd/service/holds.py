# SPDX-License-Identifier: Apache-2.0
"""How long requests hold the loop: while one works, nobody else is served. Others are served at its pauses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from privcmdd.wire.methods import METHODS

# Shorter holds are not noted: most requests hold the loop for 30 us.
LONG_S: Final = 0.001
US_PER_S: Final = 1_000_000
OTHERS: Final = "others"  # names that are no method's come from clients


@dataclass(slots=True)
class Holds:
    """The holds that were long, by method.

    Attributes:
        longest_s: The longest hold.
        n_long: How many were longer than ``LONG_S``.
    """

    longest_s: dict[str, float] = field(default_factory=dict)
    n_long: dict[str, int] = field(default_factory=dict)

    def note(self, method: str, seconds: float) -> None:
        """Note a hold that was longer than ``LONG_S``."""
        name = method if method in METHODS else OTHERS
        self.longest_s[name] = max(seconds, self.longest_s.get(name, 0.0))
        self.n_long[name] = self.n_long.get(name, 0) + 1

    def told(self) -> dict[str, dict[str, Any]]:
        """The long holds as ``stats`` answers them."""
        return {
            name: {"longest_us": round(longest_s * US_PER_S), "above_1_ms": self.n_long[name]}
            for name, longest_s in self.longest_s.items()
        }
