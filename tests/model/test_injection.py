# SPDX-License-Identifier: Apache-2.0
"""Rules of faults on demand, without a machine: which matches they take."""

from __future__ import annotations

import errno
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privcmdd.model.errors import ModelError
from privcmdd.model.injection import CERTAIN_PPM, MOST_RULES, Armed, Asker, InjectionKind, Injections, Rule, draws
from privcmdd.model.machine.frames import NO_FRAME
from support.profiles import PROFILE

ASKER = Asker(3, "qemu/9.2 run-7", 4711, 1000, "privcmd.mmapbatch_v2")
N_MATCHES = 64
CHOOSING = st.fixed_dictionaries(
    {
        "nth": st.integers(1, 80),
        "times": st.none() | st.integers(1, 20),
        "probability_ppm": st.sampled_from((CERTAIN_PPM, CERTAIN_PPM // 2, CERTAIN_PPM // 20)),
        "seed": st.integers(0, 2**32 - 1),
    }
)


def names(*numbers: int) -> Any:
    """Frames as a batch has them."""
    return np.array(numbers, dtype=np.uint64)


def test_the_draws_are_those_of_splitmix64() -> None:
    """The first numbers of the published generator from seed 0: a seed means the same in every release."""
    assert [hex(n) for n in draws(0, 0, 3)] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4", "0x6c45d188009454f"]


@PROFILE.law
@given(CHOOSING, st.lists(st.integers(0, 9), min_size=5, max_size=12))
def test_what_is_taken_does_not_depend_on_the_slices(choosing: dict[str, Any], slices: list[int]) -> None:
    """Law: a match is taken for its number alone, however many are seen at a time."""
    whole, sliced = (Armed(1, Rule(InjectionKind.ERRNO, 1, **choosing), None) for _ in range(2))
    n = sum(slices)

    at_once = whole.take(n).tolist()

    assert [taken for size in slices for taken in sliced.take(size).tolist()] == at_once
    assert whole.n_seen == sliced.n_seen == n
    assert whole.n_fired == sliced.n_fired == sum(at_once)


@PROFILE.law
@given(CHOOSING)
def test_what_is_taken_is_what_was_chosen(choosing: dict[str, Any]) -> None:
    """Law: none before the nth, no more than so many times, and each of the others by its draw alone."""
    rule = Rule(InjectionKind.ERRNO, 1, **choosing)

    taken = np.flatnonzero(Armed(1, rule, None).take(N_MATCHES)).tolist()

    chosen = [i for i, draw in enumerate(draws(rule.seed, 0, N_MATCHES)) if draw % CERTAIN_PPM < rule.probability_ppm]
    assert taken == [i for i in chosen if i >= rule.nth - 1][: rule.times]


@pytest.mark.parametrize("tries", [1, 2, 255])
def test_a_frame_is_paged_out_for_so_many_look_ups(tries: int) -> None:
    """Each frame for itself, whoever is asked for in between; one that is named twice in a look-up is tried once."""
    armed = Armed(1, Rule(InjectionKind.PAGED, tries), None)

    taken = [armed.take_frames(1, names(5, 5, 0x20)).tolist() for _ in range(tries + 1)]

    assert taken == [[0, 1, 2]] * tries + [[]]
    assert armed.take_frames(1, names(0x5000, 5)).tolist() == [0]
    assert armed.take_frames(2, names(5)).tolist() == [0]
    assert armed.n_seen == armed.n_fired == 3 * tries + 2


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ({}, True),
        ({"client": "qemu/9.2 run-7"}, True),
        ({"client": "qemu*"}, True),
        ({"client": "* run-7"}, True),
        ({"client": "qemu"}, False),
        ({"client": "* run-77"}, False),
        ({"connection": 3}, True),
        ({"connection": 4}, False),
        ({"pid": 4711}, True),
        ({"pid": 0}, False),
        ({"uid": 1000}, True),
        ({"uid": 0}, False),
        ({"dom": 9}, True),
        ({"dom": 0}, False),
        ({"method": "privcmd.mmapbatch_v2"}, True),
        ({"method": "privcmd.mmapbatch"}, False),
        ({"method": "privcmd."}, True),
        ({"method": "domain."}, False),
        ({"client": "qemu*", "uid": 0}, False),
    ],
)
def test_whom_a_rule_means(only: dict[str, Any], expected: bool) -> None:
    """All that it names must be so; what it does not name may be anything."""
    assert Rule(InjectionKind.ERRNO, 1, **only).matches(ASKER, 9) is expected


@pytest.mark.parametrize(
    ("first", "n", "meant"),
    [(0x10, 1, True), (0xF, 1, False), (0xF, 2, True), (0x14, 1, False), (0, 2**40, True), (0x13, 9, True)],
)
def test_a_request_that_names_one_of_the_frames_is_meant(first: int, n: int, meant: bool) -> None:
    """Runs of frames meet a rule when they overlap a range of it."""
    rule = Rule(InjectionKind.ERRNO, 1, gfns=((0x10, 4),))

    assert rule.meets((names(first), names(n))) is meant
    assert rule.meets((names(0x5000, first), names(1, n))) is meant


