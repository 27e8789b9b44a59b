# SPDX-License-Identifier: Apache-2.0
"""The memory that tests use has the face of the real one."""

from __future__ import annotations

import inspect

import pytest

from privcmdd.server.host_files import HostFiles
from privcmdd.service.backing import Backing
from support.backing import MemoryBacking

FACE = [name for name, value in vars(Backing).items() if inspect.isfunction(value) and not name.startswith("_")]


def face(of: type, name: str) -> list[tuple[str, object]]:
    """What a caller passes behind the file: names, and which of them are named only."""
    parameters = list(inspect.signature(getattr(of, name)).parameters.values())
    return [(parameter.name, parameter.kind) for parameter in parameters[2:]]


def test_there_is_a_face() -> None:
    """Otherwise the next test says nothing."""
    assert set(FACE) >= {"create", "descriptor", "read", "write", "discard", "close"}


@pytest.mark.parametrize("name", FACE)
@pytest.mark.parametrize("implementation", [MemoryBacking, HostFiles])
def test_every_backing_has_the_same_face(implementation: type, name: str) -> None:
    """A call that the fake takes the real one takes."""
    assert face(implementation, name) == face(Backing, name)
