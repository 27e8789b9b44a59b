# SPDX-License-Identifier: Apache-2.0
"""A short siege: what a long one measures, this one holds; the figures are in docs/explanation/evidence.md."""

from __future__ import annotations

import os

import pytest

from hostile import siege

MIB = 1 << 20

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: a siege; missing: root, for clients of several users"),
]


def test_b1_c1_nobody_is_harmed_and_nothing_is_left() -> None:
    """Promises B1 and C1: broken streams, killed and stalled clients: no wrong byte, no broken law, nothing charged."""
    told = siege.siege(3.0)

    assert told["requests"] > 0
    assert told["clients killed"] > 0
    nothing = ("wrong bytes", "laws broken", "faults of the broker", "left of others", "left mapped")
    assert {name: told[name] for name in nothing} == dict.fromkeys(nothing, 0)


def test_b2_a_uid_makes_the_broker_grow_by_what_it_is_charged() -> None:
    """Promise B2: with all its quotas used up, one uid costs at most a MiB more than what it is charged."""
    told = siege.gorge()

    assert told["charged in bytes"] > 16 * MIB
    assert told["over its quota, bytes"] <= MIB