def test_bits_that_no_host_looks_at_hide_no_frame() -> None:
    """A frame's name counts with its low 40 bits, as where it is looked up."""
    rule = Rule(InjectionKind.FRAME_ERRNO, 1, gfns=((0x10, 4),))

    assert rule.among(names(0x10, 1 << 60 | 0x13, 0x14, 1 << 40 | 0xF)).tolist() == [True, True, False, False]


def test_only_good_frames_are_taken() -> None:
    """One that failed already keeps its errno, and is neither seen nor counted."""
    faults = Injections()
    armed = faults.add(Rule(InjectionKind.FRAME_ERRNO, errno.EPERM, nth=2))
    mfns = np.array([9, NO_FRAME, 8, 7], dtype=np.uint32)
    errors = np.array([0, -errno.EINVAL, 0, 0], dtype=np.int32)

    after, failed = faults.fail_frames(ASKER, 1, names(1, 2, 3, 4), mfns, errors)

    assert after.tolist() == [9, NO_FRAME, NO_FRAME, NO_FRAME]
    assert failed is not None
    assert failed.tolist() == [0, -errno.EINVAL, -errno.EPERM, -errno.EPERM]
    assert (armed.n_seen, armed.n_fired) == (3, 2)
    assert faults.statistics()["frame_errno"] == 2


def test_pages_of_a_resource_are_tried_apart() -> None:
    """A page of a resource has no gfn: it is not the frame whose number is the page's index."""
    faults = Injections()
    faults.add(Rule(InjectionKind.PAGED, 1))
    mfns = np.array([9], dtype=np.uint32)

    failed = [faults.fail_frames(ASKER, 1, of, mfns, None)[1] is not None for of in (names(0), None, names(0), None)]

    assert failed == [True, True, False, False]


def test_the_first_rule_takes_a_frame_and_the_next_sees_the_rest() -> None:
    """Rules are asked in the order in which they came."""
    faults = Injections()
    first, second = (
        faults.add(Rule(InjectionKind.FRAME_ERRNO, number, gfns=gfns)) for number, gfns in ((1, ((2, 1),)), (5, None))
    )

    _, errors = faults.fail_frames(ASKER, 1, names(1, 2, 3), np.array([4, 5, 6], dtype=np.uint32), None)

    assert errors is not None
    assert errors.tolist() == [-5, -1, -5]
    assert (first.n_seen, second.n_seen) == (1, 2)


def test_who_stops_at_a_frame_that_fails_meets_no_rule_behind_it() -> None:
    """Law: no rule counts a frame behind the first that any rule takes, and that frame is the last of the answer."""
    rules = Injections()
    third = rules.add(Rule(InjectionKind.FRAME_ERRNO, errno.EIO, nth=3))
    fifth = rules.add(Rule(InjectionKind.FRAME_ERRNO, errno.EXDEV, gfns=((0x14, 1),)))
    paged = rules.add(Rule(InjectionKind.PAGED, 1, gfns=((0x15, 3),)))
    gmfns, mfns = names(*range(0x10, 0x18)), np.arange(300, 308, dtype=np.uint32)

    found, errors = rules.fail_frames(ASKER, 1, gmfns, mfns, None, stop=True)

    assert (found.tolist(), errors is not None and errors.tolist()) == ([300, 301, NO_FRAME], [0, 0, -errno.EIO])
    assert [(rule.n_seen, rule.n_fired) for rule in (third, fifth, paged)] == [(3, 1), (0, 0), (0, 0)]


def test_rules_that_end_and_rules_that_stay() -> None:
    """Those of a connection end with it; ids are never used twice; what they did is remembered."""
    faults = Injections()
    kept, owned = faults.add(Rule(InjectionKind.ERRNO, 5)), faults.add(Rule(InjectionKind.ERRNO, 5), 3)
    assert [armed.id for armed in faults.strikes(ASKER, None, None)] == [kept.id, owned.id]

    faults.leave(3)

    assert list(faults.rules) == [kept.id]
    faults.clear(kept.id)
    assert not faults
    assert faults.add(Rule(InjectionKind.DROP)).id == 3
    assert faults.statistics() == {"rules": 1, "frame_errno": 0, "paged": 0, "errno": 2, "delay_ms": 0, "drop": 0}


def test_a_rule_that_ends_meanwhile_strikes_no_more() -> None:
    """A request that waits at one rule does not meet another that was cleared while it waited."""
    faults = Injections()
    faults.add(Rule(InjectionKind.DELAY, 5))
    second = faults.add(Rule(InjectionKind.ERRNO, 5))
    striking = faults.strikes(ASKER, None, None)
    next(striking)

    faults.clear(second.id)

    assert list(striking) == []
    assert second.n_seen == 0


def test_there_is_an_end_to_rules() -> None:
    """ENOSPC, and all that are there stay."""
    faults = Injections()
    for _ in range(MOST_RULES):
        faults.add(Rule(InjectionKind.DROP))

    with pytest.raises(ModelError, match=r"^ENOSPC: .* clear some"):
        faults.add(Rule(InjectionKind.DROP))

    assert len(faults.rules) == MOST_RULES
