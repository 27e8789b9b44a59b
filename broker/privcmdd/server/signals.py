# SPDX-License-Identifier: Apache-2.0
"""Signals from the first moment on.

Signals that come before the run can receive them are held, not lost. Without a handler, SIGTERM does not end the
first process of a container at all, and it ends any other process before that has removed its socket.
"""

from __future__ import annotations

import signal
from typing import Final

HANDLED: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


def hold() -> None:
    """Block the signals that we handle, so that they wait."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)


def release() -> None:
    """Receive the signals that wait, and later ones."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
