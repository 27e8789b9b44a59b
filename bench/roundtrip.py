# SPDX-License-Identifier: Apache-2.0
"""One request at a time: MMAPBATCH_V2 of one frame, beside a bare trio echo of the same bytes.

The servers run on one processor and the client on another, or all on one; pinned, because left to itself the
scheduler puts one server beside the client and the other one elsewhere, and then only that is measured.
"""

from __future__ import annotations

import contextlib
import struct
from typing import TYPE_CHECKING

from measure import call, connected, on_cpus, request, rounds, yardstick

from privcmd.broker import PrivateBroker

if TYPE_CHECKING:
    from collections.abc import Iterator

GOAL = 1.5


def measure(server_cpu: int, client_cpu: int, n_rounds: int) -> dict[str, dict[str, float]]:
    """p50 and p99 of each contestant, in microseconds."""
    with contextlib.ExitStack() as servers, on_cpus({client_cpu}):
        with on_cpus({server_cpu}):
            echo_path = servers.enter_context(yardstick("echo"))
            broker = servers.enter_context(PrivateBroker())
        return contest(echo_path, broker, n_rounds)


def contest(echo_path: str, broker: PrivateBroker, n_rounds: int) -> dict[str, dict[str, float]]:
    """The same client against each server in turn."""
    with (
        connected(echo_path) as echo,
        connected(broker.path) as ours,
    ):
        call(ours, "domain.create", kind="hvm", max_pages=64)
        address = call(ours, "mmap", len=4096, prot=3)["addr"]
        batch = request("privcmd.mmapbatch_v2", dom=1, addr=address, arr=struct.pack("<Q", 5))
        ping = request("ping")

        def once_echo() -> None:
            echo.sendall(batch)
            echo.recv(65536)

        def once_batch() -> None:
            ours.sendall(batch)
            ours.recv(65536)

        def once_ping() -> None:
            ours.sendall(ping)
            ours.recv(65536)

        return rounds({"trio echo": once_echo, "ping": once_ping, "batch": once_batch}, n_rounds, 2000)


def rows(n_rounds: int) -> Iterator[tuple[str, str, str, str]]:
    """Rows of the table: what, figure, ratio, goal."""
    for name, server_cpu in (("two cores", 1), ("one core", 0)):
        taken = measure(server_cpu, 0, n_rounds)
        echo = taken["trio echo"]["p50_us"]
        for who, label in (("trio echo", "bare trio echo"), ("ping", "ping"), ("batch", "MMAPBATCH_V2, one frame")):
            p50, p99 = taken[who]["p50_us"], taken[who]["p99_us"]
            goal = f"<= {GOAL}" if who == "batch" else ""
            yield f"{label}, {name}", f"{p50:.1f} us (p99 {p99:.1f})", f"{p50 / echo:.2f} x echo", goal
