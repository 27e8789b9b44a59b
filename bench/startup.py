# SPDX-License-Identifier: Apache-2.0
"""From exec to the first answered request, beside ``python3 -c pass``."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from statistics import median
from typing import TYPE_CHECKING

from measure import request

if TYPE_CHECKING:
    from collections.abc import Iterator

GOAL = 13


def nothing_s() -> float:
    """Seconds that the interpreter takes to do nothing."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - begin


def broker_s() -> float:
    """Seconds until the broker has answered on a connection that has waited for it from the start."""
    with tempfile.TemporaryDirectory(prefix="pb-") as directory, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{directory}/s")
        listener.listen()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(f"{directory}/s")
            sock.sendall(request("ping"))
            descriptor = listener.fileno()
            begin = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-m", "privcmdd", "serve", "--fd", str(descriptor)],
                pass_fds=[descriptor],
                stderr=subprocess.DEVNULL,
            )
            try:
                sock.recv(4096)
                answered = time.perf_counter() - begin
            finally:
                process.terminate()
                process.wait()
    return answered


def rows(n_rounds: int) -> Iterator[tuple[str, str, str, str]]:
    """Rows of the table: what, figure, ratio, goal."""
    nothing, ours = [], []
    for _ in range(2 * n_rounds + 1):
        nothing.append(nothing_s())
        ours.append(broker_s())
    floor, answered = median(nothing[1:]), median(ours[1:])
    yield "python3 -c pass", f"{floor * 1e3:.1f} ms", "1", ""
    yield "exec to the first answered ping", f"{answered * 1e3:.1f} ms", f"{answered / floor:.1f} x pass", f"<= {GOAL}"
