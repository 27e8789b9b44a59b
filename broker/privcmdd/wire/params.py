# SPDX-License-Identifier: Apache-2.0
"""The types of parameters: a small closed set, each with one check.

A check takes the value that msgpack decoded and returns the value that the service works with, or raises a
`ParamError` that names the key, the value and what was expected. The simulated machine checks what only it can know:
alignment, ranges that wrap, whether a domain exists.
"""

import errno as errnos
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Never

from privcmdd.wire import limits

MISSING: Final = object()
"""Stands for the default of a parameter that has no default."""


class ParamError(Exception):
    """A parameter is refused; the request is answered with this error.

    Attributes:
        errno: EINVAL; E2BIG where the only mistake is that there is too much of something.
        text: what was wrong, beginning with the key.
        details: `{"key": name}`.
    """

    def __init__(self, errno: int, text: str, details: Mapping[str, object]) -> None:
        super().__init__(f"{errnos.errorcode[errno]}: {text}")
        self.errno = errno
        self.text = text
        self.details = dict(details)


class Frames(NamedTuple):
    """A list of frame numbers.

    Attributes:
        data: little-endian u64, in whatever form the list came.
        listed: the list came as an array, so the answer has an array too.
    """

    data: bytes
    listed: bool


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of a method.

    Attributes:
        name: its key in the map; the name of the ioctl's field where there is one.
        type: a key of `CHECKS`.
        doc: one sentence.
        default: the value when the key is missing; `MISSING` when the key is required, None when `doc` says what a
            missing key means.
        unit: the unit of a number, or empty.
        choices: the values of an `enum`.
        most: upper bound of a number, or of the length of a list or text; 0 for the bound of the type. More is
            E2BIG, for a text EINVAL.
        nullable: a frame list may be nil; `doc` says what nil means.
    """

    name: str
    type: str
    doc: str
    default: object = MISSING
    unit: str = ""
    choices: tuple[str, ...] = ()
    most: int = 0
    nullable: bool = False

    @property
    def required(self) -> bool:
        """Whether the key is required."""
        return self.default is MISSING


def shown(value: object) -> str:
    """Return a value as an error text shows it: short and on one line, whatever a client sent."""
    if isinstance(value, bytes):
        return f"a bin of {len(value)} bytes"
    if isinstance(value, list | dict):
        return f"{'an array' if isinstance(value, list) else 'a map'} of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def refuse(key: str, value: object, expected: str, errno: int = errnos.EINVAL) -> Never:
    """Raise a parameter error; all have this form."""
    named = {None: "nil", True: "true", False: "false"}
    got = named[value] if value is None or isinstance(value, bool) else shown(value)
    raise ParamError(errno, f"{key}: {got}; expected {expected}", {"key": key.partition("[")[0]})


def _refuse_number(key: str, value: object, expected: str) -> Never:
    if value.__class__ is int and value >= limits.SAFE_INTEGER:
        expected += "; numbers of 2^53 and more travel only inside a bin, where no client rounds them"
    refuse(key, value, expected)


def _bounded(param: Param, value: int) -> int:
    if param.most and value > param.most:
        refuse(param.name, value, f"at most {param.most} {param.unit}".rstrip(), errnos.E2BIG)
    return value


def _check_u32(param: Param, value: Any) -> int:
    if value.__class__ is int and 0 <= value < 2**32:
        return _bounded(param, value)
    _refuse_number(param.name, value, "an integer 0..4294967295")


def _check_domid(param: Param, value: Any) -> int:
    if value.__class__ is int and 0 <= value <= 0xFFFF:
        return int(value)
    _refuse_number(param.name, value, "a domain id 0..65535")


def _check_addr(param: Param, value: Any) -> int:
    if value.__class__ is int and 0 <= value < limits.SAFE_INTEGER:
        return int(value)
    _refuse_number(param.name, value, "an address, an integer below 2^53")


def _check_size(param: Param, value: Any) -> int:
    if value.__class__ is int and 0 <= value < limits.SAFE_INTEGER:
        return _bounded(param, value)
    _refuse_number(param.name, value, f"a number of {param.unit or 'bytes'}, an integer below 2^53")


def _check_prot(param: Param, value: Any) -> int:
    if value.__class__ is int and 0 <= value <= 7:
        return int(value)
    _refuse_number(param.name, value, "a protection: 1 read, 2 write, 4 execute, or-ed")


def _check_bool(param: Param, value: Any) -> bool:
    if value.__class__ is bool:
        return bool(value)
    refuse(param.name, value, "true or false")


def _check_str(param: Param, value: Any) -> str:
    most = param.most or limits.NAME_CHARACTERS
    if value.__class__ is str and len(value) <= most and (value.isprintable()):
        return str(value)
    refuse(param.name, value, f"a string of at most {most} printable characters")


def _check_enum(param: Param, value: Any) -> str:
    if value.__class__ is str and value in param.choices:
        return str(value)
    refuse(param.name, value, "one of " + ", ".join(f'"{choice}"' for choice in param.choices))


def _check_bin(param: Param, value: Any) -> bytes:
    if value.__class__ is bytes:
        if param.most and len(value) > param.most:
            refuse(param.name, value, f"at most {param.most} bytes", errnos.E2BIG)
        return value
    refuse(param.name, value, "a bin")


def _check_bins(param: Param, value: Any) -> list[bytes]:
    items: list[bytes] = _list(param, value, "bins")
    for index, item in enumerate(items):
        if item.__class__ is not bytes:
            refuse(f"{param.name}[{index}]", item, "a bin")
    return items


def _check_frames(param: Param, value: Any) -> Frames | None:
    if value.__class__ is bytes:
        if len(value) & 7:
            refuse(param.name, value, "little-endian u64 numbers, so a multiple of 8 bytes")
        return Frames(value, listed=False)
    if value is None and param.nullable:
        return None
    if value.__class__ is not list:
        refuse(
            param.name,
            value,
            f"frame numbers: a bin of little-endian u64, or an array of at most {limits.ARRAY_FRAMES}",
        )
    if len(value) > limits.ARRAY_FRAMES:
        refuse(param.name, value, f"at most {limits.ARRAY_FRAMES} in an array; send more in a bin", errnos.E2BIG)
    for index, frame in enumerate(value):
        if frame.__class__ is not int or not 0 <= frame < limits.SAFE_INTEGER:
            _refuse_number(f"{param.name}[{index}]", frame, "a frame number, an integer below 2^53")
    return Frames(struct.pack(f"<{len(value)}Q", *value), listed=True)


def _list(param: Param, value: Any, what: str) -> list[Any]:
    most = param.most or limits.NAMES
    if value.__class__ is not list:
        refuse(param.name, value, f"an array of {what}")
    if len(value) > most:
        refuse(param.name, value, f"at most {most} {what}", errnos.E2BIG)
    return value


def _check_ints(param: Param, value: Any) -> list[int]:
    items: list[int] = _list(param, value, "integers")
    for index, item in enumerate(items):
        if item.__class__ is not int or not 0 <= item < limits.SAFE_INTEGER:
            _refuse_number(f"{param.name}[{index}]", item, "an integer below 2^53")
    return items


def _check_strs(param: Param, value: Any) -> list[str]:
    items: list[str] = _list(param, value, "strings")
    for index, item in enumerate(items):
        if item.__class__ is not str or len(item) > limits.NAME_CHARACTERS:
            refuse(f"{param.name}[{index}]", item, f"a string of at most {limits.NAME_CHARACTERS} characters")
    return items


def _rows(param: Param, value: Any, fields: tuple[str, ...]) -> list[dict[str, int]]:
    """Check an array of maps, each with exactly these keys, whose values are integers from 0 to 2^53 - 1."""
    form = "{" + ", ".join(fields) + "}"
    rows: list[dict[str, int]] = _list(param, value, f"maps {form}")
    for index, row in enumerate(rows):
        if row.__class__ is not dict:
            refuse(f"{param.name}[{index}]", row, f"a map {form}")
        for name in fields:
            number = row.get(name)
            if number.__class__ is not int or not 0 <= number < limits.SAFE_INTEGER:
                if name not in row:
                    refuse(f"{param.name}[{index}]", row, f'a map {form}; it lacks "{name}"')
                _refuse_number(f"{param.name}[{index}].{name}", number, "an integer below 2^53")
        if len(row) != len(fields):
            unknown = next(name for name in row if name not in fields)
            refuse(f"{param.name}[{index}]", unknown, f"only the keys {form}")
    return rows


ROWS: Final = {
    "entries": ("va", "mfn", "npages"),
    "ranges": ("gfn", "npages"),
    "segments": (
        "flags",
        "len",
        "source_dom",
        "source_ref",
        "source_offset",
        "dest_dom",
        "dest_ref",
        "dest_offset",
    ),
}
"""Type of a parameter that is an array of maps -> the keys of these maps."""


def _check_entries(param: Param, value: Any) -> list[dict[str, int]]:
    return _rows(param, value, ROWS["entries"])


def _check_ranges(param: Param, value: Any) -> list[dict[str, int]]:
    return _rows(param, value, ROWS["ranges"])


def _check_segments(param: Param, value: Any) -> list[dict[str, int]]:
    return _rows(param, value, ROWS["segments"])


CHECKS: Final[Mapping[str, Callable[[Param, Any], object]]] = {
    "u32": _check_u32,
    "domid": _check_domid,
    "addr": _check_addr,
    "size": _check_size,
    "prot": _check_prot,
    "bool": _check_bool,
    "str": _check_str,
    "enum": _check_enum,
    "bin": _check_bin,
    "bins": _check_bins,
    "frames": _check_frames,
    "entries": _check_entries,
    "ranges": _check_ranges,
    "segments": _check_segments,
    "ints": _check_ints,
    "strs": _check_strs,
}

TYPES: Final[Mapping[str, str]] = {
    "u32": "integer 0..2^32-1",
    "domid": "integer 0..65535",
    "addr": "address: integer below 2^53",
    "size": "quantity: integer below 2^53",
    "prot": "protection as in `mman.h`: 1 read, 2 write, 4 execute, or-ed",
    "bool": "true or false",
    "str": f"string of at most {limits.NAME_CHARACTERS} printable characters",
    "enum": "one of the strings named",
    "bin": "bytes",
    "bins": "array of bins",
    "frames": f"frame numbers: bin of little-endian u64, or array of at most {limits.ARRAY_FRAMES} integers below 2^53",
    "entries": "array of maps {va, mfn, npages}",
    "ranges": "array of maps {gfn, npages}",
    "segments": "array of maps {flags, len, source_dom, source_ref, source_offset, dest_dom, dest_ref, dest_offset}",
    "ints": "array of integers",
    "strs": "array of strings",
}
