# SPDX-License-Identifier: Apache-2.0
"""All of a broker's state as a value: two that are equal cannot be told apart by anything that a client may do."""

from __future__ import annotations

from collections import deque
from dataclasses import is_dataclass
from enum import Enum
from itertools import count
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from privcmdd.model.machine.frames import FrameTable

if TYPE_CHECKING:
    from support.desk import Desk

# What is counted, remembered for people or for speed, or numbers things; none of it decides what is answered.
BESIDE: Final = {
    "Broker": {"_dispatch"},
    "World": {
        "keep",
        "keeps",
        "line",
        "n_requests",
        "n_refused",
        "n_incidents",
        "_makers",
        "settings",
        "backing",
        "sequence",
        "findings",
    },
    "Session": {"n_requests", "method", "access", "recent"},
    "Lease": {"request"},
    "AddressSpace": {"maker", "_next_object"},
    "VmMap": {"_asked", "_span_asked", "generation"},
    "Turnstile": {"_uncontended"},
    "Entry": {"made_by"},
    "Account": {"limits"},
    "UvmObject": {"number"},
    "Domain": {"changes", "generation"},
}
ATOMS: Final = (type(None), bool, int, float, str, bytes, Enum)
PASSING: Final = (memoryview, count, FunctionType, MethodType, type)


def snapshot(desk: Desk) -> dict[str, Any]:
    """The broker, its files, and what subscribers were told."""
    files = {key: {n: bytes(page) for n, page in pages.items()} for key, pages in desk.backing.files.items()}
    found: dict[str, Any] = {"files": files, "events": list(desk.events)}
    walk(desk.broker, "broker", found)
    return found


def walk(value: Any, path: str, found: dict[str, Any]) -> None:
    """Note in ``found`` all that is behind a value, each thing by its path."""
    _walk(value, path, {}, found)


def _walk(value: Any, path: str, seen: dict[int, str], found: dict[str, Any]) -> None:
    if isinstance(value, PASSING):
        return
    if isinstance(value, ATOMS):
        found[path] = value
        return
    if isinstance(value, np.ndarray):  # room that is not used yet makes no difference
        found[path] = (str(value.dtype), value.tobytes().rstrip(b"\0"))
        return
    if id(value) in seen and not is_value(value):
        found[path] = seen[id(value)]
        return
    seen[id(value)] = path
    if isinstance(value, dict):
        for key, inner in value.items():
            at = repr(key) if isinstance(key, (*ATOMS, tuple)) else len(found)
            _walk(inner, f"{path}[{at}]", seen, found)
    elif isinstance(value, list | deque | tuple):
        found[path] = len(value)
        for index, inner in enumerate(value):
            _walk(inner, f"{path}[{index}]", seen, found)
    elif isinstance(value, set | frozenset):
        found[path] = sorted(map(repr, value))
    else:
        for name, inner in attributes(value):
            _walk(inner, f"{path}.{name}", seen, found)


def is_value(value: Any) -> bool:
    """Whether nobody can tell two of these that are equal from one of which there are two names."""
    return is_dataclass(value) and not isinstance(value, type) and value.__dataclass_params__.frozen  # type: ignore[attr-defined]


def attributes(value: Any) -> list[tuple[str, Any]]:
    """What an object holds, in a fixed order."""
    kind = type(value)
    names = {name for base in kind.__mro__ for name in getattr(base, "__slots__", ())} | vars_of(value).keys()
    held = [(n, getattr(value, n)) for n in sorted(names - BESIDE.get(kind.__name__, set())) if hasattr(value, n)]
    if isinstance(value, FrameTable):  # a stack: what is above its top is nothing
        return [(n, inner[: value._n_freed] if n == "_freed" else inner) for n, inner in held]
    return held


def vars_of(value: Any) -> dict[str, Any]:
    """The attributes of an object that are in no slot."""
    return getattr(value, "__dict__", {})


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Where two states differ, for people."""
    return [
        f"{path}: {str(before.get(path, 'absent'))[:80]} became {str(after.get(path, 'absent'))[:80]}"
        for path in sorted(before.keys() | after.keys())
        if before.get(path, "absent") != after.get(path, "absent")
    ]
