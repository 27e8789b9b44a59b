# SPDX-License-Identifier: Apache-2.0
"""The C client's libraries and test programs, built once; a broker with two guests for each test."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from privcmd import Client
from support.c_guests import N_FRAMES, Guests, fill

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from privcmd.broker import PrivateBroker

HERE = Path(__file__).resolve().parent
CLIENT = HERE.parents[2] / "clients" / "c"
FLAGS = ("-D_GNU_SOURCE", "-std=c11", "-Wall", "-Wextra", "-O1", "-g")


def build(directory: Path, *settings: str) -> Path:
    """Build the libraries into a directory of their own."""
    if shutil.which("cc") is None or shutil.which("make") is None:
        pytest.skip("NOT TESTED: the C client; cc and make are missing (apt-get install gcc make)")
    command = ["make", "-s", "-j2", "-C", str(CLIENT), f"BUILD={directory}", *settings]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the libraries are."""
    return build(tmp_path_factory.mktemp("lib"))


@pytest.fixture(scope="session")
def clang_libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, built by clang."""
    if shutil.which("clang") is None:
        pytest.skip("NOT TESTED: the C client built by clang; it is missing (apt-get install clang)")
    return build(tmp_path_factory.mktemp("clang"), "CC=clang")


@pytest.fixture(scope="session")
def sanitized_libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, built with the compiler's sanitizers."""
    return build(tmp_path_factory.mktemp("san"), "SANITIZE=address,undefined", "CFLAGS=-O1 -g")


@pytest.fixture(scope="session")
def sanitized(sanitized_libraries: Path) -> str:
    """What is to be preloaded: the sanitizer's runtime comes first."""
    named = subprocess.run(["cc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    runtime = named.stdout.strip()
    if "/" not in runtime:
        pytest.skip("NOT TESTED: the C client under its sanitizers; the compiler has no libasan.so")
    return f"{runtime} {sanitized_libraries / 'libprivcmdd-preload.so'}"


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Compile a test program, once."""
    programs: dict[tuple[str, ...], Path] = {}

    def one(source: str, *arguments: str) -> Path:
        key = (source, *arguments)
        if key not in programs:
            if shutil.which("cc") is None:
                pytest.skip(f"NOT TESTED: {source}; cc is missing (apt-get install gcc)")
            program = tmp_path_factory.mktemp("bin") / Path(source).stem
            command = ["cc", *FLAGS, "-o", str(program), str(HERE / source), *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            programs[key] = program
        return programs[key]

    return one


@pytest.fixture
def guests(broker: PrivateBroker) -> Iterator[Guests]:
    """A broker with two hvm guests; a connection keeps nothing of them."""
    with Client(broker.path) as client:
        doms = [client.call("domain.create", kind="hvm", max_pages=N_FRAMES)["dom"] for _ in range(2)]
        for dom in doms:
            fill(client, dom)
        yield Guests(broker, *doms)
        while client.stats()["broker"]["connections"] > 1:
            pass  # the broker may still be reading that the program has ended
        for row in client.call("domain.list")["domains"]:
            assert row["state"] != "dying"
            assert client.call("domain.destroy", dom=row["dom"]) == {"state": "gone"}, "a program left a mapping"
