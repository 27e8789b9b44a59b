# SPDX-License-Identifier: Apache-2.0
"""xenstored for the programs that want one (xl, QEMU): the distribution's own, unmodified, under the shim.

It is started where it is installed and the environment names no other one (``XENSTORED_PATH``, ``XENSTORED_RUNDIR``).
It lives in a directory of its own, and knows the names of the domains.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from privcmd.errors import PrivcmdError
from privcmd.run import program
from privcmd.run.store import Store

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable, Iterator

NAME: Final = "xenstored"
PLACES: Final = ("/usr/sbin", "/usr/lib/xen-*/bin", "/usr/local/sbin")
START_TIMEOUT_S: Final = 10.0
TICK_MS: Final = 2


def find() -> str | None:
    """The program, or None where it is not installed."""
    return shutil.which(NAME) or next(
        (str(path) for place in PLACES for path in sorted(Path("/").glob(f"{place[1:]}/{NAME}"), reverse=True)), None
    )


@contextlib.contextmanager
def running(broker_path: str, *, needed: bool = False) -> Iterator[Path | None]:
    """Have one for as long as the block lasts.

    Args:
        broker_path: The broker that it is to find.
        needed: Whether it is an error when there is none to be had.

    Returns:
        The directory that its clients name in ``XENSTORED_RUNDIR``; None when there is none of ours.

    Raises:
        PrivcmdError: ENOENT, it is needed and not installed; EEXIST, the environment names another one; EIO, it did not
            come up.
    """
    named = {"XENSTORED_PATH", "XENSTORED_RUNDIR"} & os.environ.keys()
    path = find()
    if path is None or named:
        if needed:
            raise PrivcmdError(
                errno.EEXIST if named else errno.ENOENT,
                f"{min(named)} names a xenstored already"
                if named
                else f"{NAME} is not installed; Debian has it in xen-utils-4.17, or that of its own release of Xen",
            )
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="xs-", dir="/tmp") as made, contextlib.ExitStack() as stack:
        directory = Path(made)
        env = {**program.environment(broker_path, NAME), "XENSTORED_RUNDIR": made}
        with (directory / "output").open("wb") as output:
            process = program.start(stack, [path, "-N"], env, output, signal.SIGKILL)
        answers = _answers(process, directory)
        if not answers:
            said = (directory / "output").read_text(errors="replace").strip()
            if needed:
                raise PrivcmdError(errno.EIO, f"{path} did not come up: {said}")
            sys.stderr.write(f"privcmdctl: {path} did not come up, programs will find no xenstore: {said}\n")
        yield directory if answers else None


def name(directory: Path, names: Iterable[tuple[int, str]]) -> None:
    """Give domains their names, as a toolstack does."""
    with Store(directory) as store:
        for dom, text in names:
            store.write(f"/local/domain/{dom}/name", text)


def _answers(process: subprocess.Popen[bytes], directory: Path) -> bool:
    """Wait until it answers; it says so in no other way."""
    ended = os.pidfd_open(process.pid)
    try:
        poller = select.poll()
        poller.register(ended, select.POLLIN)
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and not poller.poll(TICK_MS):
            with contextlib.suppress(OSError), Store(directory) as store:  # it listens before it knows that all is well
                store.read("/tool")
                return True
        return False
    finally:
        os.close(ended)
