# SPDX-License-Identifier: Apache-2.0
"""The libraries for aarch64, under qemu-user: their programs find the guests of a broker that is none of qemu's."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING

import pytest

from privcmd import Client
from support.c_guests import CASES, EVENT_CASES, Guests

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
CLIENT = HERE.parents[2] / "clients" / "c"
COMPILER = "aarch64-linux-gnu-gcc"
NEEDED = {COMPILER: "gcc-aarch64-linux-gnu libc6-dev-arm64-cross", "qemu-aarch64": "qemu-user"}
MISSING = [package for tool, package in NEEDED.items() if shutil.which(tool) is None]
TIMEOUT_S = 60
UNLIKE_LINUX = {"fork", "memory_calls", "pointers"}
"""What qemu-user does otherwise: MADV_DONTFORK is nothing to it, an unknown ioctl of a closed descriptor is ENOSYS."""

pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"NOT TESTED: the libraries for aarch64; missing: apt-get install {' '.join(MISSING)}"
)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the libraries for aarch64 are."""
    directory = tmp_path_factory.mktemp("aarch64")
    command = ["make", "-s", "-j2", "-C", str(CLIENT), f"BUILD={directory}", f"CC={COMPILER}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return directory


@pytest.fixture(scope="module")
def crossed(foreign: Path) -> Callable[..., Path]:
    """Compile a test program for aarch64, once."""

    def one(source: str, *arguments: str) -> Path:
        program = foreign / Path(source).stem
        if not program.exists():
            # Xen's headers are those of this machine; its C library's must not be found before the other one's.
            flags = ["-D_GNU_SOURCE", "-DEMULATED", "-std=c11", "-O1", "-idirafter", "/usr/include"]
            command = [COMPILER, *flags, "-o", str(program), str(HERE / source), *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        return program

    return one


def emulated(program: Path, guests: Guests, *cases: str, **environment: str) -> list[str]:
    """The command line of a program whose dynamic linker, and no other, has an environment of its own."""
    settings = [word for name, value in environment.items() for word in ("-E", f"{name}={value}")]
    sysroot = f"/usr/{COMPILER.removesuffix('-gcc')}"
    return ["qemu-aarch64", "-L", sysroot, *settings, str(program), str(guests.dom), str(guests.other), *cases]


def test_the_libraries_are_for_the_other_machine(foreign: Path) -> None:
    """Law: what is tried here is not what runs on this machine by itself."""
    assert platform.machine() != "aarch64"
    for library in foreign.glob("lib*.so*"):
        assert library.read_bytes()[18:20] == b"\xb7\x00"  # e_machine: EM_AARCH64


@pytest.mark.parametrize(
    ("source", "case"),
    [("raw.c", case) for case in CASES if case not in UNLIKE_LINUX] + [("events.c", case) for case in EVENT_CASES],
)
def test_a_program_under_the_shim(
    source: str, case: str, foreign: Path, crossed: Callable[..., Path], guests: Guests
) -> None:
    """Law: each case of the raw programs holds, as on x86-64, though qemu has no process_vm_readv and no preadv2."""
    command = emulated(crossed(source), guests, case, LD_PRELOAD=str(foreign / "libprivcmdd-preload.so"))
    env = guests.environment()
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)

    # The linker of this machine cannot preload it into programs that the test runs; it says so.
    said = [line for line in done.stderr.splitlines() if "cannot be preloaded" not in line]
    assert (done.returncode, said) == (0, [])


def test_a_program_over_the_drop_in_library(foreign: Path, crossed: Callable[..., Path], guests: Guests) -> None:
    """Law: the whole API of libxenforeignmemory works, in place of Xen's library for that machine."""
    if not Path("/usr/include/xenforeignmemory.h").exists():
        pytest.skip("NOT TESTED: the drop-in library for aarch64; libxen-dev is missing (apt-get install libxen-dev)")
    program = crossed("api.c", str(foreign / "libxenforeignmemory.so.1"), "-ldl")
    command = emulated(program, guests, LD_LIBRARY_PATH=str(foreign))
    with Client(guests.broker.path) as client:
        client.call("domain.page_out", dom=guests.dom, arr=[100, 101])
        with subprocess.Popen(command, env=guests.environment(), stdout=PIPE, stderr=PIPE, text=True) as running:
            assert running.stdout is not None
            ready = running.stdout.readline()
            client.call("domain.page_in", dom=guests.dom, arr=[100])
            _, said = running.communicate(timeout=TIMEOUT_S)

    assert (ready, running.returncode) == ("waiting\n", 0), said
