# SPDX-License-Identifier: Apache-2.0
"""Carries out the effects that the model leaves (``model/machine/effects.py``): one function for each kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from privcmdd.model.errors import ModelError
from privcmdd.model.file_keys import BufferFile, SharedFile
from privcmdd.model.findings import Found
from privcmdd.model.grants.in_use import GTF_READING, GTF_WRITING, in_use
from privcmdd.model.machine import effects
from privcmdd.model.machine.domain import DomainState
from privcmdd.service import findings, vm_event
from privcmdd.service.detect import zombies
from privcmdd.service.lasting import Channel

if TYPE_CHECKING:
    from collections.abc import Callable

    from privcmdd.model.machine.effects import Effect
    from privcmdd.service.session import Session
    from privcmdd.service.world import World


IN_USE: Final = GTF_READING | GTF_WRITING


def carry_out(world: World, session: Session | None) -> None:
    """Carry out all effects of the machine, even when some of them fail.

    This is done before another request runs, so that a finding is put down to the client that caused it.

    Args:
        world: The state.
        session: The session whose request, or whose end, left the effects; None: time did.

    Raises:
        Exception: The first failure of the backing.
    """
    failed = None
    put_off: list[Effect] = []
    while world.machine.effects:  # carrying one out may leave others
        for effect in world.machine.take_effects():
            try:
                CARRIES_OUT[type(effect)](world, session, effect)
            except MemoryError:
                put_off.append(effect)  # carried out with the next request
            except Exception as problem:  # noqa: BLE001 - raised below, after all other effects
                failed = failed or problem
    for effect in put_off:
        world.machine.emit(effect)
    if failed is not None:
        raise failed


def discard(world: World, _session: Session | None, effect: effects.Discard) -> None:
    """Give pages of a memory file back to the host; those of a domain that is gone go with the whole file."""
    if effect.domid in world.machine.domains:
        world.backing.discard(effect.domid, effect.pages)


def discard_buffers(world: World, _session: Session | None, effect: effects.DiscardBuffers) -> None:
    """Give pages of hypercall buffers back to the host; after the last address space the whole file goes."""
    if effect.buffers.n_spaces:
        world.backing.discard(BufferFile(effect.buffers.number), effect.buffers.unused(effect.runs))


def state_changed(world: World, _session: Session | None, effect: effects.StateChanged) -> None:
    """Tell subscribers of a domain's new state; note when one begins to die, close the file of one that is gone."""
    if effect.state is DomainState.DYING and effect.domid in world.machine.domains:
        world.destroyed[effect.domid] = world.now()
    body = {"dom": effect.domid, "state": effect.state}
    world.tell("domain", body, lambda session: session.sees(effect.domid))
    if effect.state is DomainState.GONE:
        world.destroyed.pop(effect.domid, None)
        world.leases.forget(effect.domid)
        world.backing.close(effect.domid)


def find_zombies(world: World) -> None:
    """Record a finding for each address space that keeps a domain for too long after its end."""
    now, patience_s = world.now(), world.settings.limits.zombie_s
    try:
        late = [domid for domid, since_s in world.destroyed.items() if now - since_s >= patience_s]
        found = [each for domid in late for each in zombies(world.spaces, domid, now - world.destroyed[domid])]
    except MemoryError:
        return  # they are looked for again with the next request
    for domid in late:
        del world.destroyed[domid]
    for what, culprit in found:
        world.findings.record(what, culprit)


def buffers_gone(world: World, _session: Session | None, effect: effects.BuffersGone) -> None:
    """Close a file of hypercall buffers."""
    world.backing.close(BufferFile(effect.number))
    world.let_go(BufferFile(effect.number))


def channel_gone(world: World, _session: Session | None, effect: effects.ChannelGone) -> None:
    """Close the events of a channel."""
    world.backing.close_events(effect.channel)
    world.let_go(Channel(effect.channel))


def guest_changed(world: World, _session: Session | None, effect: effects.GuestChanged) -> None:
    """Tell subscribers that something of a guest changed; they then ask what it is."""
    world.tell(effect.topic, {"dom": effect.domid}, lambda session: session.sees(effect.domid))


def grants_in_use(world: World, _session: Session | None, effect: effects.GrantsInUse) -> None:
    """Set the bits of the guest's grant table that say which grants are in use; all other bits stay as they are.

    Raises:
        MemoryError: The host has no page for the table now.
    """
    backing, domid = world.backing, effect.domid
    try:
        for page, offset, bits in in_use(world.machine, effect):
            (flags,) = backing.read(domid, page, offset, 1)
            backing.write(domid, page, offset, bytes([flags & ~IN_USE | bits]))
    except ModelError as refusal:
        raise MemoryError(refusal.text) from refusal


def byte_cleared(world: World, _session: Session | None, effect: effects.ByteCleared) -> None:
    """Clear a byte in a memory file, unless its domain is gone."""
    if isinstance(effect.file, SharedFile) or effect.file in world.machine.domains:
        world.backing.write(effect.file, effect.page, effect.offset, b"\0")


def shared_file_gone(world: World, _session: Session | None, effect: effects.SharedFileGone) -> None:
    """Close the file of shared pages; its maker's uid stops paying for it."""
    world.backing.close(effect.file)
    world.let_go(effect.file)


def found(world: World, session: Session | None, effect: Found) -> None:
    """Record a finding of the client that is being served."""
    if session is not None:
        world.findings.record(effect, findings.serving(session, effect))


CARRIES_OUT: Final[dict[type, Callable[[World, Session | None, Any], object]]] = {
    effects.Discard: discard,
    effects.StateChanged: state_changed,
    effects.DiscardBuffers: discard_buffers,
    effects.BuffersGone: buffers_gone,
    effects.PutFrames: lambda world, _, effect: world.machine.drop_parts(effect.parts),
    effects.FrameWanted: lambda world, _, effect: vm_event.tell(world.machine, world.backing, effect.domid, effect.gfn),
    effects.Raised: lambda world, _, effect: world.backing.raise_event(effect.channel, effect.side),
    effects.ChannelGone: channel_gone,
    effects.GuestChanged: guest_changed,
    effects.GrantsInUse: grants_in_use,
    effects.ByteCleared: byte_cleared,
    effects.SharedFileGone: shared_file_gone,
    Found: found,
}
