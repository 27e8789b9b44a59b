# SPDX-License-Identifier: Apache-2.0
"""Check recorded histories: ``python -m history FILE...`` in tests/, or ``make history FILE=...``.

Exit status 0 when no record is wrong, else 1, and 2 for a file that cannot be read.
"""

from __future__ import annotations

import sys
from pathlib import Path

from history.order import Wrong
from history.record import History
from history.replay import check


def main(names: list[str]) -> int:
    """Check each file and say what came of it."""
    status = 0 if names else 2
    for name in names:
        try:
            print(f"{name}: right: {check(History.load(Path(name)))}")
        except Wrong as wrong:
            print(f"{name}: WRONG: {wrong}")
            status = max(status, 1)
        except (OSError, ValueError, TypeError, LookupError) as problem:
            print(f"{name}: cannot be read: {problem!r}")
            status = 2
    if not names:
        print(__doc__)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
