# SPDX-License-Identifier: Apache-2.0
"""The release of Xen that the tools on this machine are made for.

libxenctrl, xl and QEMU contain the version of the interface that they were built with, and a Xen of another release
refuses them. So a broker that is started for programs of this machine simulates the release that they are made for.
"""

from __future__ import annotations

import os
import re

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    from collections.abc import Iterable

RELEASES = ("4.17", "4.20")
"""The releases that a broker can simulate."""
PLACES = ("/usr/local/lib", f"/usr/lib/{os.uname().machine}-linux-gnu", "/usr/lib64", "/usr/lib")
"""The directories where distributions have shared libraries."""


def release(places: Iterable[str] | None = None) -> str | None:
    """Find the release of Xen whose libxenctrl is installed; of several the newest that can be simulated.

    Args:
        places: Directories to look into; by default the ones of ``LD_LIBRARY_PATH``, and ``PLACES``.

    Returns:
        The release, as "4.17"; None without libxenctrl, or when it is made for none of ``RELEASES``.
    """
    if places is None:
        places = (*filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(":")), *PLACES)
    names = [name for place in places if os.path.isdir(place) for name in os.listdir(place) if "xenctrl" in name]
    found = {match[1] for name in names if (match := re.fullmatch(r"libxenctrl\.so\.(\d+\.\d+)(?:\.\d+)?", name))}
    return next((known for known in reversed(RELEASES) if known in found), None)
