# SPDX-License-Identifier: Apache-2.0
"""Steps 2 to 4: mapping, with frames that fail and no other trouble."""

from __future__ import annotations

import errno
import signal
from typing import TYPE_CHECKING, Any

from privcmd._demo.guests import HOLES, PAGE

if TYPE_CHECKING:
    from privcmd._demo.guests import Guests
    from privcmd._demo.stage import Stage

V1_FAILED = 0xF0000000


def share(stage: Stage, guests: Guests) -> None:
    """Step 2: two device models share memory."""
    spans = guests.file_spans()
    over = ", over a hole" if len(spans) > 1 else ""
    with guests.device_model() as first, guests.device_model() as second:
        stage.check(
            first.pid != second.pid,
            f"device models run as processes {first.pid} and {second.pid}, each with an address space of its own",
        )
        for model in (first, second):
            made = model.do("map", name="file", domid=guests.hvm, ranges=spans)
            stage.check(
                made["n_failed"] == 0 and made["n_pages"] == guests.file_pages,
                f"process {model.pid} maps {made['n_pages']} frames at {made['address']:#x}{over}",
                made,
            )
            digest = model.do("digest", name="file", size_bytes=guests.n_bytes)
            stage.check(digest == guests.sha256, f"and finds the file's bytes: SHA-256 {digest[:16]}...", digest)
        before = first.do("peek", name="file", at=0, size_bytes=16)
        n_rounds, at, writer, reader = 64, 0, first, second
        agreed = 0
        for number in range(n_rounds):
            at = (number * 7919 * 13) % max(1, guests.n_bytes - 16)
            data = f"{number:032x}"
            kept = reader.do("peek", name="file", at=at, size_bytes=16)
            writer.do("poke", name="file", at=at, data=data)
            agreed += reader.do("peek", name="file", at=at, size_bytes=16) == data
            reader.do("poke", name="file", at=at, data=kept)
            agreed += writer.do("peek", name="file", at=at, size_bytes=16) == kept
            writer, reader = reader, writer
        stage.check(
            agreed == 2 * n_rounds,
            f"each of {2 * n_rounds} writes of one is what the other reads next, straight from memory",
            agreed,
        )
        stage.check(
            first.do("peek", name="file", at=0, size_bytes=16) == before
            and second.do("digest", name="file", size_bytes=guests.n_bytes) == guests.sha256,
            "and the file is whole again",
        )


def absent_frames(stage: Stage, guests: Guests) -> None:
    """Step 3: a batch with absent frames."""
    hole, n_hole = HOLES[0]
    beyond = guests.ranges[-1][0] + guests.ranges[-1][1]
    # Good frames, a hole, good frames, frames far beyond the guest's memory, good frames.
    asked = [[hole - 2, 4], [hole + n_hole - 1, 3], [beyond, 1], [0, 2]]
    gfns = [gfn for first, n in asked for gfn in range(first, first + n)]
    absent = [index for index, gfn in enumerate(gfns) if hole <= gfn < hole + n_hole or gfn >= beyond]
    with guests.device_model() as model:
        model.do("reserve", name="v1", n_pages=len(gfns))
        array = model.do("batch", name="v1", version=1, domid=guests.hvm, ranges=asked)
        expected = [gfn | V1_FAILED if index in absent else gfn for index, gfn in enumerate(gfns)]
        stage.check(
            array == expected,
            f"V1 marks exactly the {len(absent)} absent of {len(gfns)} frames, in their slots: "
            + " ".join(f"{name:#x}" for name in array[:4])
            + " ...",
            [hex(name) for name in array],
        )
        model.do("reserve", name="v2", n_pages=len(gfns))
        errors = model.do("batch", name="v2", version=2, domid=guests.hvm, ranges=asked)
        stage.check(
            errors == [-errno.EINVAL if index in absent else 0 for index in range(len(gfns))],
            "V2 reports the same ones, as errors beside the array: " + " ".join(map(str, errors)),
            errors,
        )
        good = [index for index in range(len(gfns)) if index not in absent]
        for index in good:
            model.do("poke", name="v1", at=index * PAGE + 100, data=f"{index:08x}")
        stage.check(
            all(model.do("peek", name="v2", at=i * PAGE + 100, size_bytes=4) == f"{i:08x}" for i in good),
            f"the other {len(good)} frames work: what is written through one mapping is in the other",
        )
        faults = [model.do("fault", name="v2", page=index) for index in range(len(gfns))]
        stage.check(
            faults == ["EFAULT" if index in absent else "entered" for index in range(len(gfns))],
            "touching a failed frame through the broker is EFAULT, touching the others is not",
            faults,
        )
        model.tell("peek", name="v2", at=absent[0] * PAGE, size_bytes=1)
        status = model.end()
        stage.check(status == -signal.SIGBUS, "touching it in real memory is a real SIGBUS, as on Linux", status)


def entries(stage: Stage, guests: Guests) -> None:
    """Step 4: MMAP with several entries."""
    mfns = guests.mfns(8)
    # Two entries that are contiguous in addresses and in frames, and two that are contiguous with nothing.
    asked = [[0, mfns[0], 2], [2, mfns[2], 1], [6, mfns[3], 2], [9, mfns[7], 1]]
    pages = [page for page, _, n in asked for page in range(page, page + n)]
    outcomes: list[dict[str, Any]] = []
    for merge in (False, True):
        with guests.device_model() as model:
            model.do("attach", merge=merge)
            model.do("reserve", name="ring", n_pages=12)
            made = guests.client.stats()["objects"]["made"]
            model.do("entries", name="ring", domid=guests.pv, entries=asked)
            n_objects = guests.client.stats()["objects"]["made"] - made
            if not merge:
                for number, page in enumerate(pages):
                    model.do("poke", name="ring", at=page * PAGE, data=f"{0xA0 + number:02x}" * 8)
            seen = [model.do("peek", name="ring", at=page * PAGE, size_bytes=8) for page in pages]
            faults = [model.do("fault", name="ring", page=page) for page in pages]
            outcomes.append({"seen": seen, "faults": faults, "n_objects": n_objects})
    apart, merged = outcomes
    stage.check(
        apart["seen"] == [f"{0xA0 + number:02x}" * 8 for number in range(len(pages))],
        f"{len(asked)} entries, {len(pages)} frames of the PV guest, land where each entry says",
        apart["seen"],
    )
    stage.check(
        (apart["seen"], apart["faults"]) == (merged["seen"], merged["faults"]),
        "with merging of contiguous entries the answers are the same",
        merged,
    )
    stage.check(
        (apart["n_objects"], merged["n_objects"]) == (4, 3),
        f"the objects counter is not: {apart['n_objects']} objects apart, {merged['n_objects']} merged",
        outcomes,
    )
