# SPDX-License-Identifier: Apache-2.0
"""The context of a hypercall: the caller, its rights and its memory."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from privcmdd.model.errors import ModelError, Unanswered
from privcmdd.model.units import DOMID_SELF
from privcmdd.service.hypercalls.names import named

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from privcmdd.model.machine.domain import Domain
    from privcmdd.model.machine.machine import Machine
    from privcmdd.service.hypercalls.caller_memory import CallerMemory
    from privcmdd.service.layout import Layout
    from privcmdd.service.session import Session
    from privcmdd.service.world import World

    Handler = Callable[["Hypercall", tuple[int, ...]], int]

T = TypeVar("T")


@dataclass(slots=True)
class Hypercall:
    """A hypercall that is being performed.

    Attributes:
        world: The state.
        session: The caller.
        memory: The caller's memory, where the arguments lie.
        operation: What is performed, by its name.
        domid: The domain that it is about; None until that is known.
        refusals: What was refused, in words: at most one, except in a multicall.
    """

    world: World
    session: Session
    memory: CallerMemory
    operation: str = ""
    domid: int | None = None
    refusals: list[str] = field(default_factory=list)

    @property
    def machine(self) -> Machine:
        """The machine."""
        return self.world.machine

    def domain(self, domid: int) -> Domain:
        """Find a domain that the caller may administer.

        Raises:
            ModelError: EPERM; ESRCH.
        """
        self.domid = domid
        self.session.check("admin", domid)
        return self.machine.domain(domid)

    def find(self, kind: str, number: int, there: Mapping[int, T]) -> T:
        """Find what performs an operation, and note its name.

        Args:
            kind: The operations among which it is, as ``domctl``.
            number: Its number among them.
            there: What performs each.

        Raises:
            Unanswered: ENOSYS.
        """
        self.operation = named(kind, number)
        try:
            return there[number]
        except KeyError:
            raise self.unanswered() from None

    def unanswered(self, of: str = "") -> Unanswered:
        """The refusal of an operation that has no answer here; ``of`` says for what it has none."""
        return Unanswered(self.operation + of)

    def refused(self, refusal: ModelError) -> int:
        """Note a refusal in words, and return the value that the caller gets: a negative errno."""
        self.world.count(self.session, refusal)
        self.refusals.append(in_words(refusal, self.operation, self.domid))
        return -refusal.errno


def in_words(refusal: ModelError, operation: str, domid: int | None) -> str:
    """Why an operation was refused, in words that stand alone: the errno, the operation, its domain, the reason."""
    if refusal.text.startswith(operation):
        return str(refusal)
    of = "" if domid is None else f" of domain {domid}"
    return f"{refusal.name}: {operation}{of}: {refusal.text}"


def versioned(
    call: Hypercall, address: int, size_bytes: int, head: Layout, versions: Mapping[str, int], what: str
) -> tuple[bytearray, dict[str, Any]]:
    """Read a structure whose head has the interface's version, as domctl's and sysctl's do.

    Args:
        call: The hypercall.
        address: Where the structure is.
        size_bytes: Its size.
        head: The layout of its beginning.
        versions: The version of each release of Xen.
        what: The name of the interface.

    Returns:
        Its bytes, which may be written back, and its head.

    Raises:
        ModelError: EFAULT; EACCES, another version.
    """
    data = bytearray(call.memory.read(address, size_bytes))
    fields = head.unpack(data)
    call.operation = named(what, fields["cmd"])
    asked, xen = fields["interface_version"], call.machine.host.xen
    if asked != versions[xen]:
        its = [release for release, version in versions.items() if version == asked]
        advice = f'set host.xen = "{its[0]}"' if its else f"known are {of_releases(versions)}"
        raise ModelError(
            errno.EACCES,
            f"the caller has version {asked:#x} of {what}, Xen {xen} has version {versions[xen]:#x}; {advice}",
        )
    call.memory.check(address, size_bytes)
    return data, fields


def of_releases(versions: Mapping[str, int]) -> str:
    """The versions of an interface, each with its release."""
    return ", ".join(f"{version:#x} (Xen {release})" for release, version in versions.items())


def is_self(domid: int) -> bool:
    """Whether a domid means the caller's own domain, domain 0."""
    return domid in (0, DOMID_SELF)
