# SPDX-License-Identifier: Apache-2.0
"""What commands do about their standard output: other encodings than UTF-8, full disks, readers that have gone."""

from __future__ import annotations

import errno
import os
import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

UNWRITTEN: Final = 1
"""Exit status of a command whose output was not taken."""
# What a write says of a file that takes no more. Commands name all other failures themselves.
UNTAKEN: Final = frozenset({errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def guarded(prog: str, command: Callable[[], int]) -> int:
    """Run a command that prints, to its end.

    A name that standard output cannot encode is written with escapes. Output that is not taken is one sentence and
    status 1; a reader that has gone has read enough, and nothing is said.

    Args:
        prog: The name of the command, for the sentence.
        command: What to run; its exit status is handed on.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = command()
        if sys.stdout is not None:  # started without one
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
