# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in a simulated world, and to whom."""

from __future__ import annotations

import errno
import math
from typing import TYPE_CHECKING, Final

from privcmdd.model.errors import ModelError
from privcmdd.wire.codec import pack

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.client import Client
    from sim.world import World

GARBAGE: Final = (
    b"\xc1",  # never used
    b"\xcb" + bytes(8),  # a float
    b"\x91" * 40,  # too deep
    b"\xdd\xff\xff\xff\xff",  # too many
    b"\xc6\xff\xff\xff\xff",  # too long
    pack((1, 7, None, None)),  # an answer, to a question nobody asked
    pack({"not": "an array"}),
    pack((0, -1, "ping", [])),
    pack((0, 1, "ping", [{"fds": 2}])),
)


def inject(world: World) -> None:
    """Let a fault happen that the plan allows, somewhere."""
    kinds = world.plan.faults
    if not any(kinds.values()):
        return
    kind = world.rng.choices(list(kinds), list(kinds.values()))[0]
    if kind in HOST:
        HOST[kind](world)
        return
    living = [client for client in world.clients if not client.left and not client.end.closed]
    busy = [client for client in living if client.doing is not None]
    if kind not in ANY_TIME:
        living = [client for client in living if not client.silent]
        busy = [client for client in busy if not client.silent]
    if living:
        victim = world.rng.choice(busy if busy and world.rng.random() < 0.6 else living)
        world.count(kind, victim)
        CLIENT[kind](world, victim)


def delay(world: World, client: Client) -> None:
    """Bytes arrive late."""
    client.delayed_until_s = world.kernel.now_s + world.rng.choice((0.001, 0.1, 10.0))


def stall(world: World, client: Client) -> None:
    """It stops reading, perhaps for good."""
    client.stalled_until_s = world.kernel.now_s + world.rng.choice((0.01, 1.0, math.inf))


def half_close(client: Client) -> None:
    """It says no more."""
    client.silent = client.closes = True
    client.ended.add("half-close")
    client.says.clear()
    if not client.outgoing:
        client.end.end()


def hang_up(client: Client) -> None:
    """It dies."""
    client.left = client.may_lose = True
    client.ended.add("hang-up")
    client.forget()
    client.asked.clear()
    client.end.hang_up()


def cancel(world: World, client: Client) -> None:
    """The broker is told to end at once, or at least this connection is."""
    client.silent = client.may_lose = True
    client.ended.add("cancel")
    client.forget()
    world.kernel.cancel(client.task)
    world.finish(client.task)


def drain(_: World, client: Client) -> None:
    """The broker reads no more than has arrived."""
    client.ended.add("drain")
    client.forget()
    client.peer.drain()


def garbage(world: World, client: Client) -> None:
    """Its stream breaks, perhaps right behind a request."""
    client.silent = True
    client.ended.add("garbage")
    client.says.clear()
    client.outgoing.append((world.rng.choice(GARBAGE), ()))


def truncate(world: World, client: Client) -> None:
    """Its stream ends inside a message."""
    client.silent = client.closes = True
    client.ended.add("truncate")
    client.says.clear()
    whole = pack((0, 1, "maps", []))
    client.outgoing.append((whole[: world.rng.randrange(1, len(whole))], ()))


def quota(world: World) -> None:
    """Limits go down, or back up."""
    if world.lowered:
        world.restore_limits()
    else:
        world.lower_limits()


def create(world: World) -> None:
    """The next memory file or descriptor cannot be had."""
    refusal = ModelError(errno.ENOMEM, "the host has no memory file to give")
    world.disk.armed |= {"create": refusal, "descriptor": refusal}


def disk(world: World) -> None:
    """The next read, or the next page given back, fails."""
    from sim.world import SimulatedFault  # noqa: PLC0415

    failure = SimulatedFault(errno.EIO, "the host's disk fails")
    world.disk.armed |= {"read": failure, "discard": failure}


CLIENT: Final[dict[str, Callable[[World, Client], None]]] = {
    "delay": delay,
    "stall": stall,
    "half-close": lambda _, client: half_close(client),
    "hang-up": lambda _, client: hang_up(client),
    "cancel": cancel,
    "drain": drain,
    "garbage": garbage,
    "truncate": truncate,
}
# Even to a client that says no more.
ANY_TIME: Final = {"delay", "stall", "hang-up", "cancel", "drain"}
HOST: Final[dict[str, Callable[[World], None]]] = {"quota": quota, "create": create, "disk": disk}
