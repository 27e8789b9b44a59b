# SPDX-License-Identifier: Apache-2.0
"""Quotas: over one is EDQUOT, and nothing has changed."""

from __future__ import annotations

import errno

import pytest

from privcmdd.model.errors import LawBroken, ModelError
from privcmdd.model.ledger import Account, Slot, Tally


def test_a_charge_is_paid_as_long_as_it_is_held() -> None:
    """By the account and by the one it draws on; given back any number of times."""
    uid = Account("uid 1", {Slot.FDS: 5})
    one, two = Account("connection 1", {}, uid), Account("connection 2", {Slot.FDS: 3}, uid)

    charge = one.charge(Slot.FDS, 3)
    other = two.charge(Slot.FDS, 1)
    other.resize(2)

    assert (uid.used[Slot.FDS], one.used[Slot.FDS], two.used[Slot.FDS]) == (5, 3, 2)
    assert not uid.idle
    charge.release()
    charge.release()
    other.release()
    assert uid.idle


@pytest.mark.parametrize("asked", [2, 100])
def test_over_quota_changes_nothing(asked: int) -> None:
    """The error names account, slot, limit, use and what was asked."""
    uid = Account("uid 1", {Slot.FDS: 5})
    one = Account("connection 1", {}, uid)
    held = one.charge(Slot.FDS, 4)

    with pytest.raises(ModelError) as refused:
        one.charge(Slot.FDS, asked)
    with pytest.raises(ModelError):
        held.resize(4 + asked)

    assert refused.value.errno == errno.EDQUOT
    assert refused.value.details == {"slot": "fds", "limit": 5, "used": 4, "asked": asked}
    assert "uid 1 may use 5 fds" in str(refused.value)
    assert (uid.used[Slot.FDS], one.used[Slot.FDS], held.amount) == (4, 4, 4)


def test_a_lowered_limit_refuses_growth_only() -> None:
    """Use above it is kept, as Xen does for a lowered max_mem."""
    uid = Account("uid 1", {Slot.FDS: 5})
    held = uid.charge(Slot.FDS, 5)
    uid.relimit({Slot.FDS: 2})

    held.resize(4)
    with pytest.raises(ModelError):
        held.resize(5)
    assert uid.used[Slot.FDS] == 4


@pytest.mark.parametrize("slot", [Slot.ENTRIES, Slot.OBJECTS, Slot.FRAMES])
def test_a_tally_pays_all_or_nothing(slot: Slot) -> None:
    """When one of the three is over its limit the others are as they were."""
    account = Account("uid 1", {**dict.fromkeys(Slot, 10), slot: 3})
    tally = Tally(account)
    tally.pay(2, 2, 2)

    with pytest.raises(ModelError):
        tally.pay(5, 5, 5)

    assert (tally.entries, tally.objects, tally.frames) == (2, 2, 2)
    assert [account.used[s] for s in (Slot.ENTRIES, Slot.OBJECTS, Slot.FRAMES)] == [2, 2, 2]
    tally.pay(0, 0, 0)
    assert account.idle


def test_a_tally_that_may_not_grow_does_not_shrink_either() -> None:
    """What was given back before one of the three is refused is had again, whatever the limits are by now."""
    account = Account("uid 1", {})
    tally = Tally(account)
    tally.pay(5, 5, 5)
    account.relimit(dict.fromkeys(Slot, 1))

    with pytest.raises(ModelError):
        tally.pay(2, 3, 6)

    assert (tally.entries, tally.objects, tally.frames) == (5, 5, 5)
    assert [account.used[s] for s in (Slot.ENTRIES, Slot.OBJECTS, Slot.FRAMES)] == [5, 5, 5]


def test_what_could_be_paid_for_is_not_paid() -> None:
    """Nor when a limit was lowered below what is used, of something that is not asked for."""
    account = Account("uid 1", {})
    tally = Tally(account)
    tally.pay(5, 0, 0)
    account.relimit({Slot.ENTRIES: 1, Slot.FRAMES: 4})

    tally.afford(5, 0, 4)

    assert (tally.entries, tally.frames, account.used[Slot.FRAMES]) == (5, 0, 0)
    with pytest.raises(ModelError):
        tally.afford(5, 0, 5)


def test_errors_say_their_name() -> None:
    """Answers begin with the errno's name, faults with the law."""
    assert str(ModelError(errno.ESRCH, "no domain 3")) == "ESRCH: no domain 3"
    assert ModelError(9999, "what").name == "9999"
    assert str(LawBroken("3 references", "off by one")) == "3 references: off by one"
