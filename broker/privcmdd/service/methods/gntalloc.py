# SPDX-License-Identifier: Apache-2.0
"""/dev/xen/gntalloc: pages of domain 0 that it shares with another domain, and mapping them."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

from privcmdd.model.errors import ModelError
from privcmdd.model.machine.gntalloc import MOST_SHARES, Holder, UnmapNotify
from privcmdd.model.privcmd import gntdev
from privcmdd.model.units import PAGE_SIZE, PROT_READ, PROT_WRITE
from privcmdd.service.methods.gntdev import CLEAR_BYTE, event_of
from privcmdd.service.reply import WithDescriptors

if TYPE_CHECKING:
    from collections.abc import Generator

    from privcmdd.model.file_keys import SharedFile
    from privcmdd.model.machine.gntalloc import Share, Shares
    from privcmdd.model.mm.space import AddressSpace
    from privcmdd.service.backing import Backing
    from privcmdd.service.session import Session
    from privcmdd.service.steps import Pause
    from privcmdd.service.world import World

    Params = dict[str, Any]


def connection(session: Session) -> Holder:
    """A connection as a holder of shares."""
    return Holder("connection", session.number)


def alloc(world: World, session: Session, params: Params) -> WithDescriptors:
    """``gntalloc.alloc``: share new pages, which lie in a new file."""
    to, num = params["dom"], params["num"]
    session.check("write", to)
    if not 0 < num <= MOST_SHARES:
        raise ModelError(errno.EINVAL, f"num is {num}, expected 1 to {MOST_SHARES}", key="num")
    shares = world.machine.shares
    file = shares.next_file()
    world.lasting.hold(file, session.uid_account, 1)
    try:
        world.backing.create(file, num)
        try:
            holder = connection(session)
            refs = shares.allocate(file, num, to, session.identity.uid, holder, writable=params["writable"])
        except BaseException:
            world.backing.close(file)
            raise
    except BaseException:
        world.let_go(file)
        raise
    return with_file(world.backing, file, {"refs": refs}, writable=True)


def with_file(backing: Backing, file: SharedFile, result: Params, *, writable: bool) -> WithDescriptors:
    """An answer that brings the file of the shared pages as a descriptor."""
    return WithDescriptors(result, lambda: (backing.descriptor(file, writable=writable),))


def own(shares: Shares, session: Session, ref: int) -> Share:
    """Find a share that a connection has made.

    Raises:
        ModelError: ENOENT.
    """
    share = shares.share(ref)
    if connection(session) not in share.owners:
        raise ModelError(errno.ENOENT, f"grant {ref} of domain 0 is none of this connection's", key="refs", ref=ref)
    return share


def free(world: World, session: Session, params: Params) -> Params:
    """``gntalloc.free``: free all of the given pages or none."""
    shares, holder = world.machine.shares, connection(session)
    for ref in params["refs"]:
        if holder not in shares.share(ref).mappers:
            own(shares, session, ref)
    for ref in params["refs"]:
        shares.put(ref, holder)
    return {}


def notify(world: World, session: Session, params: Params) -> Params:
    """``gntalloc.notify``: what happens when the maker frees a page: a byte is cleared, an event is raised."""
    share = own(world.machine.shares, session, params["ref"])
    event = event_of(world, session, params)
    offset = params["offset"]
    if offset >= PAGE_SIZE:
        raise ModelError(errno.EINVAL, f"offset is {offset}, and a page has {PAGE_SIZE} bytes", key="offset")
    byte = (share.file, share.page, offset) if params["action"] & CLEAR_BYTE else None
    world.machine.shares.notify(params["ref"], UnmapNotify(byte, event))
    return {}


def map_shares(world: World, session: Session, params: Params) -> Generator[Pause, None, WithDescriptors]:
    """``gntalloc.map``: map shared pages, as many as lie side by side in their file."""
    if not params["addr"]:
        return take(world, session, params, None)
    residence = world.residence(session)
    ticket = yield from residence.turnstile.enter()
    try:
        return take(world, session, params, residence.space)
    finally:
        residence.turnstile.leave(ticket)


def take(world: World, session: Session, params: Params, space: AddressSpace | None) -> WithDescriptors:
    """Look shared pages up and take them, in one step: into an address space, or for the connection."""
    refs, on = params["refs"], params["on"]
    shares = world.machine.shares
    if params["own"]:
        chosen = [own(shares, session, ref) for ref in refs]
    else:
        session.check("write", on)
        chosen = [shares.share(ref) for ref in refs]
        if any(share.to != on for share in chosen):
            raise ModelError(errno.EINVAL, f"one of these grants is not to domain {on}", key="refs")
    if not chosen:
        raise ModelError(errno.EINVAL, "refs is empty, expected at least one grant", key="refs")
    num, first = shares.run(refs), chosen[0]
    writable = params["own"] or first.writable
    prot = PROT_READ | PROT_WRITE if writable else PROT_READ
    if space is not None:
        gntdev.share(space, params["addr"], refs[:num], prot, owned=params["own"])
    else:
        for ref in refs[:num]:
            shares.get(ref, connection(session), owned=params["own"])
    answer = {"num": num, "page": first.page, "prot": prot}
    return with_file(world.backing, first.file, answer, writable=writable)


def leave(world: World, session: Session) -> None:
    """Put all pages of domain 0 that a connection that ends holds."""
    if world.has_machine and world.machine.shares.refs:
        world.machine.shares.put_all(connection(session))


HANDLERS: Final = {
    "gntalloc.alloc": alloc,
    "gntalloc.free": free,
    "gntalloc.notify": notify,
    "gntalloc.map": map_shares,
}
