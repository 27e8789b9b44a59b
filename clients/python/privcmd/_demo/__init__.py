# SPDX-License-Identifier: Apache-2.0
"""The demonstration: a real broker, real device-model processes, real memory; every claim checked.

Nothing is mocked and nothing sleeps: processes wait for each other's messages.
"""

from __future__ import annotations

import sys
from pathlib import Path

from privcmd._demo import mapping, trouble
from privcmd._demo.guests import Guests
from privcmd._demo.stage import CheckFailed, Stage
from privcmd.broker import PrivateBroker
from privcmd.errors import PrivcmdError


def demonstrate(file: str | None = None, *, as_json: bool = False, colour: bool = False) -> int:
    """Run all steps on a broker of its own.

    Args:
        file: The file to load into guest memory; by default the running Python.
        as_json: Print one JSON document at the end instead of text.
        colour: Print colours, for a terminal.

    Returns:
        The exit status: 0, or 1 when a check failed; standard error names the check.

    Raises:
        BrokenPipeError: The reader of standard output has gone.
    """
    stage = Stage(as_json=as_json, colour=colour)
    try:
        _run(stage, Path(file if file is not None else sys.executable).resolve())
    except BrokenPipeError:
        raise  # the reader has gone: the caller handles it, because it owns standard output
    except (CheckFailed, PrivcmdError, OSError) as error:
        stage.close(str(error))
        sys.stderr.write(f"the demonstration failed: {error}\n")
        return 1
    stage.close(None)
    return 0


def _run(stage: Stage, file: Path) -> None:
    content = file.read_bytes()
    with PrivateBroker() as broker, broker.client() as client:
        with stage.step("A broker with its built-in configuration, two guests, and a file in guest memory"):
            guests = Guests.make(stage, broker, client, file, content)
        with stage.step("Two device models map the file with MMAPBATCH and see each other's writes"):
            mapping.share(stage, guests)
        with stage.step("A batch with absent frames in it"):
            mapping.absent_frames(stage, guests)
        with stage.step("MMAP of several entries that do not follow each other"):
            mapping.entries(stage, guests)
        with stage.step("Threads replace one range again and again while others look"):
            trouble.replacements(stage, guests)
        with stage.step("A device model is killed in the middle of a batch; a guest dies"):
            trouble.killed(stage, guests)
            trouble.dying(stage, guests)
        with stage.step("The counters at the end"):
            trouble.counters(stage, guests)
            status = broker.terminate()
            stage.check(status == 0, "the broker stops on SIGTERM with status 0", status)
