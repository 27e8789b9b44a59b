# SPDX-License-Identifier: Apache-2.0
"""libxenforeignmemory: Debian's own over the preload library, and the drop-in library in its place."""

from __future__ import annotations

import subprocess
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING

import pytest

from privcmd import Client

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.c_guests import Guests

TIMEOUT_S = 60
ORIGINAL = "libxenforeignmemory.so.1"


def original() -> Path:
    """Debian's library, with its header."""
    found = [path for path in Path("/usr/lib").glob(f"*/{ORIGINAL}") if path.exists()]
    if not found or not Path("/usr/include/xenforeignmemory.h").exists():
        pytest.skip("NOT TESTED: libxenforeignmemory; libxen-dev is missing (apt-get install libxen-dev)")
    return found[0]


@pytest.mark.parametrize("how", ["preload", "drop-in"])
def test_the_whole_api_of_libxenforeignmemory_works(
    how: str, libraries: Path, compiled: Callable[..., Path], guests: Guests
) -> None:
    """Holes, err NULL, V1, MAP_FIXED, aliases, paged frames, restrict, resources: as on a host."""
    library = original()
    program = compiled("api.c", str(library), "-ldl")
    environment = guests.environment(
        **(
            {"LD_PRELOAD": str(libraries / "libprivcmdd-preload.so")}
            if how == "preload"
            else {"LD_LIBRARY_PATH": str(libraries)}
        )
    )
    with Client(guests.broker.path) as client:
        client.call("domain.page_out", dom=guests.dom, arr=[100, 101])
        command = [str(program), str(guests.dom), str(guests.other)]
        with subprocess.Popen(command, env=environment, stdout=PIPE, stderr=PIPE, text=True) as running:
            assert running.stdout is not None
            ready = running.stdout.readline()
            client.call("domain.page_in", dom=guests.dom, arr=[100])
            _, said = running.communicate(timeout=TIMEOUT_S)

    assert (ready, running.returncode) == ("waiting\n", 0), said


def symbols(library: Path) -> set[str]:
    """What a library offers, with versions."""
    command = ["nm", "-D", "--with-symbol-versions", "--defined-only", str(library)]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {line.split()[2] for line in listed}


def test_the_drop_in_offers_what_the_original_offers(libraries: Path) -> None:
    """The same names with the same versions, no more and no less, and the same SONAME."""
    ours, theirs = libraries / ORIGINAL, original()

    assert symbols(ours) == symbols(theirs)

    header = subprocess.run(["objdump", "-p", str(ours)], capture_output=True, text=True, check=True).stdout
    assert f"SONAME               {ORIGINAL}" in header
