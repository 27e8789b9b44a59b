# SPDX-License-Identifier: Apache-2.0
"""privcmd: map the memory of simulated Xen guests from Python.

The blocking face::

    import privcmd

    with privcmd.Client() as client, privcmd.ForeignMemory(client) as foreign:
        with foreign.map(domid, range(16), prot=privcmd.PROT_READ) as mapping:
            print(bytes(mapping[:64]))

The face for trio is ``privcmd.trio``, with the same names (``privcmd.aio`` is its former name and goes on working);
``privcmd.guest`` is a guest that a test scripts, ``privcmd.run.host`` a whole host. The names in the ``__all__`` of
modules without an underscore are for users; modules with one change without notice. To import this package costs next
to nothing: each name imports its module when it is first used. numpy is never needed, and trio only for
``privcmd.trio``.
"""

from __future__ import annotations

from mmap import PROT_EXEC, PROT_READ, PROT_WRITE

if __name__ != "privcmd":  # imported through a directory above the package
    raise ImportError(f"{__name__} would be a second copy of the package: `import privcmd`; make installs it")

TYPE_CHECKING = False  # to import typing's own costs five times as much as all the rest here
if TYPE_CHECKING:
    from typing import Any

    from privcmd.broker import PrivateBroker
    from privcmd.client import Client
    from privcmd.errors import BrokerConfused, BrokerGone, FrameError, GuestsGone, NoAnswer, NoBroker, PrivcmdError
    from privcmd.evtchn import EventChannel
    from privcmd.faults import InjectedFault
    from privcmd.foreign import ForeignMemory, Mapping
    from privcmd.results import (
        HOLE,
        Batch,
        DomainInfo,
        DomainRow,
        Fault,
        Finding,
        Health,
        JobRow,
        MapEntry,
        Space,
        SpaceRow,
    )
    from privcmd.version import __version__

PAGE_SIZE = 4096
"""Bytes of a page and of a frame."""

_HOMES = {
    "Batch": "results",
    "BrokerConfused": "errors",
    "BrokerGone": "errors",
    "Client": "client",
    "DomainInfo": "results",
    "DomainRow": "results",
    "EventChannel": "evtchn",
    "Fault": "results",
    "Finding": "results",
    "ForeignMemory": "foreign",
    "FrameError": "errors",
    "HOLE": "results",
    "Health": "results",
    "InjectedFault": "faults",
    "JobRow": "results",
    "MapEntry": "results",
    "Mapping": "foreign",
    "GuestsGone": "errors",
    "NoAnswer": "errors",
    "NoBroker": "errors",
    "PrivateBroker": "broker",
    "PrivcmdError": "errors",
    "Space": "results",
    "SpaceRow": "results",
    "__version__": "version",
}

__all__ = [
    "HOLE",
    "PAGE_SIZE",
    "PROT_EXEC",
    "PROT_READ",
    "PROT_WRITE",
    "Batch",
    "BrokerConfused",
    "BrokerGone",
    "Client",
    "DomainInfo",
    "DomainRow",
    "EventChannel",
    "Fault",
    "Finding",
    "ForeignMemory",
    "FrameError",
    "GuestsGone",
    "Health",
    "InjectedFault",
    "JobRow",
    "MapEntry",
    "Mapping",
    "NoAnswer",
    "NoBroker",
    "PrivateBroker",
    "PrivcmdError",
    "Space",
    "SpaceRow",
    "__version__",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only when something is first used

    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
