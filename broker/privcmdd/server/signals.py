# SPDX-License-Identifier: Apache-2.0
"""Signals from the first moment on.

Until the run is there to take them they are held, not lost: a first process of a container is not ended by a
SIGTERM that it has no handler for, and any other would leave its socket behind.
"""

from __future__ import annotations

import signal
from typing import Final

HANDLED: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


def hold() -> None:
    """Block the signals that we handle, so that they wait."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)


def release() -> None:
    """Receive the signals that wait, and those to come."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
