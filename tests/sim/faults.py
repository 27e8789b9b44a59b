# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in a simulated world, and to whom."""

from __future__ import annotations

import errno
import math
from typing import TYPE_CHECKING, Final

from privcmdd.model.errors import ModelError
from privcmdd.service.steps import Ticket
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
)


def inject(world: World) -> None:
    """Let a fault happen that the plan allows, somewhere; rather where it has not been met yet, when that is asked."""
    living = [client for client in world.clients if not client.left and not client.end.closed]
    if world.wanted:
        hunted = [(kind, client) for client in living for kind in CLIENT if is_wanted(world, kind, client)]
        if hunted:
            strike(world, *world.rng.choice(hunted))
            return
    kinds = world.plan.faults
    if not any(kinds.values()):
        return
    kind = world.rng.choices(list(kinds), list(kinds.values()))[0]
    if kind in HOST:
        HOST[kind](world)
        return
    living = [client for client in living if may_meet(kind, client)]
    if living:
        busy = [client for client in living if client.doing is not None]
        waiting = [client for client in busy if isinstance(client.pause, Ticket)]
        among = next(some for some in (waiting, busy, living) if some and (some is living or world.rng.random() < 0.6))
        strike(world, kind, world.rng.choice(among))


def strike(world: World, kind: str, client: Client) -> None:
    """This, to this client."""
    world.count(kind, client)
    CLIENT[kind](world, client)


def may_meet(kind: str, client: Client) -> bool:
    """Whether it can happen to a client now."""
    return not client.silent or kind in ANY_TIME


def is_wanted(world: World, kind: str, client: Client) -> bool:
    """Whether that would meet something new."""
    state, method = world.state(client)
    return may_meet(kind, client) and not world.wanted.isdisjoint({(kind, state, method), (kind, state, "*")})


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
    client.outgoing.append(world.rng.choice(GARBAGE))


def truncate(world: World, client: Client) -> None:
    """Its stream ends inside a message."""
    client.silent = client.closes = True
    client.ended.add("truncate")
    client.says.clear()
    whole = pack((0, 1, "maps", []))
    client.outgoing.append(whole[: world.rng.randrange(1, len(whole))])


def quota(world: World) -> None:
    """Limits go down, or back up."""
    if world.lowered:
        world.restore_limits()
    else:
        world.lower_limits()


def create(world: World) -> None:
    """The next memory file, event or descriptor cannot be had."""
    world.disk.armed |= {"create", "descriptor", "events"}


def disk(world: World) -> None:
    """The next read, or the next page given back, fails."""
    world.disk.armed |= {"read", "discard"}


class SimulatedFault(OSError):  # noqa: N818 - says what happened
    """A failure of the host that a run asked for: the only one that may come back as an incident."""


def failure(what: str) -> Exception:
    """How the host fails at something."""
    if what in ("create", "descriptor", "events"):
        return ModelError(errno.ENOMEM, f"the host has no {what} to give")
    return SimulatedFault(errno.EIO, f"the host's disk fails at {what}")


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
