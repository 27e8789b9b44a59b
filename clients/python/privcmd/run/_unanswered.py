# SPDX-License-Identifier: Apache-2.0
"""What programs asked of Xen and did not get, as the broker has no such operation: how often each, by name."""

from __future__ import annotations

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    from collections.abc import Mapping


def most_often(asked: Mapping[str, int]) -> dict[str, int]:
    """The same, what was asked most often first."""
    return dict(sorted(asked.items(), key=lambda one: (-one[1], one[0])))


def sentence(asked: Mapping[str, int]) -> str:
    """All of it in one line."""
    from privcmd.run._explain import hint  # noqa: PLC0415 - slow to import, and most programs get what they ask for

    told = ", ".join(f"{what} ({n} times)" if n > 1 else what for what, n in asked.items())
    return f"asked for and not answered: {told}; see {hint('hypercalls')}"
