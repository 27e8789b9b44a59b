# SPDX-License-Identifier: Apache-2.0
"""xenstored for the programs that want one (xl, QEMU): the distribution's own, unmodified, under the shim.

It is there where it is installed and the environment names no other one (``XENSTORED_PATH``, ``XENSTORED_RUNDIR``), in
a directory of its own, and knows the names of the domains. It is started when its first client comes.
"""

from __future__ import annotations

import errno
import os

from privcmd.errors import PrivcmdError
from privcmd.run._door import Door
from privcmd.run._reach import which

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable

NAME = "xenstored"
PLACES = ("/usr/sbin", "/usr/lib/xen-*/bin", "/usr/local/sbin")
START_TIMEOUT_S = 10.0
TICK_MS = 2


def find() -> str | None:
    """The program, or None where it is not installed."""
    if (path := which(NAME)) is not None:
        return path
    from glob import glob  # noqa: PLC0415 - where it is on PATH, nothing is to be looked for

    return next((path for place in PLACES for path in sorted(glob(f"{place}/{NAME}"), reverse=True)), None)


def wanted(*, needed: bool = False) -> str | None:
    """The xenstored that is to be run; None when none is to be.

    Args:
        needed: Whether it is an error when there is none to be had.

    Raises:
        PrivcmdError: ENOENT, it is needed and not installed; EEXIST, the environment names another one.
    """
    named = {"XENSTORED_PATH", "XENSTORED_RUNDIR"} & os.environ.keys()
    path = None if named else find()
    if path is None and needed:
        raise PrivcmdError(
            errno.EEXIST if named else errno.ENOENT,
            f"{min(named)} names a xenstored already"
            if named
            else f"{NAME} is not installed; Debian has it in xen-utils-4.17, or that of its own release of Xen",
        )
    return path


class Xenstored:
    """A xenstored behind a door.

    Args:
        path: The program.
        directory: A directory to be made, that its clients name in ``XENSTORED_RUNDIR``.
        broker_path: The broker that it is to find.
        names: Says the numbers and names of the domains that have one, when it is started.

    Attributes:
        directory: The same.
        door: Its door; opening it raises a PrivcmdError, EIO, with what it said when it did not come up.
    """

    def __init__(
        self, path: str, directory: str, broker_path: str, names: Callable[[], Iterable[tuple[int, str]]]
    ) -> None:
        os.mkdir(directory, 0o700)
        self.directory = directory
        self._path = path
        self._broker_path = broker_path
        self._names = names
        self.door: Door = Door(f"{directory}/socket", self._start)

    def close(self) -> None:
        """End it. Idempotent."""
        self.door.close()

    def _start(self, door: Door) -> None:
        import signal  # noqa: PLC0415 - these are slow to import, and most programs need no xenstored

        from privcmd.run import _program as program  # noqa: PLC0415
        from privcmd.run._relay import Relay  # noqa: PLC0415

        own = f"{self.directory}/{NAME}"
        os.mkdir(own, 0o700)
        with open(f"{own}/output", "wb") as output:
            env = {**program.environment(self._broker_path, NAME), "XENSTORED_RUNDIR": own}
            process = program.start(door.stack, [self._path, "-N"], env, output, signal.SIGKILL)
        if not _answers(process, own, door):
            with open(f"{own}/output", errors="replace") as output_again:
                raise PrivcmdError(errno.EIO, f"{self._path} did not come up: {output_again.read().strip()}")
        name(own, [(0, "Domain-0"), *self._names()])
        # It is found where its clients look from now on; those who came before are taken there.
        os.rename(f"{own}/socket", f"{self.directory}/socket")
        door.stack.callback(Relay(door.listener, f"{self.directory}/socket").close)


def name(directory: str, names: Iterable[tuple[int, str]]) -> None:
    """Give domains their names, as a toolstack does."""
    from privcmd.run._store import Store  # noqa: PLC0415 - as above

    with Store(directory) as store:
        for dom, text in names:
            store.write(f"/local/domain/{dom}/name", text)


def _answers(process: subprocess.Popen[bytes], directory: str, door: Door) -> bool:
    """Wait until it answers; it says so in no other way."""
    import contextlib  # noqa: PLC0415 - as above
    import select  # noqa: PLC0415
    import time  # noqa: PLC0415

    from privcmd.run._store import Store  # noqa: PLC0415

    ended = os.pidfd_open(process.pid)
    try:
        poller = select.poll()
        poller.register(ended, select.POLLIN)
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and not poller.poll(TICK_MS) and not door.closing:
            with contextlib.suppress(OSError), Store(directory) as store:  # it listens before it knows that all is well
                store.read("/tool")
                return True
        return False
    finally:
        os.close(ended)
