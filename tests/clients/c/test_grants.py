# SPDX-License-Identifier: Apache-2.0
"""libxengnttab, unmodified, over the preload library."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from privcmd import Client
from privcmd.guest import Guest

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.c_guests import Guests

TIMEOUT_S = 60
LIBRARIES = ("-lxengnttab", "-lxenevtchn", "-lxenforeignmemory")
TABLE = 1 << 32
PRELOAD = "libprivcmdd-preload.so"


@pytest.mark.parametrize("how", ["plain", "sanitizers"])
def test_a_back_end_maps_copies_and_is_cleaned_up_after(
    how: str, request: pytest.FixtureRequest, compiled: Callable[..., Path], guests: Guests
) -> None:
    """Maps one and several, sees them in use, copies in all directions; at its end a byte is cleared, an event sent."""
    if not Path("/usr/include/xengnttab.h").exists():
        pytest.skip("NOT TESTED: libxengnttab; libxen-dev is missing (apt-get install libxen-dev)")
    if how == "plain":
        program = compiled("grants.c", *LIBRARIES)
        environment = guests.environment(LD_PRELOAD=str(request.getfixturevalue("libraries") / PRELOAD))
    else:
        program = compiled("grants.c", *LIBRARIES, "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
        options = "handle_segv=0:handle_sigbus=0"
        environment = guests.environment(LD_PRELOAD=request.getfixturevalue("sanitized"), ASAN_OPTIONS=options)
    with Client(guests.broker.path) as client:
        client.attach(personality="linux")
        client.mmap(TABLE, 8192, 3, fixed=True)
        with client.events.alloc_unbound(0, on=guests.dom) as channel:
            command = [str(program), str(guests.dom), str(channel.port)]
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
            assert done.returncode == 0, done.stderr

            assert channel.wait(TIMEOUT_S)
        client.mmap_resource(guests.dom, 1, 0, num=1, addr=TABLE)
        client.privcmd_mmapbatch_v2(guests.dom, TABLE + 4096, [6])
        entries = client.read(TABLE + 8 * 8, 24)
        clean = client.read(TABLE + 4096, 8)
        client.munmap(TABLE, 8192)

    assert struct.unpack("<HHIHHIHHI", entries) == (1, 0, 5, 1, 0, 6, 5, 0, 5)
    assert clean == b"\xee\xee\xee\xee\xee\x00\xee\xee"


def test_restrict_all_restricts_or_puts_out_of_use(
    libraries: Path, compiled: Callable[..., Path], guests: Guests
) -> None:
    """Privcmd and evtchn are restricted, gntdev answers no more; what was mapped stays mapped."""
    if not Path("/usr/include/xentoolcore.h").exists():
        pytest.skip("NOT TESTED: libxentoolcore; libxen-dev is missing (apt-get install libxen-dev)")
    program = compiled("restricted.c", *LIBRARIES, "-lxencall", "-lxentoolcore")
    environment = guests.environment(LD_PRELOAD=str(libraries / "libprivcmdd-preload.so"))
    with Client(guests.broker.path) as client, Guest(guests.other, client) as guest:
        guest.grant(5, 8)
        command = [str(program), str(guests.dom), str(guests.other), "8"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)

    assert done.returncode == 0, done.stderr


def test_grants_are_asked_for_and_mapped_as_the_drivers_have_it(
    libraries: Path, compiled: Callable[..., Path], guests: Guests
) -> None:
    """Law 6.5: offsets and their gaps, mapping once, GET_OFFSET_FOR_VADDR, notices that are checked when set."""
    environment = guests.environment(LD_PRELOAD=str(libraries / PRELOAD))
    with Client(guests.broker.path) as client, Guest(guests.dom, client) as guest:
        for n in range(8):
            guest.grant(4 + n, 8 + n)
        guest.grant(12, 20, readonly=True)
        command = [str(compiled("gntdev.c")), str(guests.dom)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        in_use = [ref for ref in (*range(8, 16), 20) if guest.grant_in_use(ref)]

    assert (done.returncode, done.stderr, in_use) == (0, "", [])


def test_what_a_child_held_is_gone_when_wait_returns(
    libraries: Path, compiled: Callable[..., Path], guests: Guests
) -> None:
    """Law: after wait, waitpid, wait3, wait4 and waitid nothing of the killed child is left, as on a real host."""
    if not Path("/usr/include/xengnttab.h").exists():
        pytest.skip("NOT TESTED: libxengnttab; libxen-dev is missing (apt-get install libxen-dev)")
    program = compiled("waited.c", *LIBRARIES)
    environment = guests.environment(LD_PRELOAD=str(libraries / PRELOAD))
    command = [str(program), str(guests.dom)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)

    assert done.returncode == 0, done.stderr
