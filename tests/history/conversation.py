# SPDX-License-Identifier: Apache-2.0
"""What the naive machine answers about the conversation itself: who lives where, who is restricted, what is counted."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

from history.order import Wrong
from history.world import NOBODY, Home, Undecided, World, chosen
from support.naive.host import Refused
from support.naive.spaces import FOREIGN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from history.record import Record

    Params = dict[str, Any]
    Answer = Mapping[str, Any]


def nothing(_world: World, _record: Record, _params: Params) -> Answer:
    """Requests that change nothing here and whose answers are the broker's own business."""
    return {}


def nothing_or_refused(record: Record) -> Answer:
    """Whatever it was: nothing has changed."""
    if record.error is not None:
        raise Refused(record.error[0])
    return {}


def attach(world: World, record: Record, params: Params) -> Answer:
    guest = world.guest(record.client)
    if guest.home is not None:
        raise Refused(errno.EBUSY)
    asked = {key: params[key] for key in ("personality", "probe", "merge") if params[key] is not None}
    if params["space"] is None:
        default = {"personality": world.setting.personality, "probe": world.setting.probe, "merge": world.setting.merge}
        settings = {**default, **asked}
        number = chosen(record, "space", world.last_home + 1)
        world.move_in(record, number, settings["personality"], settings["probe"], merge=settings["merge"])
        return {"space": number, **settings}
    home = world.homes.get(params["space"])
    if home is None:
        raise Refused(errno.ESRCH)
    naive = home.naive
    settings = {"personality": naive.kind, "probe": naive.probe, "merge": naive.merge}
    if any(settings[key] != value for key, value in asked.items()):
        raise Refused(errno.EINVAL)
    home.threads.add(record.client)
    guest.home = home
    return {"space": home.number, **settings}


def fork(world: World, record: Record, _params: Params) -> Answer:
    parent = world.home(record)
    number = chosen(record, "space", world.last_home + 1)
    world.guest(record.client).forked.append(world.add(record, number, parent.naive.fork(), parent.files))
    return {"space": number}


def restrict(world: World, record: Record, params: Params) -> Answer:
    domid, file = params["dom"], params["file"]
    guest = world.guest(record.client)
    held = world.home(record).files.get(file) if file else guest.restricted_to
    if held not in (None, domid):
        raise Refused(errno.EINVAL)
    if domid != NOBODY:
        if file:
            world.home(record).files[file] = domid
        else:
            guest.restricted_to = domid
    return {}


def buffers(world: World, record: Record, _params: Params) -> Answer:
    world.home(record)
    return {}


def stats(world: World, record: Record, _params: Params) -> Answer:
    spaces = world.host.spaces
    told = record.result or {}
    expected = {
        "machine": {
            "frames": world.host.n_frames,
            "free_frames": world.host.n_free(),
            "domains": len(world.host.domains),
            "dying_domains": sum(domain.dying for domain in world.host.domains.values()),
        },
        "mappings": {
            "spaces": len(spaces),
            "frames": sum(len(space.ptes) for space in spaces),
            "ptps": sum(space.ptps() for space in spaces),
            "wired_pages": sum(space.wired() for space in spaces),
        },
        "objects": {"alive": sum(len(space.things(FOREIGN)) for space in spaces)},
    }
    home = world.guest(record.client).home
    if home is not None:
        expected["space"] = of_space(home)
    for group, counters in expected.items():
        for name, value in counters.items():
            if told and told[group][name] != value:
                raise Wrong(record, f"{group}.{name} is {told[group][name]}, expected {value}")
            world.n_compared += 1
    return {}


def of_space(home: Home) -> dict[str, int]:
    """What is counted of one space."""
    naive = home.naive
    return {
        "space": home.number,
        "threads": len(home.threads),
        "waiting": max(0, len(home.turn) - 1),
        "frames": len(naive.ptes),
        "ptps": naive.ptps(),
        "wired_pages": naive.wired(),
    }


def beyond(_world: World, record: Record, _params: Params) -> Answer:
    """Requests that the naive machine knows nothing of; a refused one has changed nothing."""
    if record.error is None:
        raise Undecided(record, "the naive model does not know this request")
    return nothing_or_refused(record)


HANDLERS: Final[dict[str, Callable[[World, Record, Params], Answer]]] = {
    **dict.fromkeys(("hello", "ping", "describe", "findings.list", "faults.list"), nothing),
    **dict.fromkeys(("subscribe", "findings.clear"), lambda _world, record, _params: nothing_or_refused(record)),
    "stats": stats,
    "space.attach": attach,
    "space.fork": fork,
    "space.buffers": buffers,
    "privcmd.restrict": restrict,
}
