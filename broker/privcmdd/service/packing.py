# SPDX-License-Identifier: Apache-2.0
"""Values of the model as bytes, and back: for the state that outlives the broker, and for the broker that takes over.

The bytes say what they hold: a dataclass goes by its name and the names of its fields. So a later version can read
them. A field that they lack has its default; a class or field that this version does not know is refused, because
without it the state would not be the same.
"""

from __future__ import annotations

from collections import deque
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import msgpack
import numpy as np

from privcmdd.model.injection import InjectionKind, Rule
from privcmdd.model.machine.domain import DomainKind, DomainState
from privcmdd.model.machine.evtchn import Port, PortState
from privcmdd.model.machine.interrupts import Interrupts, Msi
from privcmdd.model.machine.records import GrantTable, IoreqServer, Pager, Traits, Tsc
from privcmdd.model.ranges import Ranges

if TYPE_CHECKING:
    from collections.abc import Mapping

_CLASSES: Final = (
    *(DomainKind, DomainState, GrantTable, InjectionKind, Interrupts, IoreqServer, Msi),
    *(Pager, Port, PortState, Rule, Traits, Tsc),
)
CLASSES: Final[Mapping[str, Any]] = {each.__name__: each for each in _CLASSES}
"""The classes of values that are kept, by name."""

NOT_KEPT: Final[Mapping[type, frozenset[str]]] = {
    GrantTable: frozenset({"pins"}),  # mappings of grants: the address spaces end with the broker
    Pager: frozenset({"asked"}),  # a pager that was told of a frame may be told again
}
"""Fields that are not kept, and have their default afterwards."""


class PackingError(ValueError):
    """Bytes that this version cannot read."""


def pack(value: Any) -> bytes:
    """The bytes of a value: of plain values, containers, arrays, and ``CLASSES``."""
    data: bytes = msgpack.packb(_plain(value))
    return data


def unpack(data: bytes) -> Any:
    """The value that bytes of ``pack`` hold.

    Raises:
        PackingError: They are broken, or were written by a later version.
    """
    try:
        return _value(msgpack.unpackb(data, strict_map_key=False))
    except PackingError:
        raise
    except (ValueError, TypeError, KeyError, msgpack.exceptions.UnpackException) as problem:
        raise PackingError(f"bytes that cannot be read: {problem!r}") from problem


def _plain(value: Any) -> Any:
    """A value made of what MessagePack has. Each other value is a map of one key, which says what it is."""
    kind = type(value)
    if value is None or kind in (bool, int, float, str, bytes):
        return value
    if kind is list:
        return [_plain(one) for one in value]
    if isinstance(value, Enum):
        return {kind.__name__: value.value}
    if is_dataclass(value):
        left_out = NOT_KEPT.get(kind, frozenset())
        return {
            kind.__name__: {f.name: _plain(getattr(value, f.name)) for f in fields(value) if f.name not in left_out}
        }
    if kind is dict:
        return {"dict": [[_plain(key), _plain(one)] for key, one in value.items()]}
    if isinstance(value, tuple):
        return {"tuple" if kind is tuple else kind.__name__: [_plain(one) for one in value]}
    if isinstance(value, set):
        return {"set": [_plain(one) for one in sorted(value)]}
    if isinstance(value, deque):
        return {"deque": [value.maxlen, *(_plain(one) for one in value)]}
    if isinstance(value, np.ndarray):
        return {"array": [value.dtype.str, value.tobytes()]}
    if isinstance(value, Ranges):
        return {"ranges": [list(one) for one in value]}
    raise TypeError(f"{kind.__name__} is no value that is kept: add it to the classes")


def _value(plain: Any) -> Any:
    if type(plain) is list:
        return [_value(one) for one in plain]
    if type(plain) is not dict:
        return plain
    ((name, inner),) = plain.items()
    if name in _CONTAINERS:
        return _CONTAINERS[name](inner)
    made = CLASSES.get(name)
    if made is None:
        raise PackingError(f"a value of {name}, which this version does not know")
    if issubclass(made, Enum):
        return made(inner)
    if issubclass(made, tuple):
        return made(*map(_value, inner))
    return made(**{field: _value(one) for field, one in inner.items()})


def _ranges(pairs: list[tuple[int, int]]) -> Ranges:
    made = Ranges()
    for start, end in pairs:
        made = made.with_added(start, end)
    return made


_CONTAINERS: Final[Mapping[str, Any]] = {
    "dict": lambda pairs: {_value(key): _value(one) for key, one in pairs},
    "tuple": lambda items: tuple(map(_value, items)),
    "set": lambda items: set(map(_value, items)),
    "deque": lambda items: deque(map(_value, items[1:]), maxlen=items[0]),
    "array": lambda said: np.frombuffer(said[1], dtype=said[0]).copy(),
    "ranges": _ranges,
}
