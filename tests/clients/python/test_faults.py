# SPDX-License-Identifier: Apache-2.0
"""Injections from the client library: rules made, counted, ended, and what callers see."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest
import trio

from privcmd import BrokerGone, Client, ForeignMemory, FrameError, InjectedFault, NoAnswer, PrivcmdError
from privcmd._rules import runs
from privcmd.trio import AsyncClient

if TYPE_CHECKING:
    from privcmd import PrivateBroker

GUARD_S = 60


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (range(5, 9), [(5, 4)]),
        ([7, 8, 9, 3], [(7, 3), (3, 1)]),
        ([range(4), range(4, 6), 9], [(0, 6), (9, 1)]),
        (range(0, 6, 2), [(0, 1), (2, 1), (4, 1)]),
        ([], []),
    ],
)
def test_frames_become_ranges(frames: Any, expected: list[tuple[int, int]]) -> None:
    """Ranges and numbers, in any order; those that follow each other are one."""
    assert [(run["gfn"], run["npages"]) for run in runs(frames)] == expected


def test_a_rule_for_a_block(client: Client, guest: int) -> None:
    """It is in force in the block, ends with it, and says afterwards what it did."""
    with ForeignMemory(client) as foreign:
        with client.faults.during(dom=guest, gfns=[3, 5], frame_errno=errno.EBUSY) as rule:
            with pytest.raises(FrameError, match="EBUSY") as failed:
                foreign.map(guest, range(8))
            assert client.faults.list()[0].id == rule.id
        with foreign.map(guest, range(8)) as mapping:
            assert mapping.errors is None or not any(mapping.errors)

    assert (failed.value.details["index"], failed.value.details["n_failed"]) == (3, 2)
    assert (rule.seen, rule.fired) == (2, 2)
    assert client.faults.list() == []


def test_the_librarys_own_retries_are_met(client: Client, guest: int) -> None:
    """A frame that is paged out three times: four look-ups, and the caller does not notice."""
    with ForeignMemory(client) as foreign, client.faults.during(dom=guest, gfns=[7], paged=3) as rule:
        foreign.map(guest, range(6, 9)).close()

    assert rule.fired == 3


def test_callers_see_what_a_rule_does(broker: PrivateBroker, client: Client) -> None:
    """An errno is an error of the call, a delay a timeout, a drop the end of the connection."""
    client.faults.add(method="maps", errno="ENOMEM", times=1)
    client.faults.add(method="maps", delay_ms=60_000, nth=1, times=1)
    client.faults.add(method="maps", drop=True)

    with Client(broker.path) as other, pytest.raises(PrivcmdError, match="ENOMEM: maps fails on demand"):
        other.maps()
    with Client(broker.path, timeout_s=0.05) as other:
        with pytest.raises(NoAnswer):
            other.maps()
        while client.faults.list()[1].fired == 0:
            pass  # it is read before the next one begins
    with Client(broker.path) as other, pytest.raises(BrokerGone):
        other.maps()

    assert [(rule.seen, rule.fired) for rule in client.faults.list()] == [(3, 1), (2, 1), (1, 1)]


def test_a_rule_that_drops_its_own_connection(broker: PrivateBroker) -> None:
    """The block ends with the caller's error; the rule has gone with the connection."""
    with Client(broker.path) as own, pytest.raises(BrokerGone), own.faults.during(drop=True, method="ping") as rule:
        own.ping()

    assert (rule.seen, rule.fired) == (0, 0)


async def test_tasks_have_the_same(broker: PrivateBroker, guest: int) -> None:
    """The face for trio: a rule for a block, one that stays, and none left."""
    with trio.fail_after(GUARD_S):
        async with AsyncClient(broker.path) as client:
            async with client.faults.during(method="domain.info", errno="EIO", nth=2) as rule:
                await client.domains.info(guest)
                with pytest.raises(PrivcmdError, match="EIO"):
                    await client.domains.info(guest)
            kept = await client.faults.add(delay_ms=1, probability=0.5, seed=3, keep=True)
            assert (rule.seen, rule.fired) == (2, 1)
            assert await client.faults.list() == [
                InjectedFault(kept, 0, 0, None, {"delay_ms": 1, "probability_ppm": 500_000, "seed": 3})
            ]
            assert await client.faults.clear(kept) == 1
