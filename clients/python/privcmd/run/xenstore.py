# SPDX-License-Identifier: Apache-2.0
"""xenstored for the programs that want one (xl, QEMU): the distribution's own, unmodified, under the shim.

It is started where it is installed and nobody has named another one (``XENSTORED_PATH``, ``XENSTORED_RUNDIR``), lives
in a directory of its own, and knows the names of the domains.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from privcmd.run import program

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NAME: Final = "xenstored"
PLACES: Final = ("/usr/sbin", "/usr/lib/xen-*/bin", "/usr/local/sbin")
START_TIMEOUT_S: Final = 10.0
TICK_MS: Final = 2
WRITE: Final = 11  # XS_WRITE, xen/include/public/io/xs_wire.h
HEADER: Final = struct.Struct("<4I")  # type, request, transaction, size


def find() -> str | None:
    """The program, or None where it is not installed."""
    return shutil.which(NAME) or next(
        (str(path) for place in PLACES for path in sorted(Path("/").glob(f"{place[1:]}/{NAME}"), reverse=True)), None
    )


@contextlib.contextmanager
def running(broker_path: str) -> Iterator[Path | None]:
    """Have one for as long as the block lasts.

    Args:
        broker_path: The broker that it is to find.

    Returns:
        The directory that its clients name in ``XENSTORED_RUNDIR``; None when there is none of ours.
    """
    path = find()
    if path is None or {"XENSTORED_PATH", "XENSTORED_RUNDIR"} & os.environ.keys():
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="xs-", dir="/tmp") as made, contextlib.ExitStack() as stack:
        directory = Path(made)
        env = {**program.environment(broker_path, NAME), "XENSTORED_RUNDIR": made}
        with (directory / "output").open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - found by us
                [path, "-N"], env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        stack.callback(process.wait)
        stack.callback(process.kill)
        answers = _answers(process, directory)
        if not answers:
            said = (directory / "output").read_text(errors="replace").strip()
            sys.stderr.write(f"privcmdctl: {path} did not come up, programs will find no xenstore: {said}\n")
        yield directory if answers else None


def name(directory: Path, names: Iterable[tuple[int, str]]) -> None:
    """Give domains their names, as a toolstack does."""
    with contextlib.closing(_connected(directory)) as connected:
        for number, (dom, text) in enumerate(names):
            body = f"/local/domain/{dom}/name\0{text}".encode()
            connected.sendall(HEADER.pack(WRITE, number, 0, len(body)) + body)
            _, _, _, size = HEADER.unpack(connected.recv(HEADER.size, socket.MSG_WAITALL))
            connected.recv(size, socket.MSG_WAITALL)


def _answers(process: subprocess.Popen[bytes], directory: Path) -> bool:
    """Wait until it listens; it says so in no other way."""
    ended = os.pidfd_open(process.pid)
    try:
        poller = select.poll()
        poller.register(ended, select.POLLIN)
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and not poller.poll(TICK_MS):
            with contextlib.suppress(OSError):
                _connected(directory).close()
                return True
        return False
    finally:
        os.close(ended)


def _connected(directory: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.settimeout(START_TIMEOUT_S)
        made.connect(str(directory / "socket"))
    except OSError:
        made.close()
        raise
    return made
