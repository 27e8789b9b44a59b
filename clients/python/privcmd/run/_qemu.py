# SPDX-License-Identifier: Apache-2.0
"""QEMU's Xen device model for a simulated domain: the distribution's own, unmodified, under the shim.

It attaches to a domain that is there (``-xen-attach``), as on a host whose toolstack has made one, and is asked over
its monitor (QMP) whether it is running. It says so in xenstore as well, but later releases not when they are restricted
to their domain, because they could not write it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from privcmd.errors import PrivcmdError
from privcmd.run import _program as program
from privcmd.run._models import how

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NAMES: Final = ("xen-qemu-system-i386", "qemu-system-i386")
PLACES: Final = ("/usr/libexec", "/usr/lib/xen*/bin", "/usr/local/lib/xen/bin")
START_TIMEOUT_S: Final = 60.0
MIB_PAGES: Final = 256
# A machine with nothing on it but what Xen's always has, and nothing that waits for a person.
# -nodefaults leaves out serial ports and monitors: the first -serial of the caller is COM1.
BARE: Final = ("-nodefaults", "-no-user-config", "-display", "none")


def find() -> str:
    """The program.

    Raises:
        PrivcmdError: ENOENT, it is not installed.
    """
    for name in NAMES:
        for place in PLACES:
            for path in sorted(Path("/").glob(f"{place[1:]}/{name}"), reverse=True):
                return str(path)
        if found := shutil.which(name):
            return found
    raise PrivcmdError(errno.ENOENT, "QEMU's Xen device model is not installed; Debian has it in qemu-system-xen")


def command(dom: int, n_pages: int, arguments: Sequence[str] = ()) -> list[str]:
    """The command line for a domain."""
    memory_mib = max(1, n_pages // MIB_PAGES)
    which = ["-xen-domid", str(dom), "-xen-attach", "-machine", "xenfv,suppress-vmdesc=on", "-m", str(memory_mib)]
    return [find(), *which, "-smp", "1,maxcpus=1", *BARE, *arguments]


@contextlib.contextmanager
def running(broker_path: str, store: Path, dom: int, n_pages: int, arguments: Sequence[str] = ()) -> Iterator[int]:
    """Have one for as long as the block lasts, running when it begins.

    Args:
        broker_path: The broker that it is to find.
        store: The directory of the xenstored that it is to find.
        dom: Its domain, HVM.
        n_pages: Memory of the domain, in pages.
        arguments: More of its command line: drives, devices, a display.

    Returns:
        Its process.

    Raises:
        PrivcmdError: ENOENT, it is not installed; EIO, it ended, or did not say that it is running, with what it said.
    """
    env = {**program.environment(broker_path, f"qemu-{dom}"), "XENSTORED_RUNDIR": str(store)}
    with contextlib.ExitStack() as stack:
        door = store / f"qmp-{dom}"
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(door))
        listener.listen(1)
        words = [*command(dom, n_pages, arguments), "-qmp", f"unix:{door}"]
        output = stack.enter_context(tempfile.TemporaryFile())
        process = program.start(stack, words, env, output, signal.SIGTERM)
        pidfd = os.pidfd_open(process.pid)
        stack.callback(os.close, pidfd)
        runs = _runs(listener, pidfd)
        door.unlink()  # the next one for this domain has a door of the same name
        if not runs:
            process.kill()
            ended = process.wait()
            output.seek(0)
            said = output.read().decode(errors="replace").strip()
            end = how(ended) if ended != -signal.SIGKILL else "did not come up"
            raise PrivcmdError(errno.EIO, f"{words[0]} {end}: {said or 'it said nothing'}")
        yield process.pid
        ended_by_itself = process.poll()
        output.seek(0)
        said = output.read().decode(errors="replace").strip()
        if ended_by_itself is not None:
            sys.stderr.write(f"privcmdctl: QEMU of domain {dom} {how(ended_by_itself)} before the program ended\n")
        for line in said.splitlines():
            sys.stderr.write(f"privcmdctl: QEMU of domain {dom}: {line}\n")


def _runs(listener: socket.socket, pidfd: int) -> bool:
    """Wait until QEMU has connected its monitor and says there that it runs, or has ended. Returns whether it runs."""
    deadline = time.monotonic() + START_TIMEOUT_S

    def wait_for(sock: socket.socket) -> bool:
        poller = select.poll()
        poller.register(sock, select.POLLIN)
        poller.register(pidfd, select.POLLIN)
        return sock.fileno() in {fd for fd, _ in poller.poll(max(0.0, (deadline - time.monotonic()) * 1000))}

    if not wait_for(listener):
        return False
    monitor, _ = listener.accept()
    with monitor:
        monitor.sendall(b'{"execute": "qmp_capabilities"} {"execute": "query-status"}')
        begun = b""  # of a line
        while wait_for(monitor) and (data := monitor.recv(65536)):
            *lines, begun = (begun + data).split(b"\n")
            if any(_says_running(json.loads(line)) for line in lines):
                return True
    return False


def _says_running(message: dict[str, Any]) -> bool:
    """Whether a message of the monitor's says that QEMU is running: the answer, or later an event."""
    answer = message.get("return")
    return message.get("event") == "RESUME" or (isinstance(answer, dict) and answer.get("status") == "running")
