# SPDX-License-Identifier: Apache-2.0
"""Methods about the conversation: the protocol and its features, the table of methods, subscriptions."""

from __future__ import annotations

import errno
from dataclasses import asdict
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from privcmdd import __version__
from privcmdd.model.errors import ModelError
from privcmdd.service.keeping import FORM
from privcmdd.service.reply import Packed, WithDescriptors, encoded
from privcmdd.service.sequence import Numbers
from privcmdd.wire.methods import FEATURES, PROTOCOL, TOPICS
from privcmdd.wire.schema import describe as described
from privcmdd.wire.schema import wire_limits

if TYPE_CHECKING:
    from privcmdd.service.session import Session
    from privcmdd.service.settings import Limits
    from privcmdd.service.world import World

    Params = dict[str, Any]


def hello(world: World, session: Session, params: Params) -> Params:
    """``hello``: agree on a protocol and features."""
    if PROTOCOL not in params["protocol"]:
        raise ModelError(
            errno.EPROTONOSUPPORT,
            f"protocol is {list(params['protocol'])}, this broker speaks {PROTOCOL}",
            key="protocol",
            spoken=[PROTOCOL],
        )
    session.features = frozenset(params["features"]) & FEATURES.keys()
    session.numbers = Numbers(world.sequence) if "seq" in session.features else None
    session.client_name = params["client"]
    if params["job"]:
        world.join_job(session, params["job"], leads=params["leads"], keep=params["keep"])
    return {
        "protocol": PROTOCOL,
        "features": sorted(session.features),
        "instance": world.instance,
        **asdict(world.line),
        "version": __version__,
        "limits": {**wire_limits(), **asdict(world.settings.limits)},
        "host": asdict(world.settings.host),
    }


def ping(world: World, _session: Session, _params: Params) -> Params:
    """``ping``: the broker answers."""
    return {"instance": world.instance}


def health(world: World, _session: Session, _params: Params) -> Params:
    """``health``: whether the broker takes new clients."""
    return {"state": "draining" if world.draining else "ready", "connections": len(world.sessions)}


def describe(world: World, _session: Session, _params: Params) -> Packed:
    """``describe``: the table of methods."""
    return table(world.settings.limits)


@lru_cache(maxsize=1)
def table(limits: Limits) -> Packed:
    """The answer of ``describe``, which takes a millisecond to make: it is kept until a reload changes the limits."""
    told = {**described(asdict(limits)), "version": __version__}
    return Packed(len(told), (b"".join(encoded(told)),))


def subscribe(_world: World, session: Session, params: Params) -> Params:
    """``subscribe``: receive notifications of topics from now on."""
    unknown = sorted(set(params["topics"]) - TOPICS.keys())
    if unknown:
        raise ModelError(
            errno.EINVAL, f"topics: there is no {unknown[0]!r}, there are: {', '.join(TOPICS)}", key="topics"
        )
    session.topics |= frozenset(params["topics"])
    return {"topics": sorted(session.topics)}


def hand_over(world: World, session: Session, params: Params) -> WithDescriptors:
    """``hand_over``: pass all guests on to another broker, and end."""
    session.check("admin", None)
    if params["form"] != FORM:
        raise ModelError(
            errno.EPROTONOSUPPORT, f"form is {params['form']}, this broker passes on form {FORM}", key="form", form=FORM
        )
    return WithDescriptors({"form": FORM}, lambda: world.pass_on(session.identity.pid))


HANDLERS: Final = {
    "hello": hello,
    "ping": ping,
    "health": health,
    "describe": describe,
    "subscribe": subscribe,
    "hand_over": hand_over,
}
