# SPDX-License-Identifier: Apache-2.0
"""What the process' own map looks like around memory of the device: its parts, its flags, its children."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from privcmd import Client
from privcmd.broker import PrivateBroker
from support.c_guests import N_FRAMES, Guests, fill

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TIMEOUT_S = 60


def started(libraries: Path, program: Path, guests: Guests, case: str) -> subprocess.Popen[str]:
    """A case of mapped.c under the shim."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [str(program), str(guests.dom), case],
        env=guests.environment(LD_PRELOAD=str(libraries / "libprivcmdd-preload.so")),
        text=True,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
    )


@pytest.mark.parametrize("case", ["replacing", "flags", "children"])
def test_the_map_is_that_of_a_host(case: str, libraries: Path, compiled: Callable[..., Path], guests: Guests) -> None:
    """Law 6.5: errnos of replacing a part, flags of mappings, what children have; nothing is said."""
    with started(libraries, compiled("mapped.c"), guests, case) as program:
        said = program.communicate(timeout=TIMEOUT_S)[1]

    assert (program.returncode, said) == (0, "")


def test_parts_of_a_mapping_under_linux_5_10(libraries: Path, compiled: Callable[..., Path]) -> None:
    """Law 6.5: mprotect and mmap of a part, of the program's own memory beside it, and of a file that is only read."""
    with PrivateBroker(config='[host]\nlinux = "5.10"\n') as broker, Client(broker.path) as client:
        dom = client.call("domain.create", kind="hvm", max_pages=N_FRAMES)["dom"]
        fill(client, dom)
        with started(libraries, compiled("mapped.c"), Guests(broker, dom, dom), "parts") as program:
            said = program.communicate(timeout=TIMEOUT_S)[1]

    assert program.returncode == 0, said


def test_retries_with_a_page_that_fails_behind_a_good_one(
    libraries: Path, compiled: Callable[..., Path], guests: Guests
) -> None:
    """Law 6.5: what failed is asked for again, run by run; what has come is there, and what was there stays."""
    with Client(guests.broker.path) as client:
        client.call("domain.page_out", dom=guests.dom, arr=[100, 101])
        with started(libraries, compiled("mapped.c"), guests, "retries") as program:
            assert program.stdin is not None
            assert program.stdout is not None
            for gfn in (100, 101):
                assert program.stdout.readline() == "ready\n"
                client.call("domain.page_in", dom=guests.dom, arr=[gfn])
                program.stdin.write("go on\n")
                program.stdin.flush()
            said = program.communicate(timeout=TIMEOUT_S)[1]

    assert (program.returncode, said) == (0, "")
