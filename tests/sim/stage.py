# SPDX-License-Identifier: Apache-2.0
"""A world in which nothing happens by chance: clients say what they are told to, and tasks go on one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from privcmdd.model.slices import Pace
from sim.plan import ADMIN, plan
from sim.vocabulary import Ask
from sim.world import World

if TYPE_CHECKING:
    from privcmdd.service.settings import Settings
    from sim.client import Client


class Stage(World):
    """A world to be played by hand. Enter it."""

    def __init__(
        self, settings: Settings, room_bytes: int = 65_536, quantum_s: float = 0.0, pace: Pace | None = None
    ) -> None:
        quiet = replace(
            plan(0, 0),
            settings=settings,
            room_bytes=room_bytes,
            linger_s=1.0,
            quantum_s=quantum_s,
            pace=pace or Pace(),
        )
        super().__init__(quiet)

    def __enter__(self) -> Self:
        self.kernel.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.kernel.__exit__(*error)

    def client(self, uid: int = ADMIN) -> Client:
        """Somebody connects."""
        client = self.connect(uid)
        assert client is not None
        return client

    def say(self, client: Client, method: str, /, **params: Any) -> None:
        """A request arrives whole."""
        client.say(Ask(method, params), 0)
        while client.outgoing:
            client.deliver(1 << 30)

    def step(self, client: Client) -> None:
        """Its task goes on to where it next stands still."""
        self.run_task(client.task)

    def run_all(self) -> None:
        """Everybody goes on until nobody can."""
        while ready := self.kernel.ready():
            self.run_task(ready[0])

    def ask(self, client: Client, method: str, /, **params: Any) -> Any:
        """A request and its answer: the result, or the error."""
        self.say(client, method, **params)
        self.run_all()
        _, answered = client.read(1 << 30, 0)
        assert len(answered) == 1
        _, _, error, result = answered[0].reply
        return result if error is None else error
