# SPDX-License-Identifier: Apache-2.0
"""Opening files so that their size cannot be changed through the descriptor, whoever gets it (landlock(7)).

A Landlock rule binds a thread. A descriptor that such a thread opens has no right to truncate, for good and in every
process that it is sent to. So one thread is bound, opens, and does nothing else; all others stay free.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import threading
from queue import SimpleQueue
from typing import Final

# linux/landlock.h, linux/prctl.h; the numbers of the system calls are the same on all machines.
CREATE_RULESET: Final = 444
RESTRICT_SELF: Final = 446
CREATE_RULESET_VERSION: Final = 1
ACCESS_FS_TRUNCATE: Final = 1 << 14
FIRST_VERSION: Final = 3  # of Landlock, that has ACCESS_FS_TRUNCATE: Linux 6.2
PR_SET_NO_NEW_PRIVS: Final = 38

Asked = tuple[str, int]


class Opener:
    """The thread that opens; ``close`` it."""

    def __init__(self) -> None:
        """Start and bind the thread.

        Raises:
            OSError: The kernel has no such rules (ENOSYS, EOPNOTSUPP), or something forbids us to use them.
        """
        self._asked: SimpleQueue[Asked | None] = SimpleQueue()
        self._answers: SimpleQueue[int | OSError] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="opener", daemon=True)
        self._thread.start()
        self._answer()

    @classmethod
    def of_this_kernel(cls) -> Opener | None:
        """An opener; None where the kernel has no such rules."""
        try:
            return cls()
        except OSError:
            return None

    def open(self, path: str, flags: int) -> int:
        """Open a file that is there, as os.open does; its size cannot be changed through the descriptor."""
        self._asked.put((path, flags))
        return self._answer()

    def close(self) -> None:
        """End the thread."""
        self._asked.put(None)
        self._thread.join()

    def _answer(self) -> int:
        answer = self._answers.get()
        if isinstance(answer, OSError):
            raise answer
        return answer

    def _run(self) -> None:
        try:
            _bind_thread()
        except OSError as problem:
            self._answers.put(problem)
            return
        self._answers.put(0)
        while (asked := self._asked.get()) is not None:
            try:
                self._answers.put(os.open(*asked))
            except OSError as problem:
                self._answers.put(problem)


def _bind_thread() -> None:
    """Forbid the calling thread to change sizes of files that it opens from now on."""
    libc = ctypes.CDLL(None, use_errno=True)

    def call(*arguments: object) -> int:
        answer: int = libc.syscall(*arguments)
        if answer < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"landlock: {os.strerror(number)}")
        return answer

    if call(CREATE_RULESET, None, ctypes.c_size_t(0), CREATE_RULESET_VERSION) < FIRST_VERSION:
        raise OSError(errno.EOPNOTSUPP, "landlock: this kernel has no rule about truncating")
    handled = struct.pack("=Q", ACCESS_FS_TRUNCATE)
    rules = call(CREATE_RULESET, ctypes.c_char_p(handled), ctypes.c_size_t(len(handled)), 0)
    try:
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        call(RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)
