# SPDX-License-Identifier: Apache-2.0
"""Mapping through the C client, which the preload library is made of, beside a bare loop of mmap in C."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from measure import call, connected

from privcmd.broker import PrivateBroker

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
CLIENT = HERE.parent / "clients" / "c"
N_FRAMES = 4096
ROUNDS = 50


def rows(n_rounds: int) -> Iterator[tuple[str, str, str, str]]:
    """Rows of the table: what, figure, ratio, goal."""
    if shutil.which("cc") is None:
        yield "C client", "not measured: cc is missing", "", ""
        return
    ns = measured(n_rounds)
    one, bare_one = ns["one_frame"] / 1000, ns["bare_one_frame"] / 1000
    yield (
        "C client: map and unmap one frame",
        f"{one:.0f} us (bare mmap {bare_one:.1f} us)",
        f"{one / bare_one:.0f} x",
        "",
    )
    for run, name in ((1, "scattered"), (16, "in runs of 16"), (N_FRAMES, "contiguous")):
        whole, part, bare = (ns[f"{kind}_{run}"] / 1000 for kind in ("batch", "part", "bare"))
        yield (
            f"C client: MMAPBATCH_V2, 4,096 frames {name}",
            f"{whole:.0f} us, of these mapping {part:.0f} us (bare mmap {bare:.0f} us)",
            f"mapping {part / bare:.2f} x",
            "1.1 x" if run == 1 else "",
        )
    yield (
        "C client: mapping a frame in runs of 16",
        f"{ns['part_16'] / N_FRAMES:.0f} ns (scattered {ns['part_1'] / N_FRAMES:.0f} ns)",
        f"{ns['part_16'] / ns['part_1']:.3f} x",
        "0.08 x",
    )
    yield from dump_core()


def dump_core() -> Iterator[tuple[str, str, str, str]]:
    """``xl dump-core`` of a domain of 64 MiB, and how long it waits for the broker."""
    xl = sorted(Path("/usr/lib").glob("xen-*/bin/xl"))
    what = "xl dump-core of 64 MiB"
    if not xl:
        yield what, "not measured: xen-utils is missing", "", ""
        return
    with tempfile.TemporaryDirectory(prefix="pb-") as directory:
        subprocess.run(["make", "-s", "-C", CLIENT, f"BUILD={directory}"], check=True)
        script = Path(sysconfig.get_path("scripts")) / "privcmdctl"
        done = subprocess.run(
            [script, "run", "--domain", "hvm:64M", "--", xl[-1], "dump-core", "1", f"{directory}/core"],
            env={
                **os.environ,
                "PRIVCMDD_PRELOAD": f"{directory}/libprivcmdd-preload.so",
                "PRIVCMDD_SAY": "times",
            },
            stderr=subprocess.PIPE,
            text=True,
            check=True,
        )
    said = re.search(r"(\d+) calls of the broker took (\d+) us of (\d+) us", done.stderr)
    assert said is not None, done.stderr
    calls, waited, total = (int(number) for number in said.groups())
    yield what, f"{total / 1e6:.1f} s, {calls:,} calls of the broker", f"{waited / total:.0%} waiting for it", ""


def measured(n_rounds: int) -> dict[str, int]:
    """Compile and run shim.c."""
    with tempfile.TemporaryDirectory(prefix="pb-") as directory, PrivateBroker() as broker:
        program = Path(directory) / "shim"
        sources = [HERE / "shim.c", *sorted(CLIENT.glob("*.c"))]
        subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-o", program, *sources, "-lpthread"], check=True)
        with connected(broker.path) as sock:
            dom = call(sock, "domain.create", kind="hvm", max_pages=N_FRAMES)["dom"]
            done = subprocess.run(
                [program, str(dom), str(n_rounds * ROUNDS)],
                env={**os.environ, "PRIVCMDD_SOCKET": broker.path},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
    return {name: int(value) for name, value in (line.split() for line in done.stdout.splitlines())}
