# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks share: servers to measure against, raw connections, medians of rounds."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import msgpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).resolve().parent


@contextlib.contextmanager
def yardstick(kind: str) -> Iterator[str]:
    """A bare trio server (echo.py); gives its socket's path."""
    with tempfile.TemporaryDirectory(prefix="pb-") as directory:
        path = f"{directory}/s"
        command = [sys.executable, str(HERE / "echo.py"), path, kind]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                process.stdout.readline()
                yield path
            finally:
                process.kill()


@contextlib.contextmanager
def connected(path: str) -> Iterator[socket.socket]:
    """A blocking connection."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        yield sock


def request(method: str, **params: object) -> bytes:
    """An encoded request."""
    encoded: bytes = msgpack.packb([0, 1, method, [params]])
    return encoded


def call(sock: socket.socket, method: str, **params: object) -> dict[str, object]:
    """One request and its result, for setting up."""
    sock.sendall(request(method, **params))
    unpacker = msgpack.Unpacker()
    while True:
        unpacker.feed(sock.recv(1 << 20))
        for _, _, error, result in unpacker:
            assert error is None, error
            return dict(result)


def times_us(once: Callable[[], object], n: int) -> list[float]:
    """How long each of ``n`` calls takes, in microseconds."""
    clock = time.perf_counter
    taken = []
    for _ in range(n):
        begin = clock()
        once()
        taken.append((clock() - begin) * 1e6)
    return taken


def rounds(contestants: dict[str, Callable[[], object]], n_rounds: int, n_calls: int) -> dict[str, dict[str, float]]:
    """Measure in turn, round by round, so that drift of the machine hits all alike; the first round is thrown away.

    Returns:
        For each: the median over rounds of p50 and p99, in microseconds.
    """
    p50: dict[str, list[float]] = {name: [] for name in contestants}
    p99: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(n_rounds + 1):
        for name, once in contestants.items():
            taken = sorted(times_us(once, n_calls))
            if number:
                p50[name].append(taken[len(taken) // 2])
                p99[name].append(taken[len(taken) * 99 // 100])
    return {name: {"p50_us": median(p50[name]), "p99_us": median(p99[name])} for name in contestants}


@contextlib.contextmanager
def on_cpus(cpus: set[int]) -> Iterator[None]:
    """Run, and let children run, on these processors only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
