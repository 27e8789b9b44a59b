# SPDX-License-Identifier: Apache-2.0
"""All personalities, by name, and how each is made of its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from privcmdd.model.privcmd.linux import Linux
from privcmdd.model.privcmd.uvm import Uvm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from privcmdd.model.host import Host
    from privcmdd.model.privcmd.personality import Personality

PERSONALITIES: Final[Mapping[str, Callable[[Host, str, bool], Personality]]] = {
    Uvm.name: lambda _host, probe, merge: Uvm(probe, merge=merge),
    Linux.name: lambda host, _probe, _merge: Linux(host),
}
"""Name -> a function that makes the personality of the host, and of ``probe`` and ``merge`` of a space's settings."""
