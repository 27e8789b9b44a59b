# SPDX-License-Identifier: Apache-2.0
"""Delay of signals while a process is being started, until the caller has its number and can end it."""

from __future__ import annotations

import contextlib
import signal
import threading

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    from collections.abc import Iterator

ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""The signals that end a program. A handler may turn one into an exception at any instruction."""


@contextlib.contextmanager
def put_off() -> Iterator[None]:
    """Handle the signals that end the program after the block, with the handlers that they have within it.

    To block the signals is not enough: a process that is started meanwhile would have them blocked too. Python runs
    handlers only in the main thread, so in every other thread this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _frame: came.append(number)) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for one in came:
            signal.raise_signal(one)
