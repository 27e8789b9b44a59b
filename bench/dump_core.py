# SPDX-License-Identifier: Apache-2.0
"""Xen's own ``xl dump-core``, unmodified, of a domain of 64 MiB, and how much of its time it waits for the broker."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from privcmd.broker import PrivateBroker
from privcmd.run import program, xenstore

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE_MIB = 64
N_PAGES = SIZE_MIB * 256
MOST_ROUNDS = 3  # of several seconds each
MEMORY = "/dev/shm"


def rows(n_rounds: int) -> Iterator[tuple[str, str, str, str]]:
    """Rows of the table: what, figure, ratio, goal."""
    what = f"xl dump-core of {SIZE_MIB} MiB"
    xl = shutil.which("xl", path="/usr/sbin:/usr/bin")
    if xl is None or xenstore.find() is None:
        yield what, "not measured: xl is missing (xen-utils-4.17)", "", ""
        return
    taken = [dump(xl) for _ in range(min(n_rounds, MOST_ROUNDS))]
    whole_s, waiting = (median(column) for column in zip(*taken, strict=True))
    yield (
        what,
        f"{whole_s:.1f} s, {whole_s / N_PAGES * 1e6:.0f} us a page; {waiting:.0%} of it waiting for the broker",
        "",
        "",
    )


def dump(xl: str) -> tuple[float, float]:
    """Dump a domain once; seconds, and the share of them that the program was not running."""
    place = MEMORY if Path(MEMORY).is_dir() else None
    with (
        PrivateBroker() as broker,
        xenstore.running(broker.path) as store,
        broker.client() as client,
        tempfile.TemporaryDirectory(prefix="pb-", dir=place) as directory,
    ):
        dom = client.domains.create("hvm", N_PAGES)
        env = {**program.environment(broker.path, "bench"), "XENSTORED_RUNDIR": str(store)}
        begin = time.perf_counter()
        pid = os.posix_spawn(xl, [xl, "dump-core", str(dom), f"{directory}/core"], env)
        _, status, used = os.wait4(pid, 0)
        whole_s = time.perf_counter() - begin
        assert status == 0, f"xl dump-core ended with status {status}"
        return whole_s, 1 - (used.ru_utime + used.ru_stime) / whole_s
