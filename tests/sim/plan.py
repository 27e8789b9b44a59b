# SPDX-License-Identifier: Apache-2.0
"""What one seed decides before anything happens: swarm testing, so each run leaves some things out and overdoes others.

A run in which everything is likely is a run in which nothing goes far. (Groce et al., "Swarm Testing", ISSTA 2012.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Final

from privcmdd.model.host import Host
from privcmdd.model.slices import Pace
from privcmdd.service.settings import AccessRule, Limits, MachineSize, Settings, SpaceDefaults
from sim.coverage import DELAYED, IN_TURN, SLICED
from sim.vocabulary import USUAL

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from sim.coverage import Cell

ADMIN, USER, GUEST = 1000, 1001, 1002
RULES: Final = (
    AccessRule("admin", uids=(ADMIN,)),
    AccessRule("write", uids=(USER,), domains=(1, 2)),
    AccessRule("admin", uids=(USER,), domains=(3,)),
    AccessRule("read", uids=(GUEST,)),
)
FAULTS: Final = {
    "delay": "bytes of a client arrive late",
    "stall": "a client stops reading",
    "half-close": "a client says no more, and waits for its answers",
    "hang-up": "a client dies",
    "cancel": "the broker ends a connection where it stands, as a second SIGTERM does to all",
    "drain": "the broker reads no more than has arrived, as SIGTERM does to all",
    "garbage": "a client's stream breaks",
    "truncate": "a client's stream ends inside a message",
    "quota": "limits are lowered below what is used, as a reload may",
    "create": "the host has no memory file, event or descriptor to give",
    "disk": "the host fails to read, or to take pages back",
}
"""Kinds of faults that happen at a moment of the scheduler's choice; a stream is always cut anywhere."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A run.

    Attributes:
        seed: Of all that is random in it.
        n_clients: At one time, at most.
        n_asks: Requests in the safety phase.
        settings: Of the broker.
        linger_s: How long a peer that broke the protocol has to take its last answers.
        methods: Weight of each method.
        faults: Weight of each kind of fault.
        fault_rate: Of the steps, how many bring one.
        nonsense: Of the requests, how many are malformed.
        moves: Weights of what the scheduler does next: run, deliver, read, speak.
        room_bytes: Of the socket, towards the client.
        depth: Requests that a client has under way, at most.
        crowding: Of the new clients, how many become threads of a space that is there already.
        slowness: How often a request that could go on after a pause has to let somebody else go first.
        uids: Whom clients run as.
        quantum_s: How long a turn at the loop is; 0: others may run at each pause.
        pace: How much the broker does in one step.
    """

    seed: int
    n_clients: int
    n_asks: int
    settings: Settings
    linger_s: float
    methods: Mapping[str, float]
    faults: Mapping[str, float]
    fault_rate: float
    nonsense: float
    moves: tuple[float, float, float, float]
    room_bytes: int
    depth: int
    crowding: float
    slowness: float
    uids: tuple[int, ...]
    quantum_s: float
    pace: Pace


def plan(seed: int, n_asks: int) -> Plan:
    """What a seed decides. Each third one is a crowd: threads of few processes, in each other's way."""
    rng = Random(f"plan {seed}")
    crowd = seed % 3 == 0
    limits = Limits(
        frames=rng.choice((100, 400, 2_000)),
        entries=rng.choice((30, 100, 300)),
        objects=rng.choice((20, 60, 200)),
        spaces=rng.choice((2, 8, 16)),
        batches=rng.choice((1, 3, 8)),
        queued_bytes=rng.choice((4_096, 16_384, 65_536)),
        fds=rng.choice((4, 8, 16)),
        connection_queued_bytes=rng.choice((512, 4_096, 65_536)),
        frames_per_batch=rng.choice((40, 64, 1_024)),
        slice_frames=rng.choice((1, 2) if crowd else (1, 2, 4, 8)),
    )
    settings = Settings(
        limits=limits,
        machine=MachineSize(memory_mib=2, domains=6, gfns_per_domain=rng.choice((80, 128))),
        space=SpaceDefaults(
            personality=rng.choice(("uvm", "uvm", "linux")),
            probe=rng.choice(("load", "scratch")),
            merge=rng.random() < 0.5,
        ),
        host=Host(
            dom0=rng.choice(("pv", "pv", "pvh")),
            linux=rng.choice(("6.1", "5.10")),
            xen=rng.choice(("4.17", "4.20")),
        ),
        access=RULES,
    )
    return Plan(
        seed=seed,
        n_clients=rng.choice((6, 8, 12, 16) if crowd else (1, 2, 3, 4, 5, 6, 8, 12, 16)),
        n_asks=n_asks,
        settings=settings,
        linger_s=rng.choice((0.001, 0.1, 5.0)),
        methods={
            method: usual * rng.choice((0.3, 1, 3) if crowd and method in IN_TURN else (0, 0.3, 1, 1, 1, 3))
            for method, usual in USUAL.items()
        },
        faults={kind: rng.choice((0, 1, 1, 4)) for kind in FAULTS},
        fault_rate=rng.choice((0.005, 0.02) if crowd else (0.0, 0.005, 0.02, 0.1)),
        nonsense=rng.choice((0.0, 0.02, 0.1)),
        moves=(rng.choice((1, 2, 4)), rng.choice((1, 2, 4)), rng.choice((0.5, 1, 4)), rng.choice((1, 2, 4))),
        room_bytes=rng.choice((64, 1_000, 16_384)),
        depth=rng.choice((1, 1, 2, 8, 30)),
        crowding=0.95 if crowd else rng.choice((0.1, 0.5, 0.9)),
        slowness=0.95 if crowd else rng.choice((0.0, 0.8)),
        uids=(ADMIN,) if crowd else (ADMIN, ADMIN, ADMIN, USER, GUEST),
        quantum_s=rng.choice((0.0, 0.0, 1e-4)),
        pace=rng.choice((Pace(), Pace(bulk=16, entries=4), Pace(bulk=3, entries=1))),
    )


def hunt(number: int, n_asks: int, missing: AbstractSet[Cell]) -> Plan:
    """A crowd that says before all what leads to cells of the space of faults that nobody has met yet."""
    sought = {method for _, _, method in missing}
    if any(state == DELAYED for _, state, _ in missing):
        sought.add("faults.add")
    weights = {
        method: usual * (20 if method in sought else 8 if method in SLICED else 1) for method, usual in USUAL.items()
    }
    return replace(plan(3 * number, n_asks), methods=weights, fault_rate=0.03, depth=8, faults=dict.fromkeys(FAULTS, 1))
