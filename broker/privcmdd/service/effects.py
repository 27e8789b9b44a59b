# SPDX-License-Identifier: Apache-2.0
"""What is done outside for each kind of effect that the model leaves (``model.effects``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from privcmdd.model.errors import ModelError
from privcmdd.model.files import BufferFile, SharedFile
from privcmdd.model.findings import Found
from privcmdd.model.grants.in_use import GTF_READING, GTF_WRITING, in_use
from privcmdd.model.machine import effects
from privcmdd.model.machine.domain import State
from privcmdd.service import findings
from privcmdd.service.detect import zombies
from privcmdd.service.hypercalls import paging

if TYPE_CHECKING:
    from collections.abc import Callable

    from privcmdd.service.broker import Broker
    from privcmdd.service.session import Session


IN_USE: Final = GTF_READING | GTF_WRITING


def carry_out(broker: Broker, session: Session, effect: effects.Effect) -> None:
    """Do what one effect asks for.

    Args:
        broker: Whose.
        session: Whose request, or end, it was that the model decided this for.
        effect: The effect.

    Raises:
        Exception: The backing failed.
    """
    OUTCOMES[type(effect)](broker, session, effect)


def discard(broker: Broker, _session: Session, effect: effects.Discard) -> None:
    """Pages of a domain that is gone go with the whole file."""
    if effect.domid in broker.hypervisor.domains:
        broker.backing.discard(effect.domid, effect.pages)


def discard_buffers(broker: Broker, _session: Session, effect: effects.DiscardBuffers) -> None:
    """With the last address space the whole file goes."""
    if effect.buffers.n_spaces:
        broker.backing.discard(BufferFile(effect.buffers.number), effect.buffers.unused(effect.runs))


def state_changed(broker: Broker, _session: Session, effect: effects.StateChanged) -> None:
    """Subscribers hear of it before the file goes; who keeps a dying domain has that noted."""
    if effect.state is State.DYING and effect.domid in broker.hypervisor.domains:
        for what, culprit in zombies(broker, effect.domid):
            broker.findings.record(what, culprit)
    body = {"dom": effect.domid, "state": effect.state}
    broker.tell("domain", body, lambda session: session.sees(effect.domid))
    if effect.state is State.GONE:
        broker.backing.close(effect.domid)


def guest_changed(broker: Broker, _session: Session, effect: effects.GuestChanged) -> None:
    """Whoever plays the guest looks for itself."""
    broker.tell(effect.topic, {"dom": effect.domid}, lambda session: session.sees(effect.domid))


def grants_in_use(broker: Broker, _session: Session, effect: effects.GrantsInUse) -> None:
    """Bits in the guest's own table; all others stay as the guest has them.

    Raises:
        MemoryError: The host has no page for them now.
    """
    backing, domid = broker.backing, effect.domid
    try:
        for page, offset, bits in in_use(broker.hypervisor, effect):
            (flags,) = backing.read(domid, page, offset, 1)
            backing.write(domid, page, offset, bytes([flags & ~IN_USE | bits]))
    except ModelError as refusal:
        raise MemoryError(refusal.text) from refusal


def byte_cleared(broker: Broker, _session: Session, effect: effects.ByteCleared) -> None:
    """Of a domain that is gone nobody reads it."""
    if isinstance(effect.file, SharedFile) or effect.file in broker.hypervisor.domains:
        broker.backing.write(effect.file, effect.page, effect.offset, b"\0")


def shared_file_gone(broker: Broker, _session: Session, effect: effects.SharedFileGone) -> None:
    """Who made it pays for it until then, or until it ends itself."""
    broker.backing.close(effect.file)
    for maker in broker.sessions.values():
        if charge := maker.shares.pop(effect.file, None):
            charge.release()


def found(broker: Broker, session: Session, effect: Found) -> None:
    """Put down to the client that did it."""
    broker.findings.record(effect, findings.serving(session, effect))


OUTCOMES: Final[dict[type, Callable[[Broker, Session, Any], object]]] = {
    effects.Discard: discard,
    effects.StateChanged: state_changed,
    effects.DiscardBuffers: discard_buffers,
    effects.BuffersGone: lambda broker, _, effect: broker.backing.close(BufferFile(effect.number)),
    effects.GiveBack: lambda broker, _, effect: broker.hypervisor.drop_parts(effect.parts),
    effects.FrameWanted: lambda broker, _, effect: paging.tell(broker, effect.domid, effect.gfn),
    effects.Raised: lambda broker, _, effect: broker.backing.raise_event(effect.channel, effect.side),
    effects.ChannelGone: lambda broker, _, effect: broker.backing.close_events(effect.channel),
    effects.GuestChanged: guest_changed,
    effects.GrantsInUse: grants_in_use,
    effects.ByteCleared: byte_cleared,
    effects.SharedFileGone: shared_file_gone,
    Found: found,
}
