# SPDX-License-Identifier: Apache-2.0
"""Programs that do what few programs do: each finds what it would find on a host, or is told why not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING

import pytest

from privcmd import Client

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.c_guests import Guests

TIMEOUT_S = 60
PRELOAD = "libprivcmdd-preload.so"
ODD = (
    "both_bind_at_once",
    "a_vfork_child_closes_all",
    "many_ports",
    "high_descriptors",
    "a_reader_is_cancelled",
    "callers_are_cancelled",
)


def run(
    program: Path, guests: Guests, libraries: Path, *arguments: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a case of odd.c under the shim."""
    return subprocess.run(
        [str(program), str(guests.dom), *arguments],
        env=guests.environment(LD_PRELOAD=str(libraries / PRELOAD), **environment),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        cwd=cwd,
    )


@pytest.mark.parametrize("case", ODD)
def test_odd_programs_find_what_a_host_has(
    case: str, libraries: Path, compiled: Callable[..., Path], guests: Guests
) -> None:
    """Law 5.3: each case of odd.c holds, and nothing is said."""
    done = run(compiled("odd.c", "-lpthread"), guests, libraries, case)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("cleared", [[], ["cleared"]])
def test_a_program_that_changes_its_environment(
    cleared: list[str], libraries: Path, compiled: Callable[..., Path], guests: Guests
) -> None:
    """Law 5.3: a broker is known until the end by what was said of it at first, also when that is relative."""
    directory, _, name = guests.broker.path.rpartition("/")
    program = compiled("odd.c", "-lpthread")
    done = run(
        program, guests, libraries, "the_environment_changes", *cleared, cwd=Path(directory), PRIVCMDD_SOCKET=name
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: chroot and setuid, which need root")
def test_a_program_that_changes_its_root_and_its_uid(
    libraries: Path, compiled: Callable[..., Path], guests: Guests, tmp_path: Path
) -> None:
    """Law 5.3: what was open goes on, event channels too; a child that is forked then is told why it has nothing."""
    done = run(compiled("odd.c", "-lpthread"), guests, libraries, "root_and_uid_change", str(tmp_path))

    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(
        "privcmdd: no connection could be made for this child of a fork: no broker answers at "
    )
    assert done.stderr.count("\n") == 1


def test_reads_of_all_kinds(libraries: Path, compiled: Callable[..., Path], guests: Guests) -> None:
    """Law 5.3: readv, preadv, what _FORTIFY_SOURCE calls; of a stream it is said that it cannot be read."""
    program = compiled("odd.c", "-lpthread", "-O2", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2")
    done = run(program, guests, libraries, "reads_of_all_kinds")

    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(
        "privcmdd: a stream of /dev/xen/evtchn cannot be read or written (fread, fwrite): use"
    )
    assert done.stderr.count("\n") == 1


def test_who_fills_an_event_holds_nobody_up(libraries: Path, compiled: Callable[..., Path], guests: Guests) -> None:
    """Law 1.1: a notification does not wait, whatever the other end has done to the flags and the count."""
    with Client(guests.broker.path) as client, client.events.alloc_unbound(0, on=guests.dom) as channel:
        command = [str(compiled("odd.c", "-lpthread")), str(guests.dom), "the_other_end_is_full", str(channel.port)]
        with subprocess.Popen(
            command,
            env=guests.environment(LD_PRELOAD=str(libraries / PRELOAD)),
            text=True,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
        ) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == "ready\n"
            os.set_blocking(channel.fileno(), True)
            os.eventfd_write(channel.fileno(), 2**64 - 2)
            said = program.communicate("go on\n", timeout=TIMEOUT_S)[1]

    assert (program.returncode, said) == (0, "")


def test_pythons_subprocess_leaves_event_channels_alone(libraries: Path, guests: Guests) -> None:
    """Law 5.3: it closes all descriptors in a child of vfork; the parent's work on, and its files end with the last."""
    program = """
import ctypes, os, struct, subprocess
BIND_INTERDOMAIN, BIND_UNBOUND_PORT = 0x84501, 0x44502
def bound(fd, command, *numbers):
    argument = (ctypes.c_uint32 * len(numbers))(*numbers)
    return ctypes.CDLL(None).ioctl(fd, command, argument)
one, other = (os.open("/dev/xen/evtchn", os.O_RDWR | os.O_NONBLOCK) for _ in range(2))
first = bound(one, BIND_UNBOUND_PORT, 0)
for _ in range(2):
    second = bound(other, BIND_INTERDOMAIN, 0, first)
    subprocess.run(["true"], check=True, close_fds=True)
    assert struct.unpack("I", os.read(other, 4)) == (second,), second
    os.close(other)
    other = os.open("/dev/xen/evtchn", os.O_RDWR | os.O_NONBLOCK)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=guests.environment(LD_PRELOAD=str(libraries / PRELOAD)),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
