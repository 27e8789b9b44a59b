# SPDX-License-Identifier: Apache-2.0
"""QEMU's Xen device model for a simulated domain: the distribution's own, unmodified, under the shim.

It attaches to a domain that is there (``-xen-attach``), as on a host whose toolstack has made one, and says in
xenstore when it is running.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from privcmd.errors import PrivcmdError
from privcmd.run import _program as program
from privcmd.run._models import how
from privcmd.run._store import Store

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
    state = f"/local/domain/0/device-model/{dom}/state"
    with contextlib.ExitStack() as stack:
        words = command(dom, n_pages, arguments)
        client = stack.enter_context(Store(store))
        client.write(state, "")  # one that ran before and was killed has left its own word there
        output = stack.enter_context(tempfile.TemporaryFile())
        process = program.start(stack, words, env, output, signal.SIGTERM)
        pidfd = os.pidfd_open(process.pid)
        stack.callback(os.close, pidfd)
        runs = client.wait_for(state, "running", pidfd=pidfd, timeout_s=START_TIMEOUT_S)
        client.close()
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
