# SPDX-License-Identifier: Apache-2.0
"""Methods about the conversation itself: who, which features, which address space, what is counted."""

from __future__ import annotations

import errno
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from privcmdd import __version__
from privcmdd.model.errors import ModelError
from privcmdd.service.sequence import Numbers
from privcmdd.service.settings import SpaceDefaults
from privcmdd.wire.methods import FEATURES, PROTOCOL, TOPICS
from privcmdd.wire.schema import describe as described
from privcmdd.wire.schema import wire_limits

if TYPE_CHECKING:
    from privcmdd.model.mm.uobject import ObjectCounters
    from privcmdd.service.broker import Broker
    from privcmdd.service.processes import Residence
    from privcmdd.service.session import Session

    Params = dict[str, Any]


def hello(broker: Broker, session: Session, params: Params) -> Params:
    """``hello``: agree on a protocol and features."""
    if PROTOCOL not in params["protocol"]:
        raise ModelError(
            errno.EPROTONOSUPPORT,
            f"protocol is {list(params['protocol'])}, this broker speaks {PROTOCOL}",
            key="protocol",
            spoken=[PROTOCOL],
        )
    session.features = frozenset(params["features"]) & FEATURES.keys()
    session.numbers = Numbers(broker.sequence) if "seq" in session.features else None
    session.client_name = params["client"]
    return {
        "protocol": PROTOCOL,
        "features": sorted(session.features),
        "instance": broker.instance,
        "version": __version__,
        "limits": {**wire_limits(), **asdict(broker.settings.limits)},
        "host": asdict(broker.settings.host),
    }


def ping(broker: Broker, _session: Session, _params: Params) -> Params:
    """``ping``: the loop answers."""
    return {"instance": broker.instance}


def describe(broker: Broker, _session: Session, _params: Params) -> Params:
    """``describe``: the table of methods."""
    return {**described(asdict(broker.settings.limits)), "version": __version__}


def stats(broker: Broker, session: Session, _params: Params) -> Params:
    """``stats``: the broker's counters, those of the caller's connection, and of its space if it has one."""
    result = counters(broker)
    result["connection"] = {
        "requests": session.n_requests,
        "ignored_notifications": session.n_ignored,
        "dropped_notifications": session.n_dropped,
    }
    if session.residence is not None:
        result["space"] = space_counters(session.residence)
    return result


def subscribe(_broker: Broker, session: Session, params: Params) -> Params:
    """``subscribe``: be told of events."""
    unknown = sorted(set(params["topics"]) - TOPICS.keys())
    if unknown:
        raise ModelError(
            errno.EINVAL, f"topics: there is no {unknown[0]!r}, there are: {', '.join(TOPICS)}", key="topics"
        )
    session.topics |= frozenset(params["topics"])
    return {"topics": sorted(session.topics)}


def attach(broker: Broker, session: Session, params: Params) -> Params:
    """``space.attach``: join an address space, or make one with settings of its own."""
    if session.residence is not None:
        raise ModelError(
            errno.EBUSY,
            f"this connection lives in address space {session.residence.space.number} already; open another one",
            space=session.residence.space.number,
        )
    asked = {key: params[key] for key in ("personality", "probe", "merge") if params[key] is not None}
    if params["space"] is None:
        settings = SpaceDefaults(**{**asdict(broker.settings.space), **asked})
        return attached(broker.spaces.make(session, settings, broker.settings.limits.slice_frames))
    there = broker.spaces.find(session, params["space"])
    for key, value in asked.items():
        if getattr(there.settings, key) != value:
            raise ModelError(
                errno.EINVAL,
                f"{key} is {value!r}, and address space {params['space']} was made with "
                f"{getattr(there.settings, key)!r}",
                key=key,
            )
    broker.spaces.join(session, there)
    return attached(there)


def attached(residence: Residence) -> Params:
    """Where a connection lives now."""
    return {"space": residence.space.number, **asdict(residence.settings)}


def fork(broker: Broker, session: Session, _params: Params) -> Params:
    """``space.fork``: the address space of a child."""
    return {"space": broker.spaces.fork(session, broker.residence(session)).space.number}


def counters(broker: Broker) -> Params:
    """All counters of the broker."""
    hypervisor = broker.hypervisor
    done = Counter(broker.spaces.closed_counters)
    spaces = list(broker.spaces)
    for space in spaces:
        done.update(space.counters.as_dict())
    frames = hypervisor.frames
    return {
        "broker": {
            "instance": broker.instance,
            "version": __version__,
            "connections": len(broker.sessions),
            "requests": broker.n_requests,
            "refused": broker.n_refused,
            "faults": broker.n_faults,
            "broken": {f"{law}: {subject}": n_again for (law, subject), n_again in broker.scrutiny.broken.items()},
            "unanswered": dict(broker.unanswered),
            "findings": {kind.value: n for kind, n in broker.findings.totals.items()},
            "findings_dropped": broker.findings.n_dropped,
        },
        "machine": {
            "frames": frames.n_frames,
            "free_frames": frames.n_free,
            "domains": len(hypervisor.domains),
            "dying_domains": sum(not domain.alive for domain in hypervisor.domains.values()),
        },
        "objects": object_counters(broker.spaces.objects),
        "mappings": {
            "spaces": len(spaces),
            "entries": sum(len(space.map) for space in spaces),
            "frames": sum(space.pmap.n_present for space in spaces),
            "ptps": sum(space.pmap.n_ptps for space in spaces),
            "wired_pages": sum(space.n_wired for space in spaces),
        },
        "done": dict(done),
        "injected": {} if broker.faults is None else broker.faults.statistics(),
        "uids": broker.usage(),
    }


def space_counters(residence: Residence) -> Params:
    """The counters of one address space."""
    space = residence.space
    return {
        "space": space.number,
        "threads": len(residence.threads),
        "waiting": residence.turnstile.n_waiting,
        "objects": object_counters(space.objects),
        "entries": len(space.map),
        "frames": space.pmap.n_present,
        "ptps": space.pmap.n_ptps,
        "wired_pages": space.n_wired,
        "done": space.counters.as_dict(),
    }


def object_counters(objects: ObjectCounters) -> Params:
    """Objects alive, peak, made and freed."""
    return {"alive": objects.alive, "peak": objects.peak, "made": objects.made, "freed": objects.freed}


HANDLERS: Final = {
    "hello": hello,
    "ping": ping,
    "describe": describe,
    "stats": stats,
    "subscribe": subscribe,
    "space.attach": attach,
    "space.fork": fork,
}
