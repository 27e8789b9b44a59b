# SPDX-License-Identifier: Apache-2.0
"""Signals are put off while a process is being started, until the caller knows of it and can end it."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDING: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""Those that end a program, and that a handler may turn into an exception at any instruction."""


@contextlib.contextmanager
def put_off() -> Iterator[None]:
    """Take signals that end us after the block, as they would have been taken within it.

    Blocking them would not do: a process started meanwhile would have them blocked too. Python runs handlers in the
    main thread only; in every other thread nothing can come in between, and nothing is done.
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
