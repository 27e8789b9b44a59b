# SPDX-License-Identifier: Apache-2.0
"""A program over raw ioctls runs unmodified under the preload library."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from subprocess import PIPE
from typing import TYPE_CHECKING

import pytest

from privcmd import Client
from privcmd.broker import PrivateBroker
from support.c_guests import CASES, EVENT_CASES, N_FRAMES, Guests, fill

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TIMEOUT_S = 60


def run(program: Path, guests: Guests, case: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one case of the raw program."""
    command = [str(program), str(guests.dom), str(guests.other), case]
    return subprocess.run(
        command,
        env=guests.environment(**environment),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.mark.parametrize("case", CASES)
def test_a_program_finds_what_it_would_find_on_a_host(
    case: str, libraries: Path, compiled: Callable[..., Path], guests: Guests
) -> None:
    """Each case of raw.c holds, and nothing is said on the standard error."""
    done = run(compiled("raw.c"), guests, case, LD_PRELOAD=str(libraries / "libprivcmdd-preload.so"))

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("case", ["batch_v2", "batch_v1", "mmap", "pointers"])
def test_a_program_finds_the_same_where_process_vm_readv_is_forbidden(
    case: str, libraries: Path, compiled: Callable[..., Path], guests: Guests
) -> None:
    """Cases of raw.c hold in a container that forbids the system call by which the shim reads the program."""
    command = [str(compiled("forbidden.c")), str(compiled("raw.c")), str(guests.dom), str(guests.other), case]
    env = guests.environment(LD_PRELOAD=str(libraries / "libprivcmdd-preload.so"))
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("case", EVENT_CASES)
def test_a_program_finds_the_event_channels_of_a_host(
    case: str, libraries: Path, compiled: Callable[..., Path], guests: Guests
) -> None:
    """Each case of events.c holds: ports are masked until written back, and a file goes with its last descriptor."""
    done = run(compiled("events.c"), guests, case, LD_PRELOAD=str(libraries / "libprivcmdd-preload.so"))

    assert (done.returncode, done.stderr) == (0, "")


def test_who_waits_for_an_event_is_woken_when_the_broker_goes(
    libraries: Path, compiled: Callable[..., Path], guests: Guests
) -> None:
    """A read that waits, and each one after it, is ENXIO; events that came before are read first; a line says why."""
    with PrivateBroker() as broker:
        with Client(broker.path) as client:
            dom = client.domains.create("hvm", 1)
        command = [str(compiled("events.c")), str(dom), str(dom), "the_broker_goes"]
        env = guests.environment(LD_PRELOAD=str(libraries / "libprivcmdd-preload.so"), PRIVCMDD_SOCKET=broker.path)
        with subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == "waiting\n"
            broker.kill()
            said = program.communicate(timeout=TIMEOUT_S)[1]

    assert program.returncode == 0, said
    assert said.startswith("privcmdd: the broker has gone away; no event will come, reading one fails with ENXIO")


def test_linux_5_10_splits_a_mapping(libraries: Path, compiled: Callable[..., Path]) -> None:
    """Parts of a mapping go, change and are filled by themselves, in the broker and in the process' own memory."""
    with PrivateBroker(config='[host]\nlinux = "5.10"\n') as broker, Client(broker.path) as client:
        dom = client.call("domain.create", kind="hvm", max_pages=N_FRAMES)["dom"]
        fill(client, dom)
        preload = str(libraries / "libprivcmdd-preload.so")
        done = run(compiled("raw.c"), Guests(broker, dom, dom), "parts", LD_PRELOAD=preload)

        assert (done.returncode, done.stderr) == (0, "")
        assert client.call("domain.destroy", dom=dom) == {"state": "gone"}


def test_too_many_runs_say_which_limit(libraries: Path, compiled: Callable[..., Path], guests: Guests) -> None:
    """More scattered frames than a process may have mappings: ENOMEM, with the limit's name and the number."""
    done = run(compiled("raw.c"), guests, "scattered", LD_PRELOAD=str(libraries / "libprivcmdd-preload.so"))

    assert done.returncode == 0, done.stderr
    assert "mapping 70000 runs" in done.stderr
    assert "vm.max_map_count = " in done.stderr


def test_without_a_broker_the_program_is_told(libraries: Path, compiled: Callable[..., Path], guests: Guests) -> None:
    """Opening a device answers ENXIO, and the standard error says where a broker was looked for and what to do."""
    preload = str(libraries / "libprivcmdd-preload.so")

    done = run(compiled("raw.c"), guests, "batch_v2", LD_PRELOAD=preload, PRIVCMDD_SOCKET="/nowhere/socket")

    assert done.returncode == 3
    assert "no broker answers at /nowhere/socket" in done.stderr
    assert "privcmdctl run" in done.stderr
    assert os.strerror(errno.ENXIO) in done.stderr


def test_a_broker_that_dies_takes_nothing_with_it(libraries: Path, compiled: Callable[..., Path]) -> None:
    """Its clients' calls fail with ENXIO, what they have mapped stays readable, and nothing hangs."""
    with PrivateBroker() as mortal:
        with Client(mortal.path) as client:
            dom = client.call("domain.create", kind="hvm", max_pages=N_FRAMES)["dom"]
            fill(client, dom)
        environment = Guests(mortal, dom, dom).environment(LD_PRELOAD=str(libraries / "libprivcmdd-preload.so"))
        command = [str(compiled("raw.c")), str(dom), str(dom), "orphan"]
        with subprocess.Popen(command, env=environment, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == "ready\n"
            os.kill(mortal.pid, signal.SIGKILL)
            _, said = program.communicate("go on\n", timeout=TIMEOUT_S)

    assert program.returncode == 0, said
    assert said.count("the broker has gone away") == 1


def test_a_number_that_is_used_again_is_another_domain(
    libraries: Path, compiled: Callable[..., Path], guests: Guests
) -> None:
    """What was kept of a dead domain is not shown for the one that has its number now."""
    environment = guests.environment(LD_PRELOAD=str(libraries / "libprivcmdd-preload.so"))
    command = [str(compiled("raw.c")), str(guests.dom), str(guests.other), "again"]
    with (
        Client(guests.broker.path) as client,
        subprocess.Popen(command, env=environment, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True) as program,
    ):
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        assert client.call("domain.destroy", dom=guests.dom) == {"state": "gone"}
        client.call("domain.create", kind="hvm", max_pages=N_FRAMES, dom=guests.dom)
        fill(client, guests.dom, bytes([200]) * N_FRAMES)
        _, said = program.communicate("go on\n", timeout=TIMEOUT_S)

    assert program.returncode == 0, said
