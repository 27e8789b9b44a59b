# SPDX-License-Identifier: Apache-2.0
"""Domains by their names, where people name them: the number behind a name, or an error that says what was meant."""

from __future__ import annotations

import errno

from privcmd.errors import PrivcmdError

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    from collections.abc import Sequence

LIKENESS = 0.5
"""How much two names have in common, from 0 to 1, before one is suggested for the other."""


def domid(named: str, domains: Sequence[tuple[int, str]]) -> int:
    """Find a domain by its name.

    Args:
        named: The name.
        domains: The numbers and names of the domains that there are.

    Raises:
        PrivcmdError: ESRCH, none has this name; EEXIST, several have it.
    """
    found = [dom for dom, name in domains if name == named]
    if len(found) == 1:
        return found[0]
    if found:
        numbers = ", ".join(map(str, found))
        raise PrivcmdError(errno.EEXIST, f"domains {numbers} are all called {named!r}; give the number")
    import difflib  # noqa: PLC0415 - only for a mistake

    near = difflib.get_close_matches(named, [name for _, name in domains if name], n=1, cutoff=LIKENESS)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise PrivcmdError(errno.ESRCH, f"there is no domain called {named!r}{hint}")
