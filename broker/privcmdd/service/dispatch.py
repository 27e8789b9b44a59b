# SPDX-License-Identifier: Apache-2.0
"""Which function does which method; those about the machine are imported when one of them is first asked for."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, TypeAlias

from privcmdd import __version__
from privcmdd.model.errors import ModelError
from privcmdd.wire.methods import METHODS, Method

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from privcmdd.service.broker import Broker
    from privcmdd.service.session import Session

Handler: TypeAlias = "Callable[[Broker, Session, dict[str, Any]], Any]"


def machine_handlers() -> Mapping[str, Handler]:
    """The methods about the machine; the first call imports it, which may be done in another thread."""
    from privcmdd.service import (  # noqa: PLC0415 - see the module's docstring  # noqa: PLC0415 - see the module's docstring
        findings,
        processes,  # noqa: F401
        resources,
    )
    from privcmdd.service.hypercalls import hypercall  # noqa: PLC0415 - see the module's docstring
    from privcmdd.service.methods import (  # noqa: PLC0415
        domains,
        evtchn,
        faults,
        gntalloc,
        gntdev,
        guests,
        privcmd,
        spaces,
    )

    rooms = (spaces, privcmd, resources, evtchn, gntdev, gntalloc, hypercall, domains, faults, findings, guests)
    return {name: handler for room in rooms for name, handler in room.HANDLERS.items()}


def paired(handlers: Mapping[str, Handler]) -> dict[str, tuple[Method, Handler]]:
    """Each handler with its row of the table."""
    return {name: (METHODS[name], handler) for name, handler in handlers.items()}


def check_known(name: str) -> None:
    """Whether a method is in the table.

    Raises:
        ModelError: ENOSYS.
    """
    if name not in METHODS:
        shown = name if len(name) <= 64 and name.isprintable() else repr(name[:64])
        raise ModelError(
            errno.ENOSYS, f"there is no method {shown}; ask describe for those there are", version=__version__
        )
