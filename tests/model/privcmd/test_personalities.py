# SPDX-License-Identifier: Apache-2.0
"""Personalities: what can be asked for, and what there is."""

from __future__ import annotations

import pytest

from privcmdd.model.host import Host
from privcmdd.model.privcmd.personalities import PERSONALITIES
from privcmdd.server.keys import BY_PATH
from privcmdd.wire.methods import METHODS


def test_those_that_can_be_asked_for_are_those_there_are() -> None:
    """Law: the wire, the configuration and the model have the same personalities."""
    (asked,) = (param for param in METHODS["space.attach"].params if param.name == "personality")

    assert asked.choices == BY_PATH["space.personality"].choices == tuple(PERSONALITIES)


@pytest.mark.parametrize("name", PERSONALITIES)
def test_each_is_made_under_its_name(name: str) -> None:
    """Law: what a name makes calls itself so."""
    assert PERSONALITIES[name](Host(), "load", False).name == name
