# SPDX-License-Identifier: Apache-2.0
"""A simulated Xen host to run programs on: a broker, domains, xenstored, and device models where they are asked for."""

from __future__ import annotations

import contextlib
import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from privcmd.broker import PrivateBroker
from privcmd.client import Client
from privcmd.errors import PrivcmdError
from privcmd.run import program, qemu, xenstore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


VGA_HOLE: Final = (0xA0, 0xC0)
"""Guest frames where a PC has no memory of its own."""
DEVICE_PAGES: Final = 16_384
"""Memory that devices may have, beyond the guest's: a VGA has 16 MiB."""


@dataclass(frozen=True, slots=True)
class Guest:
    """A domain to make.

    Attributes:
        kind: "pv", "hvm" or "pvh".
        n_pages: Its memory.
        name: For people.
        holes: Where it has no memory: first gfn and number of pages of each. Its memory jumps over them.
    """

    kind: str
    n_pages: int
    name: str = ""
    holes: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Host:
    """A host that is up.

    Attributes:
        socket: Its broker's.
        client: A connection to that.
        store: The directory of its xenstored; None without one.
        doms: The domains that were made for it.
    """

    socket: str
    client: Client
    store: Path | None
    doms: list[int] = field(default_factory=list)

    def environment(self, token: str) -> dict[str, str]:
        """The environment of a program that is to live on it; ``token`` tells its processes from others."""
        env = program.environment(self.socket, token)
        return env if self.store is None else {**env, "XENSTORED_RUNDIR": str(self.store)}


@contextlib.contextmanager
def running(
    guests: Sequence[Guest] = (),
    *,
    socket: str | None = None,
    config: str | None = None,
    settings: Sequence[str] = (),
    store: bool | None = None,
    device_model: Sequence[str] | None = None,
) -> Iterator[Host]:
    """Have a host for as long as the block lasts.

    Args:
        guests: Domains to make.
        socket: A broker to join; None starts one.
        config: Configuration of a broker that is started, as TOML text.
        settings: Keys of it that are otherwise, each as TABLE.KEY=VALUE.
        store: Whether to run xenstored: None, where it is installed; True, or else fail.
        device_model: Arguments of a QEMU for the first HVM guest, beyond those it must have; None for no QEMU.

    Raises:
        PrivcmdError: A domain cannot be made; what is needed is not installed, or did not come up.
        NoBroker: No broker answers, or ours did not start.
    """
    with contextlib.ExitStack() as stack:
        if socket is None:
            socket = stack.enter_context(PrivateBroker(config, [f"--set={one}" for one in settings])).path
        client = stack.enter_context(Client(socket))  # before anything else needs the broker: whether there is one
        needed = bool(store) or device_model is not None
        directory = stack.enter_context(xenstore.running(socket, needed=needed)) if store is not False else None
        emulated = None if device_model is None else _emulated(guests)
        doms = [_create(client, guest, emulated=guest is emulated) for guest in guests]
        if directory is not None:
            domains = ((domain.dom, domain.name) for domain in client.domains.list() if domain.name)
            xenstore.name(directory, [(0, "Domain-0"), *domains])
        if device_model is not None and emulated is not None:
            dom = doms[guests.index(emulated)]
            if directory is None:
                raise PrivcmdError(errno.EINVAL, "a device model needs xenstored, which is not to be run")
            stack.enter_context(qemu.running(socket, directory, dom, emulated.n_pages, device_model))
        yield Host(socket, client, directory, doms)


def _create(client: Client, guest: Guest, *, emulated: bool) -> int:
    """Make a domain, as a domain builder leaves one that is to have a device model: with a hole for the VGA's memory.

    It may have more memory than it gets: a device model populates the memory of its devices.
    """
    if not emulated:
        ranges = around(guest.n_pages, guest.holes) if guest.holes else None
        return client.domains.create(guest.kind, guest.n_pages, ranges=ranges, name=guest.name)
    if guest.holes:
        ranges = around(guest.n_pages, (*guest.holes, (VGA_HOLE[0], VGA_HOLE[1] - VGA_HOLE[0])))
        return client.domains.create("hvm", guest.n_pages + DEVICE_PAGES, ranges=ranges, name=guest.name)
    low = min(guest.n_pages, VGA_HOLE[0])
    ranges = [(0, low)] + ([(VGA_HOLE[1], guest.n_pages - VGA_HOLE[1])] if guest.n_pages > VGA_HOLE[1] else [])
    return client.domains.create("hvm", guest.n_pages + DEVICE_PAGES, ranges=ranges, name=guest.name)


def around(n_pages: int, holes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges of gfns from 0 on that hold ``n_pages`` and leave the holes out."""
    ranges = []
    gfn = 0
    for hole, n_hole in sorted(holes):
        if n_pages and hole > gfn:
            n_before = min(n_pages, hole - gfn)
            ranges.append((gfn, n_before))
            n_pages -= n_before
        gfn = max(gfn, hole + n_hole)
    return [*ranges, (gfn, n_pages)] if n_pages else ranges


def _emulated(guests: Sequence[Guest]) -> Guest:
    """The guest that a device model is for."""
    for guest in guests:
        if guest.kind == "hvm":
            return guest
    raise PrivcmdError(errno.EINVAL, "a device model needs an HVM domain: --domain hvm:64M")
