# SPDX-License-Identifier: Apache-2.0
"""A domain saved and restored by libxenguest, unmodified, beside a plain write of the same bytes.

All files are in memory, and every page of the domain has something in it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from privcmd.broker import PrivateBroker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from privcmd import Client

HERE: Final = Path(__file__).resolve().parent
CLIENT: Final = HERE.parent / "clients" / "c"
SOURCE: Final = HERE.parent / "tests" / "programs" / "saverestore.c"
MEMORY: Final = "/dev/shm"
N_PAGES: Final = 16_384
PAGE: Final = 4096
BATCH: Final = 1024 * PAGE  # what libxenguest writes at a time


def rows(n_rounds: int) -> Iterator[tuple[str, str, str, str]]:
    """Rows of the table: what, figure, ratio, goal."""
    with tempfile.TemporaryDirectory(prefix="pb-", dir=MEMORY) as directory:
        program = Path(directory) / "saverestore"
        command = ["cc", "-std=gnu11", "-O2", "-o", str(program), str(SOURCE), "-lxenguest", "-lxenctrl"]
        if subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode:
            yield "save and restore", "not measured: cc or libxen-dev is missing", "", ""
            return
        subprocess.run(["make", "-s", "-C", CLIENT, f"BUILD={directory}"], check=True)
        taken = measured(program, Path(directory), n_rounds)
    bare = taken["write"]
    yield "write(2) of 64 MiB", f"{N_PAGES / bare:,.0f} pages/s", "1 x write", ""
    for what in ("save", "restore"):
        yield (
            f"libxenguest: {what} of 64 MiB",
            f"{N_PAGES / taken[what]:,.0f} pages/s",
            f"{taken[what] / bare:.1f} x write",
            "",
        )


def measured(program: Path, directory: Path, n_rounds: int) -> dict[str, float]:
    """Medians, in seconds; the three take turns."""
    stream, copy = directory / "stream", directory / "copy"
    taken: dict[str, list[float]] = {"write": [], "save": [], "restore": []}
    with PrivateBroker() as broker, broker.client() as client:
        dom = client.domains.create("hvm", N_PAGES)
        fill(client, dom)

        def drive(*words: str) -> tuple[float, str]:
            run = (sys.executable, "-m", "privcmdd.cli.ctl", "run", "--socket", broker.path, "--no-xenstore", "--")
            done = subprocess.run(
                [*run, str(program), *words],
                env={**os.environ, "PRIVCMDD_PRELOAD": str(directory / "libprivcmdd-preload.so")},
                capture_output=True,
                text=True,
                check=True,
            )
            (said,) = [line for line in done.stderr.splitlines() if line.startswith("took")]
            return float(said.split()[1]), done.stdout

        for _ in range(n_rounds + 1):
            taken["save"].append(drive("save", str(dom), str(stream))[0])
            took, new = drive("restore", "hvm", str(N_PAGES), str(stream))
            taken["restore"].append(took)
            client.domains.destroy(int(new))
            taken["write"].append(written(stream.read_bytes(), copy))
    return {what: median(seconds[1:]) for what, seconds in taken.items()}


def fill(client: Client, dom: int) -> None:
    """Something into every page."""
    addr = client.mmap(0, N_PAGES * PAGE, 3)
    client.privcmd_mmapbatch_v2(dom, addr, range(N_PAGES))
    for at in range(0, N_PAGES * PAGE, BATCH):
        client.write(addr + at, os.urandom(BATCH))
    client.munmap(addr, N_PAGES * PAGE)


def written(data: bytes, path: Path) -> float:
    """How long a plain write takes, a batch at a time, into a new file."""
    path.unlink(missing_ok=True)
    view = memoryview(data)
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    begun = time.perf_counter()
    for at in range(0, len(data), BATCH):
        os.write(file, view[at : at + BATCH])
    took = time.perf_counter() - begun
    os.close(file)
    return took
