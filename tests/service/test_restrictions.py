# SPDX-License-Identifier: Apache-2.0
"""Restricted files of the device are paid for, as long as an address space has them."""

from __future__ import annotations

import pytest

from privcmdd.model.ledger import Slot
from privcmdd.service.settings import AccessRule
from support.desk import ROOT, USER, Desk, Refused, settings


def test_each_restricted_file_is_charged_until_the_last_space_that_has_it_has_ended() -> None:
    """A uid that restricts file after file gets EDQUOT and nothing changes; its children pay for no second one."""
    at = Desk(settings(access=(AccessRule("admin", uids=(ROOT, USER)),), restricted_files=5))
    one, keeper = at.connect(USER), at.connect(USER)
    account = one.uid_account
    for file in range(1, 6):
        at.call(one, "privcmd.restrict", dom=7, file=file)

    with pytest.raises(Refused) as refused:
        at.call(one, "privcmd.restrict", dom=7, file=6)
    assert refused.value.name == "EDQUOT"
    assert account.used[Slot.RESTRICTED_FILES] == 5
    at.call(one, "privcmd.restrict", dom=7, file=5)  # the same again costs nothing
    child = at.call(one, "space.fork")["space"]
    at.call(keeper, "space.attach", space=child)
    at.broker.disconnect(one)
    assert account.used[Slot.RESTRICTED_FILES] == 5
    with pytest.raises(Refused):
        at.call(keeper, "privcmd.restrict", dom=8, file=3)
    at.broker.disconnect(keeper)
    assert account.idle
