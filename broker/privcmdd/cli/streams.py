# SPDX-License-Identifier: Apache-2.0
"""Problems of a command's standard output: other encodings than UTF-8, full disks, readers that have gone."""

from __future__ import annotations

import errno
import os
import sys
from io import TextIOWrapper

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Never

UNWRITTEN = 1
"""Exit status of a command whose output could not be written."""
# The errnos of a write to a file that takes no more. Commands name all other failures themselves.
UNTAKEN = frozenset({errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def guarded(prog: str, command: Callable[[], int]) -> int:
    """Run a command that prints. Returns its exit status.

    A name that standard output cannot encode is written with escapes. When the output cannot be written, one sentence
    says so and the status is 1; when its reader has gone, the status is 1 and nothing is said.

    Args:
        prog: The name of the command, for the sentence.
        command: The command; returns its exit status.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = command()
        if sys.stdout is not None:  # the process was started without one
            sys.stdout.flush()
    except OSError as problem:
        if problem.errno not in UNTAKEN:
            raise
        # What is still buffered must not fail again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if problem.errno != errno.EPIPE:
            sys.stderr.write(f"{prog}: cannot write to standard output: {problem.strerror}\n")
        return UNWRITTEN
    return status


def end_process(status: int) -> Never:
    """End this process at once, with an exit status.

    Nothing is left that has to be taken down in order, and an interpreter takes as long to do that as a short command
    takes for all else.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:  # the process was started without one
                stream.flush()
        except (OSError, ValueError):  # it has been said, or there is no place to say it
            pass
    os._exit(status)
