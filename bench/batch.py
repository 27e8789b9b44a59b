# SPDX-License-Identifier: Apache-2.0
"""Frames per second in batches of 65,536, beside a bare trio server that only reads the same bytes."""

from __future__ import annotations

import random
from array import array
from typing import TYPE_CHECKING

from measure import call, connected, request, rounds, yardstick

from privcmd.broker import PrivateBroker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

N_FRAMES = 65_536


def rows(n_rounds: int) -> Iterator[tuple[str, str, str, str]]:
    """Rows of the table: what, figure, ratio, goal."""
    in_order = list(range(N_FRAMES))
    scattered = random.Random(2007).sample(in_order, N_FRAMES)
    with (
        yardstick("sink") as sink_path,
        PrivateBroker() as broker,
        connected(sink_path) as sink,
        connected(broker.path) as ours,
    ):
        call(ours, "domain.create", kind="hvm", max_pages=N_FRAMES)
        address = call(ours, "mmap", len=N_FRAMES * 4096, prot=3)["addr"]

        def batch(frames: list[int]) -> Callable[[], object]:
            raw = request("privcmd.mmapbatch_v2", dom=1, addr=address, arr=array("Q", frames).tobytes())

            def once() -> None:
                ours.sendall(raw)
                ours.recv(65536)

            return once

        raw = request("privcmd.mmapbatch_v2", dom=1, addr=address, arr=bytes(8 * N_FRAMES))

        def once_sink() -> None:
            sink.sendall(len(raw).to_bytes(4, "little") + raw)
            sink.recv(16)

        taken = rounds({"sink": once_sink, "in order": batch(in_order), "scattered": batch(scattered)}, n_rounds, 40)
    floor = taken["sink"]["p50_us"]
    yield "bare trio sink of the bytes", f"{floor:.0f} us", "1", ""
    for name in ("in order", "scattered"):
        p50 = taken[name]["p50_us"]
        rate = N_FRAMES / p50
        yield (
            f"MMAPBATCH_V2, 65,536 frames {name}",
            f"{p50:.0f} us, {rate:.0f} million frames/s",
            f"{p50 / floor:.1f} x sink",
            "",
        )
