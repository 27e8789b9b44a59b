# SPDX-License-Identifier: Apache-2.0
"""What is done outside for each kind of effect that the model leaves (``model.effects``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from privcmdd.model.errors import ModelError
from privcmdd.model.findings import Found
from privcmdd.model.grants.in_use import GTF_READING, GTF_WRITING, in_use
from privcmdd.model.keys import BufferFile, SharedFile
from privcmdd.model.machine import effects
from privcmdd.model.machine.domain import DomainState
from privcmdd.service import findings, vm_event
from privcmdd.service.detect import zombies

if TYPE_CHECKING:
    from collections.abc import Callable

    from privcmdd.model.machine.effects import Effect
    from privcmdd.service.session import Session
    from privcmdd.service.world import World


IN_USE: Final = GTF_READING | GTF_WRITING


def carry_out(world: World, session: Session) -> None:
    """Do outside what the machine has decided: all of it, even when some of it fails.

    This comes before anybody else runs, so that what was found is put down to the client that did it.

    Args:
        world: Whose machine it is.
        session: Whose request, or end, it was that the machine decided this for.

    Raises:
        Exception: The first failure of the backing.
    """
    failed = None
    put_off: list[Effect] = []
    while world.machine.effects:  # to carry one out may have others
        for effect in world.machine.take_effects():
            try:
                OUTCOMES[type(effect)](world, session, effect)
            except MemoryError:
                put_off.append(effect)  # with the next request, then
            except Exception as problem:  # noqa: BLE001 - raised below, when the others have had their turn
                failed = failed or problem
    world.machine.effects += put_off
    if failed is not None:
        raise failed


def discard(world: World, _session: Session, effect: effects.Discard) -> None:
    """Pages of a domain that is gone go with the whole file."""
    if effect.domid in world.machine.domains:
        world.backing.discard(effect.domid, effect.pages)


def discard_buffers(world: World, _session: Session, effect: effects.DiscardBuffers) -> None:
    """With the last address space the whole file goes."""
    if effect.buffers.n_spaces:
        world.backing.discard(BufferFile(effect.buffers.number), effect.buffers.unused(effect.runs))


def state_changed(world: World, _session: Session, effect: effects.StateChanged) -> None:
    """Subscribers hear of it before the file goes; who keeps a dying domain has that noted."""
    if effect.state is DomainState.DYING and effect.domid in world.machine.domains:
        for what, culprit in zombies(world, effect.domid):
            world.findings.record(what, culprit)
    body = {"dom": effect.domid, "state": effect.state}
    world.tell("domain", body, lambda session: session.sees(effect.domid))
    if effect.state is DomainState.GONE:
        world.backing.close(effect.domid)


def guest_changed(world: World, _session: Session, effect: effects.GuestChanged) -> None:
    """Whoever plays the guest looks for itself."""
    world.tell(effect.topic, {"dom": effect.domid}, lambda session: session.sees(effect.domid))


def grants_in_use(world: World, _session: Session, effect: effects.GrantsInUse) -> None:
    """Bits in the guest's own table; all others stay as the guest has them.

    Raises:
        MemoryError: The host has no page for them now.
    """
    backing, domid = world.backing, effect.domid
    try:
        for page, offset, bits in in_use(world.machine, effect):
            (flags,) = backing.read(domid, page, offset, 1)
            backing.write(domid, page, offset, bytes([flags & ~IN_USE | bits]))
    except ModelError as refusal:
        raise MemoryError(refusal.text) from refusal


def byte_cleared(world: World, _session: Session, effect: effects.ByteCleared) -> None:
    """Of a domain that is gone nobody reads it."""
    if isinstance(effect.file, SharedFile) or effect.file in world.machine.domains:
        world.backing.write(effect.file, effect.page, effect.offset, b"\0")


def shared_file_gone(world: World, _session: Session, effect: effects.SharedFileGone) -> None:
    """Who made it pays for it until then, or until it ends itself."""
    world.backing.close(effect.file)
    for maker in world.sessions.values():
        if charge := maker.shares.pop(effect.file, None):
            charge.release()


def found(world: World, session: Session, effect: Found) -> None:
    """Put down to the client that did it."""
    world.findings.record(effect, findings.serving(session, effect))


OUTCOMES: Final[dict[type, Callable[[World, Session, Any], object]]] = {
    effects.Discard: discard,
    effects.StateChanged: state_changed,
    effects.DiscardBuffers: discard_buffers,
    effects.BuffersGone: lambda world, _, effect: world.backing.close(BufferFile(effect.number)),
    effects.PutFrames: lambda world, _, effect: world.machine.drop_parts(effect.parts),
    effects.FrameWanted: lambda world, _, effect: vm_event.tell(world, effect.domid, effect.gfn),
    effects.Raised: lambda world, _, effect: world.backing.raise_event(effect.channel, effect.side),
    effects.ChannelGone: lambda world, _, effect: world.backing.close_events(effect.channel),
    effects.GuestChanged: guest_changed,
    effects.GrantsInUse: grants_in_use,
    effects.ByteCleared: byte_cleared,
    effects.SharedFileGone: shared_file_gone,
    Found: found,
}
