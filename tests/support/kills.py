# SPDX-License-Identifier: Apache-2.0
"""Clients at work while their broker is killed again and again: ``python -m support.kills 1000`` counts what is lost.

``python -m support.kills 1000 take-over`` has another broker take over each time instead.

Each client has a domain of its own. It knows what it was answered last, and which request was under way when the broker
died. The next broker has to have the state of the one or of the other.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from privcmd import BrokerGone, Client, NoBroker
from privcmd._calls import domain_memory
from support.process import Process

PAGE = 4096
N_GFNS = 48
N_CLIENTS = 3
MOST_TURNS = 100_000  # of a loop that does nothing: some milliseconds
CONFIG = f"[machine]\nmemory_mib = 64\ngfns_per_domain = {N_GFNS}\n"
Guest = dict[int, bytes]
"""Guest frames that are populated, each with the bytes at its beginning."""


@dataclass(slots=True)
class Tally:
    """What happened.

    Attributes:
        n_answered: Requests that changed a domain and were answered.
        n_lost: Of these, those that the next broker did not have.
        unanswered: Requests that were under way at a kill: done by then, or not done.
        n_bytes_lost: Marks in guests' memory that the next broker did not have.
    """

    n_kills: int = 0
    n_answered: int = 0
    n_lost: int = 0
    n_bytes_lost: int = 0
    unanswered: Counter[str] = field(default_factory=Counter)


class Worker:
    """A client with a domain."""

    def __init__(self, number: int, tally: Tally, seed: int) -> None:
        self._dom = number
        self._tally = tally
        self._rng = Random(f"{seed} {number}")
        self._known: Guest | None = None
        self._pending: list[Guest | None] = []

    def work(self, path: str, answered: Answered) -> None:
        """Look what is there, then change it until the broker is gone, or the client has gone to the next one."""
        try:
            with Client(path) as client:
                moved: list[bool] = []
                client.followed.append(lambda: moved.append(True))
                self._look(client)
                while not moved:
                    self._step(client)
                    answered.add()
        except (BrokerGone, NoBroker):  # perhaps before the look was over: then the next one is at the same
            answered.add()

    def _look(self, client: Client) -> None:
        """Compare what is there with what was answered."""
        there = self._guest(client)
        if there == self._known:
            self._tally.unanswered["not done"] += bool(self._pending)
        elif there in self._pending:
            self._tally.unanswered["done"] += 1
        elif there is not None and self._known is not None and there.keys() == self._known.keys():
            self._tally.n_bytes_lost += sum(there[gfn] != self._known[gfn] for gfn in there)
        else:
            self._tally.n_lost += 1
        self._known, self._pending = there, []

    def _guest(self, client: Client) -> Guest | None:
        if all(row.dom != self._dom for row in client.domains.list()):
            return None
        frames = client.domains.info(self._dom, start=0, num=N_GFNS).frames
        assert frames is not None
        with self._memory(client) as memory:
            return {gfn: bytes(memory[gfn * PAGE : gfn * PAGE + 4]) for gfn in frames if gfn < N_GFNS}

    def _memory(self, client: Client) -> mmap.mmap:
        fd = client.perform(domain_memory(self._dom, write=True)).fd
        try:
            return mmap.mmap(fd, N_GFNS * PAGE)
        finally:
            os.close(fd)

    def _step(self, client: Client) -> None:
        """Something that changes the domain, mostly a request."""
        rng, known = self._rng, self._known
        if known is None:
            n_pages = rng.randint(1, 20)
            self._ask({gfn: bytes(4) for gfn in range(n_pages)}, lambda: self._create(client, n_pages))
            return
        free = [gfn for gfn in range(N_GFNS) if gfn not in known]
        some = rng.sample(sorted(known), rng.randint(0, len(known)))
        what = rng.choice(("mark", "mark", "populate", "decrease", "page", "destroy"))
        if what == "mark":
            with self._memory(client) as memory:
                for gfn in some:
                    known[gfn] = rng.randbytes(4)
                    memory[gfn * PAGE : gfn * PAGE + 4] = known[gfn]
        elif what == "populate":
            more = rng.sample(free, rng.randint(0, len(free)))
            self._ask({**known, **dict.fromkeys(more, bytes(4))}, lambda: client.domains.populate(self._dom, more))
        elif what == "decrease":
            left = {gfn: mark for gfn, mark in known.items() if gfn not in some}
            self._ask(left, lambda: client.domains.decrease_reservation(self._dom, some))
        elif what == "page":
            self._ask(known, lambda: client.domains.page_out(self._dom, some))
            self._ask(known, lambda: client.domains.page_in(self._dom, some))
        elif rng.random() < 0.5:
            self._ask(None, lambda: client.domains.destroy(self._dom))

    def _create(self, client: Client, n_pages: int) -> None:
        client.domains.create("hvm", N_GFNS, dom=self._dom, ranges=[(0, n_pages)])

    def _ask(self, after: Guest | None, request: Any) -> None:
        self._pending = [after]
        request()
        self._known, self._pending = after, []
        self._tally.n_answered += 1


class Answered:
    """Counts steps of all clients, and lets somebody wait for a number of them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._n = 0

    def add(self) -> None:
        """One more."""
        with self._changed:
            self._n += 1
            self._changed.notify_all()

    def wait_for(self, n: int, guard_s: float = 30.0) -> None:
        """Wait until there are so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._n >= n, guard_s), f"{self._n} steps in {guard_s} s, not {n}"


def storm(n_kills: int, folder: Path, seed: int = 0, how: str = "kill") -> Tally:
    """End brokers that have clients at work, and have others follow them. Returns what was lost.

    Args:
        n_kills: How many of them.
        folder: Where they keep their state; with "take over" nowhere.
        seed: Decides what clients do, and when brokers end.
        how: "kill", or "take over" from the one before.
    """
    tally, rng = Tally(), Random(seed)
    workers = [Worker(number, tally, seed) for number in range(1, N_CLIENTS + 1)]
    keeping = ["--set", f"server.state_dir={folder}"] if how == "kill" else []
    with ExitStack() as stack:
        broker = stack.enter_context(Process(*keeping, config=CONFIG))
        while True:
            broker.ready()
            answered = Answered()
            threads = [threading.Thread(target=worker.work, args=(broker.path, answered)) for worker in workers]
            for thread in threads:
                thread.start()
            answered.wait_for(rng.randint(1, 150))
            for _ in range(rng.randint(0, MOST_TURNS)):  # until somewhere in the next requests
                pass
            last, before = tally.n_kills == n_kills, broker
            if last or how == "kill":
                before.signal(signal.SIGKILL)
                before.wait()
            if not last:
                follow = ["--take-over"] if how == "take over" else keeping
                broker = stack.enter_context(Process(*follow, config=CONFIG, path=before.path))
            before.wait()
            for thread in threads:
                thread.join()
            if last:
                return tally
            tally.n_kills += 1


def main() -> None:
    """Print a line: kills, requests answered, lost."""
    n_kills = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    how = "take over" if "take-over" in sys.argv else "kill"
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pv", dir="/dev/shm") as name:
        tally = storm(n_kills, Path(name), how=how)
    print(
        f"{tally.n_kills} brokers {'killed' if how == 'kill' else 'taken over from'} in "
        f"{time.monotonic() - began_s:.0f} s: {tally.n_answered} requests answered, "
        f"{tally.n_lost} lost, {tally.n_bytes_lost} marks in memory lost; under way when the broker died: "
        f"{tally.unanswered['done']} done, {tally.unanswered['not done']} not done"
    )


if __name__ == "__main__":
    main()
