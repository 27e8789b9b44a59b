# SPDX-License-Identifier: Apache-2.0
"""libxengnttab, unmodified, over the preload library."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from privcmd import Client

if TYPE_CHECKING:
    from collections.abc import Callable

    from c_guests import Guests

TIMEOUT_S = 60
LIBRARIES = ("-lxengnttab", "-lxenevtchn", "-lxenforeignmemory")
TABLE = 1 << 32


def test_a_back_end_maps_copies_and_is_cleaned_up_after(
    libraries: Path, compiled: Callable[..., Path], guests: Guests
) -> None:
    """Maps one and several, sees them in use, copies in all directions; at its end a byte is cleared, an event sent."""
    if not Path("/usr/include/xengnttab.h").exists():
        pytest.skip("NOT TESTED: libxengnttab; libxen-dev is missing (apt-get install libxen-dev)")
    program = compiled("grants.c", *LIBRARIES)
    environment = guests.environment(LD_PRELOAD=str(libraries / "libprivcmdd-preload.so"))
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
