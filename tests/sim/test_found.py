# SPDX-License-Identifier: Apache-2.0
"""What simulated runs have found, each as the smallest case that shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import descriptors
from service.desk import USER, settings
from sim import faults
from sim.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.client import Client


def die(_: Stage, client: Client) -> None:
    """Hang up before anything is answered."""
    faults.hang_up(client)


def stop(stage: Stage, client: Client) -> None:
    """Read nothing, so that answers wait, until the broker ends the connection."""
    client.end.room_bytes = 4
    stage.run_all()
    assert client.task.wait is not None
    assert client.task.wait.what == "event"
    stage.kernel.cancel(client.task)


@pytest.mark.parametrize("ends", [die, stop])
def test_a_descriptor_is_closed_when_the_answers_before_it_cannot_be_sent(
    ends: Callable[[Stage, Client], None],
) -> None:
    """``domain.memory`` behind another request, to a client that dies or a broker that is told to end at once."""
    with Stage(settings(connection_queued_bytes=8)) as stage:
        client = stage.client(USER)
        stage.ask(client, "domain.create", kind="hvm", max_pages=16, dom=1)
        before = descriptors.open_now()
        stage.say(client, "ping")
        stage.say(client, "domain.memory", dom=1)

        ends(stage, client)
        stage.run_all()

        assert client.task.done
        assert descriptors.left_since(before) == {}
