# SPDX-License-Identifier: Apache-2.0
"""Laws of faults on demand, held over random requests; all laws of the model are checked after each of them."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from privcmdd.model.injection import CERTAIN_PPM
from privcmdd.wire.codec import decode
from support.desk import BASE, PAGE, ROOT, Desk, errnos, frames, result, settings
from support.profiles import PROFILE

if TYPE_CHECKING:
    from privcmdd.service.session import Session

N_GFNS = 48  # of the guest, the last eight without memory
N_PAGES = 40  # of the range that is mapped and mapped again
MINE = errno.EXDEV  # which nothing else answers

page = st.integers(0, N_PAGES - 1)
gfn = st.integers(0, N_GFNS - 1)
few = st.lists(gfn, min_size=1, max_size=20).map(lambda gfns: frames(*gfns))
at = page.map(lambda number: BASE + number * PAGE)
span = st.tuples(at, st.integers(1, N_PAGES)).map(lambda one: {"addr": one[0], "len": one[1] * PAGE})
batch = st.builds(lambda addr, names: {"dom": 1, "addr": addr, "arr": names}, at, few)
entry = st.builds(lambda va, mfn, n: {"va": va, "mfn": mfn, "npages": n}, at, gfn, st.integers(1, 9))
CHANGES = ("domain.page_out", "domain.page_in", "domain.populate", "domain.decrease_reservation")
prots = st.sampled_from((0, 1, 3))
REQUESTS = st.one_of(
    st.tuples(st.sampled_from(("privcmd.mmapbatch", "privcmd.mmapbatch_v2")), batch),
    st.tuples(st.just("privcmd.mmap"), st.lists(entry, max_size=3).map(lambda rows: {"dom": 1, "entry": rows})),
    st.tuples(st.just("privcmd.mmap_resource"), at.map(lambda a: {"dom": 1, "type": 1, "id": 0, "num": 1, "addr": a})),
    st.tuples(st.just("mmap"), span.map(lambda one: {**one, "prot": 3, "fixed": True})),
    st.tuples(st.just("munmap"), span),
    st.tuples(st.just("mprotect"), st.builds(lambda one, prot: {**one, "prot": prot}, span, prots)),
    st.tuples(st.just("fault"), at.map(lambda a: {"addr": a})),
    st.tuples(st.just("read"), span),
    st.tuples(st.sampled_from(CHANGES), few.map(lambda names: {"dom": 1, "arr": names})),
    st.tuples(st.just("maps"), st.just({})),
)  # fmt: skip
RUNS = st.lists(REQUESTS, max_size=25)
PERSONALITY = st.sampled_from(("uvm", "linux"))
ranges = st.builds(lambda first, n: {"gfn": first, "npages": n}, gfn, st.integers(1, 20))
RULES = st.fixed_dictionaries(
    {
        "gfns": st.none() | st.lists(ranges, min_size=1, max_size=3),
        "nth": st.integers(1, 20),
        "times": st.none() | st.integers(1, 20),
        "probability_ppm": st.just(CERTAIN_PPM) | st.integers(1, CERTAIN_PPM),
        "seed": st.integers(0, 9),
    }
).map(lambda rule: {key: value for key, value in rule.items() if value is not None})  # fmt: skip


def begun(personality: str, slice_frames: int = 5) -> tuple[Desk, Session, Session]:
    """A broker with a guest, who administers it, and a client with a range that can be mapped over."""
    desk = Desk(settings(slice_frames=slice_frames))
    admin, session = desk.connect(ROOT), desk.connect()
    desk.domain(admin, max_pages=N_GFNS, ranges=[{"gfn": 0, "npages": N_GFNS - 8}], dom=1)
    desk.call(session, "space.attach", personality=personality)
    desk.reserve(session, N_PAGES)
    return desk, admin, session


def replies(desk: Desk, session: Session, requests: list[tuple[str, dict[str, Any]]]) -> list[Any]:
    """Errors and results, as they come."""
    answers: list[Any] = [decode(desk.reply(session, method, **params).data) for method, params in requests]
    return [answer[2:] for answer in answers]


@PROFILE.law
@given(PERSONALITY, RUNS, RULES)
def test_rules_that_nothing_matches_change_nothing(
    personality: str, requests: list[tuple[str, dict[str, Any]]], rule: dict[str, Any]
) -> None:
    """Law: answers equal those of a broker without rules."""
    plain, _, asking = begun(personality)
    ruled, admin, session = begun(personality)
    elsewhere: tuple[dict[str, Any], ...] = (
        {"frame_errno": "EIO", "dom": 2}, {"frame_errno": "EIO", "uid": 4711}, {"paged": 9, "method": "gntdev.map"},
        {"frame_errno": "EIO", "gfns": [{"gfn": N_GFNS, "npages": 2**30}]}, {"errno": "EIO", "client": "qemu"},
        {"frame_errno": "EIO", "nth": 2**50}, {"drop": True, "connection": 77}, {"delay_ms": 9, "pid": 77},
    )  # fmt: skip
    for other in elsewhere:
        ruled.call(admin, "faults.add", **{**rule, **other})

    assert replies(ruled, session, requests) == replies(plain, asking, requests)

    listed = ruled.call(admin, "faults.list")["faults"]
    assert [row["fired"] for row in listed] == [0] * len(elsewhere)


@PROFILE.law
@given(PERSONALITY, RUNS, RULES, RULES)
def test_the_same_seed_fails_the_same_frames(
    personality: str, requests: list[tuple[str, dict[str, Any]]], rule: dict[str, Any], other: dict[str, Any]
) -> None:
    """Law: the same rules and requests have the same answers, and the rules count the same."""
    answers = []
    for _ in range(2):
        desk, admin, session = begun(personality)
        desk.call(admin, "faults.add", frame_errno=errno.errorcode[MINE], **rule)
        desk.call(admin, "faults.add", paged=2, **other)
        answers.append((replies(desk, session, requests), desk.call(admin, "faults.list")))

    assert answers[0] == answers[1]


@PROFILE.law
@given(PERSONALITY, RUNS, RULES, RULES)
def test_slices_change_nothing(
    personality: str, requests: list[tuple[str, dict[str, Any]]], rule: dict[str, Any], other: dict[str, Any]
) -> None:
    """Law: in slices or at once, the same frames fail and the rules count the same; MMAP counts none behind its end."""
    answers = []
    for slice_frames in (1, 5, 64):
        desk, admin, session = begun(personality, slice_frames)
        desk.call(admin, "faults.add", frame_errno=errno.errorcode[MINE], **rule)
        desk.call(admin, "faults.add", paged=2, **other)
        answers.append((replies(desk, session, requests), desk.call(admin, "faults.list")))

    assert answers[0] == answers[1] == answers[2]


@PROFILE.law
@given(PERSONALITY, st.lists(st.tuples(st.booleans(), few), max_size=12), RULES)
def test_what_was_counted_is_what_clients_saw(
    personality: str, batches: list[tuple[bool, bytes]], rule: dict[str, Any]
) -> None:
    """Law: a rule's count is the number of frames that were answered with its errno; what is held is the rest."""
    desk, admin, session = begun(personality)
    number = desk.call(admin, "faults.add", frame_errno=errno.errorcode[MINE], **rule)["id"]
    desk.call(session, "munmap", addr=BASE, len=N_PAGES * PAGE)
    saw = 0

    for first, arr in batches:
        n = len(arr) // 8
        desk.reserve(session, n)
        asked = {"dom": 1, "addr": BASE, "arr": arr}
        if first:
            done = result(desk.reply(session, "privcmd.mmapbatch", **asked))
            marked = struct.unpack(f"<{n}Q", done["arr"] or arr)
            gfns = struct.unpack(f"<{n}Q", arr)
            bad = [was for was, now in zip(gfns, marked, strict=True) if was != now]
            saw += sum(was < N_GFNS - 8 for was in bad)
        else:
            bad = [error for error in errnos(desk.call(session, "privcmd.mmapbatch_v2", **asked)["err"]) if error]
            saw += bad.count(-MINE)
        assert desk.call(session, "stats")["mappings"]["frames"] == n - len(bad)
        desk.call(session, "munmap", addr=BASE, len=N_PAGES * PAGE)

    (row,) = desk.call(admin, "faults.list")["faults"]
    assert (row["id"], row["fired"]) == (number, saw)
    assert desk.call(admin, "stats")["injected"]["frame_errno"] == saw
