# SPDX-License-Identifier: Apache-2.0
"""A client that maps one frame at a time, beside clients that never rest; and 64 such clients beside a bare echo."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from measure import HERE, call, connected, on_cpus, request, times_us, yardstick

from privcmd.broker import PrivateBroker

if TYPE_CHECKING:
    from collections.abc import Iterator

N_FRAMES = 1 << 20
N_CLIENTS = 64
# What 32 clients with a million frames each may map, before and after, under one uid.
LIMITS = ("--set", "limits.frames=134217728", "--set", "machine.memory_mib=8192")
CROWDS = (
    ("batches", 32, "32 clients with million-frame batches"),
    ("describe", 50, "50 clients, 100 describe each in flight"),
)
GOAL_IDLE = 5
GOAL_ECHO = 2


@contextlib.contextmanager
def crowd(path: str, kind: str, n: int) -> Iterator[None]:
    """So many busy connections."""
    command = [sys.executable, str(HERE / "crowd.py"), path, kind, str(n)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.kill()


def percentiles(taken: list[float]) -> tuple[float, float]:
    """p50 and p99."""
    ordered = sorted(taken)
    return ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]


def alone_and_crowded(n_calls: int) -> Iterator[tuple[str, float, float]]:
    """What the victim waits for, by who is beside it."""
    with contextlib.ExitStack() as servers, on_cpus({0}):
        with on_cpus({1}):
            broker = servers.enter_context(PrivateBroker(args=LIMITS))
        with connected(broker.path) as ours:
            call(ours, "domain.create", kind="hvm", max_pages=N_FRAMES)
            address = call(ours, "mmap", len=4096, prot=3)["addr"]
            batch = request("privcmd.mmapbatch_v2", dom=1, addr=address, arr=struct.pack("<Q", 5))

            def once() -> None:
                ours.sendall(batch)
                ours.recv(65536)

            times_us(once, 500)
            yield "nobody", *percentiles(times_us(once, n_calls))
            for kind, n, who in CROWDS:
                with crowd(broker.path, kind, n):
                    times_us(once, 50)
                    yield who, *percentiles(times_us(once, n_calls))


def many(path: str, message: bytes, n_clients: int, n_calls: int) -> tuple[float, float]:
    """p50 and p99 of clients that each send a request as soon as the last one is answered."""
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        begun: dict[int, float] = {}
        for _ in range(n_clients):
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.connect(path)
            selector.register(sock, selectors.EVENT_READ, sock)
        taken: list[float] = []
        clock = time.perf_counter
        socks = [key.data for key in selector.get_map().values()]
        for sock in socks:
            begun[sock.fileno()] = clock()
            sock.sendall(message)
        while len(taken) < n_calls:
            for key, _ in selector.select():
                key.data.recv(65536)
                now = clock()
                taken.append((now - begun[key.fd]) * 1e6)
                begun[key.fd] = now
                key.data.sendall(message)
        return percentiles(taken[n_clients:])


def rows(n_rounds: int) -> Iterator[tuple[str, str, str, str]]:
    """Rows of the table: what, figure, ratio, goal."""
    idle = 0.0
    for who, p50, p99 in alone_and_crowded(300 * n_rounds):
        idle = idle or p99
        goal = "" if who == "nobody" else f"p99 <= {GOAL_IDLE}, <= 5 ms"
        yield (
            f"MMAPBATCH_V2 of one frame beside {who}",
            f"{p50:.0f} us (p99 {p99:.0f})",
            f"p99 {p99 / idle:.1f} x alone",
            goal,
        )
    with on_cpus({0}), contextlib.ExitStack() as servers:
        with on_cpus({1}):
            echo = servers.enter_context(yardstick("echo"))
            broker = servers.enter_context(PrivateBroker())
        ping = request("ping")
        floor = 0.0
        for path, label in ((echo, "bare trio echo"), (broker.path, "ping")):
            p50, p99 = many(path, ping, N_CLIENTS, 2000 * n_rounds)
            floor = floor or p99
            goal = f"p99 <= {GOAL_ECHO}" if label == "ping" else ""
            yield (
                f"{label}, {N_CLIENTS} clients",
                f"{p50:.0f} us (p99 {p99:.0f})",
                f"p99 {p99 / floor:.1f} x echo",
                goal,
            )


if __name__ == "__main__":
    for row in rows(int(sys.argv[1]) if len(sys.argv) > 1 else 3):
        print(*row, sep=" | ")
