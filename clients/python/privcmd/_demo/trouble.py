# SPDX-License-Identifier: Apache-2.0
"""Steps 5 to 7: concurrency, killed processes, and whether everything is given back."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

from privcmd._demo.guests import HOLES, PAGE
from privcmd._demo.stage import CheckFailed
from privcmd.errors import PrivcmdError
from privcmd.foreign import ForeignMemory

if TYPE_CHECKING:
    from privcmd._demo.guests import Guests
    from privcmd._demo.stage import Stage

WAIT_S = 20.0
"""How long the broker may take to notice a change; it is asked again and again until then."""

RANGE_PAGES = 64
N_EACH = 25
TAGS = (0x11, 0x22, 0x33)
BATCH_FRAMES = 1 << 20
N_BATCHES = 8


def replacements(stage: Stage, guests: Guests) -> None:
    """Step 5: threads replace one range again and again."""
    spans = [guests.spans(RANGE_PAGES, first=8192 + n * RANGE_PAGES)[0] for n in range(len(TAGS))]
    with ForeignMemory(guests.client) as foreign:
        for tag, (gfn, n) in zip(TAGS, spans, strict=True):
            with foreign.map(guests.hvm, range(gfn, gfn + n)) as pages:
                pages[:] = bytes([tag]) * len(pages)
    with guests.device_model() as model, guests.device_model() as one, guests.device_model() as two:
        space = model.do("attach")["space"]
        address = model.do("map", name="range", domid=guests.hvm, ranges=[spans[0]])["address"]
        watchers = (one, two)
        for watcher in watchers:
            watcher.do("attach", space=space)
            watcher.tell("watch", address=address, size_bytes=RANGE_PAGES * PAGE)
            watcher.expect("looking")
        storm = model.do("storm", name="range", domid=guests.hvm, ranges=spans, n_each=N_EACH)
        stage.check(
            not storm["errors"],
            f"{len(spans)} threads of process {model.pid} replace {RANGE_PAGES} pages {storm['n_replaced']} times",
            storm["errors"],
        )
        looks = [watcher.do("stop") for watcher in watchers]
        n_looks = sum(look["n_looks"] for look in looks)
        n_mixed = sum(look["n_mixed"] for look in looks)
        seen = sorted({tag for look in looks for tag in look["seen"]})
        stage.check(
            n_mixed == 0 and set(seen) <= set(TAGS) and n_looks > len(looks),
            f"two other processes read all of it {n_looks} times meanwhile, in one request each, "
            f"and see {len(seen)} mappings: never a hole, never a mix",
            looks,
        )
        stage.check(
            set(storm["seen"]) <= set(TAGS),
            "a fourth thread reads the real memory all the while: each page old or new, never a signal",
            storm["seen"],
        )
        old = model.do("digest", name="range", size_bytes=RANGE_PAGES * PAGE)
        hole = [spans[1][0], RANGE_PAGES - 1], [HOLES[0][0], 1]
        refused = model.do("replace", name="range", domid=guests.hvm, ranges=hole)
        stage.check(refused == "EINVAL", "a replacement with one absent frame is refused: EINVAL", refused)
        refused = model.do("overreach", name="range", domid=guests.hvm, ranges=[[0, RANGE_PAGES + 4096]])
        stage.check(
            refused in ("EINVAL", "EFAULT"),
            f"so is one that reaches beyond what is mapped: {refused}",
            refused,
        )
        with guests.broker.client() as other:
            other.attach(space)
            through = other.read(address, RANGE_PAGES * PAGE)
        stage.check(
            model.do("digest", name="range", size_bytes=RANGE_PAGES * PAGE) == old
            and through == through[:1] * len(through),
            "and both leave the old mapping as it was, here and at the broker",
        )


def killed(stage: Stage, guests: Guests) -> None:
    """Step 6, first half: a device model is killed in the middle of a batch."""
    client = guests.client
    big = client.domains.create("hvm", BATCH_FRAMES, name="big")
    before = _holdings(client.stats())
    model = guests.device_model()
    with model:
        model.do("map", name="file", domid=guests.hvm, ranges=guests.spans(256))
        n_done = client.stats()["done"]["batches"]
        model.tell("flood", domid=big, n_frames=BATCH_FRAMES, n_batches=N_BATCHES)
        model.expect("sending")
        held = _until(guests, lambda stats: _in_flight(stats) > 0, "a batch in flight")
        status = model.kill()
        stage.check(
            status == -signal.SIGKILL,
            f"process {model.pid} dies of SIGKILL with a batch of {BATCH_FRAMES:,} frames in flight, "
            f"{held['mappings']['frames']:,} frames mapped",
            status,
        )
    after = _until(guests, lambda stats: _holdings(stats) == before, "everything given back")
    n_done = after["done"]["batches"] - n_done
    stage.check(
        n_done < N_BATCHES,
        f"{N_BATCHES - n_done} of the {N_BATCHES} batches it sent never came to their end",
        n_done,
    )
    stage.check(True, "everything it held is given back: mappings, objects, page tables, charges, its connection")
    stage.check(
        client.domains.destroy(big) == "gone", "nothing holds the guest it mapped: destroyed, it is gone at once"
    )


def dying(stage: Stage, guests: Guests) -> None:
    """Step 6, second half: a guest is destroyed while it is mapped."""
    client = guests.client
    dom = client.domains.create("pvh", 64, name="short-lived")
    with guests.device_model() as first, guests.device_model() as second:
        for model in (first, second):
            model.do("map", name="m", domid=dom, ranges=[[0, 16]])
        first.do("poke", name="m", at=0, data="c0ffee")
        state = client.domains.destroy(dom)
        info = client.domains.info(dom)
        stage.check(
            state == "dying" and info.held_pages == 16,
            f"domain {dom} is destroyed while two processes map it: it is dying, {info.held_pages} pages held",
            info,
        )
        stage.check(second.do("peek", name="m", at=0, size_bytes=3) == "c0ffee", "its pages are still there for both")
        refused = second.do("map", name="late", domid=dom, ranges=[[0, 1]])
        stage.check(refused["n_failed"] == 1, "nobody can map more of it", refused)
        second.do("unmap", name="late")
        first.do("unmap", name="m")
        stage.check(client.domains.info(dom).state == "dying", "one unmaps: it is dying still")
        second.do("unmap", name="m")
        try:
            gone = client.domains.info(dom).state
        except PrivcmdError as error:
            gone = error.name
        stage.check(gone == "ESRCH", "the last one unmaps: it is gone", gone)


def counters(stage: Stage, guests: Guests) -> None:
    """Step 7: the counters at the end."""
    client = guests.client
    for dom in (guests.hvm, guests.pv):
        client.domains.destroy(dom)
    # The device models have ended, but the broker may not have noticed yet.
    stats = _until(guests, lambda stats: stats["broker"]["connections"] == 1, "all others gone")
    objects, mappings, machine = stats["objects"], stats["mappings"], stats["machine"]
    stage.check(
        objects["made"] == objects["freed"] > 0 and objects["alive"] == 0,
        f"objects: {objects['made']} made, {objects['freed']} freed, {objects['peak']} at most at a time",
        objects,
    )
    stage.check(
        mappings["frames"] == mappings["entries"] == 0 and machine["free_frames"] == guests.n_free_frames,
        f"references: 0 on any of {machine['frames']:,} frames, 0 map entries, as many frames free as before",
        (mappings, machine),
    )
    stage.check(mappings["ptps"] == mappings["wired_pages"] == 0, "page table pages: 0, wired pages: 0", mappings)
    stage.check(stats["broker"]["faults"] == 0, "bugs of the broker: 0", stats["broker"])
    found = sorted({finding.kind for finding in client.findings()})
    stage.check(
        found == ["failed-frame-touched", "mapping-leaked"],
        "findings: only what was done on purpose, a failed frame touched, a process killed",
        found,
    )
    done = stats["done"]
    width = max(map(len, done))
    stage.show("\n".join(f"{name.ljust(width)}  {value:>12,}" for name, value in done.items()))


def _in_flight(stats: dict[str, Any]) -> int:
    return sum(int(used["batches"]) for used in stats["uids"].values())


def _holdings(stats: dict[str, Any]) -> dict[str, Any]:
    """The counters of what clients hold, without the counters that only grow."""
    return {
        "objects": stats["objects"]["alive"],
        "mappings": stats["mappings"],
        "uids": stats["uids"],
        "connections": stats["broker"]["connections"],
    }


def _until(guests: Guests, so: Any, what: str) -> dict[str, Any]:
    """Ask the broker again and again until its counters are as wanted. Returns the counters."""
    deadline = time.monotonic() + WAIT_S
    while True:
        stats = guests.client.stats()
        if so(stats):
            return stats
        if time.monotonic() > deadline:
            raise CheckFailed(f"{what}: not within {WAIT_S:g} s; the counters are {stats}")
