# SPDX-License-Identifier: Apache-2.0
"""Simulate runs of the broker, a line each, and say what was met: ``python -m sim --seeds 0:1000``."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter

from sim.coverage import met, reachable
from sim.plan import plan
from sim.world import Result, World

N_ASKS = 400


def seeds(text: str) -> range:
    """``A:B``, or ``N`` for the first N."""
    first, _, end = text.rpartition(":")
    return range(int(first or 0), int(end))


def line(result: Result, wall_s: float, outcome: str) -> str:
    """A run."""
    faults = ",".join(f"{kind}:{n}" for kind, n in sorted(result.faults.items()))
    return (
        f"seed={result.seed} ops={result.n_asks} virtual_s={result.virtual_s:.3f} wall_s={wall_s:.3f} "
        f"faults{{{faults}}} {outcome} log={result.log_hash[:16] or '-'}"
    )


def main() -> int:
    """The command; its exit status is the number of runs that failed, 99 at most."""
    parser = argparse.ArgumentParser(prog="python -m sim", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seeds", type=seeds, metavar="A:B", help="the seeds from A to B-1; N is 0:N")
    which.add_argument("--seed", type=int, help="one seed, with the trace of its failure")
    parser.add_argument("--asks", type=int, default=N_ASKS, help="requests in each safety phase (%(default)s)")
    chosen = parser.parse_args()
    numbers = chosen.seeds if chosen.seed is None else range(chosen.seed, chosen.seed + 1)

    cells: Counter[tuple[str, str, str]] = Counter()
    failed = n_asks = n_checks = 0
    virtual_s = 0.0
    began = time.perf_counter()
    for number in numbers:
        world = World(plan(number, chosen.asks))
        began_run = time.perf_counter()
        outcome = "ok"
        try:
            world.run()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the run's result
            failed += 1
            outcome = f"FAILED {type(error).__name__}: {error}"
            if chosen.seed is not None:
                traceback.print_exc()
        result = world.result
        print(line(result, time.perf_counter() - began_run, outcome))
        if outcome != "ok":
            print(f"again: python -m sim --seed {number} --asks {chosen.asks}")
        cells.update(result.cells)
        n_asks += result.n_asks
        n_checks += result.n_checks
        virtual_s += world.kernel.now_s
        if sys.stderr.isatty():
            print(f"\r{number + 1 - numbers.start}/{len(numbers)}, {failed} failed", end="", file=sys.stderr)
    wall_s = time.perf_counter() - began
    print(
        f"\n{len(numbers)} runs, {failed} failed; {n_asks} operations, {n_asks / wall_s:.0f} a second; laws held "
        f"against the state {n_checks} times; {virtual_s:.0f} s of virtual time in {wall_s:.1f} s"
    )
    kinds: Counter[str] = Counter()
    for (kind, _, _), n in cells.items():
        kinds[kind] += n
    print("faults: " + ", ".join(f"{kind} {n}" for kind, n in kinds.most_common()))
    found, wanted = met(cells), reachable()
    print(f"coverage of (fault, state, method): {len(found)} of {len(wanted)} stated, {len(cells)} in all")
    for cell in sorted(wanted - found):
        print(f"not met: {', '.join(cell)}")
    return min(failed, 99)


if __name__ == "__main__":
    sys.exit(main())
