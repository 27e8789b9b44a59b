# SPDX-License-Identifier: Apache-2.0
"""Check histories: recorded ones, or those of seeds; ``python -m history`` in tests/, or ``make history``.

Exit status 0 when no reply is wrong, else 1, and 2 for a file that cannot be read.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from history.order import Wrong
from history.record import History
from history.replay import Summary, check
from history.stage import play
from sim.plan import plan
from sim.recorded import RecordedWorld

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

N_ACTIONS = 400
N_ASKS = 250


def main(args: Sequence[str] | None = None) -> int:
    """Check what is asked for and say what came of it."""
    parser = argparse.ArgumentParser(prog="history", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="a history, as record.py writes it")
    parser.add_argument("--seeds", type=seeds, metavar="A:B", help="histories of clients moved step by step")
    parser.add_argument("--simulated", type=seeds, metavar="A:B", help="histories of simulated runs")
    asked = parser.parse_args(args)
    status = 0
    for file in asked.files:
        try:
            print(f"{file}: right: {check(History.load(file))}")
        except Wrong as wrong:
            print(f"{file}: WRONG: {wrong}")
            status = max(status, 1)
        except (OSError, ValueError, TypeError, LookupError) as problem:
            print(f"{file}: cannot be read: {problem!r}")
            status = 2
    for name, wanted, make in (("seeds", asked.seeds, stepped), ("simulated", asked.simulated, simulated)):
        if wanted is not None:
            status = max(status, of_seeds(name, wanted, make))
    return status


def of_seeds(name: str, wanted: range, make: Callable[[int], History]) -> int:
    """Check the history of each seed; a line for those that are wrong, and one for all together."""
    total, n_wrong, n_undecided = Summary(0, 0, 0), 0, 0
    for seed in wanted:
        try:
            summary = check(make(seed))
        except Wrong as wrong:
            print(f"--{name} {seed}:{seed + 1}: WRONG: {wrong}")
            n_wrong += 1
        else:
            total += summary
            n_undecided += summary.undecided is not None
    print(f"--{name}: {len(wanted)} histories, {n_wrong} wrong, {n_undecided} undecided in part: {total}")
    return int(n_wrong > 0)


def stepped(seed: int) -> History:
    """A history of clients that are moved one step at a time."""
    return play(random.Random(seed).randrange, N_ACTIONS, most_untold=1)


def simulated(seed: int) -> History:
    """The history of a simulated run."""
    world = RecordedWorld(plan(seed, N_ASKS))
    world.run()
    return world.history()


def seeds(text: str) -> range:
    """Seeds from A to B, B not among them."""
    first, _, last = text.partition(":")
    return range(int(first), int(last))


if __name__ == "__main__":
    sys.exit(main())
