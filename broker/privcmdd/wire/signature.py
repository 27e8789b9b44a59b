# SPDX-License-Identifier: Apache-2.0
"""What a row of the table of methods is, and how a request's parameters are held against it."""

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Never

from privcmdd.wire import limits
from privcmdd.wire.params import CHECKS, Param, ParamError, shown

Privilege = Literal["any", "map", "admin"]

RESULT_TYPES: Final[Mapping[str, str]] = {
    "int": "integer",
    "bool": "true or false",
    "str": "string",
    "bin": "bytes",
    "bins": "array of bins",
    "frames": "frame numbers in the form of the question: bin of little-endian u64, or array",
    "errnos": "negative errno numbers, 0 for a good frame, in the form of the question: bin of little-endian "
    "i32, or array",
    "extents": "bin of little-endian u32 triples (first index, page, n_pages)",
    "ints": "array of integers",
    "strs": "array of strings",
    "map": "map",
    "maps": "array of maps",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a result.

    Attributes:
        name: its key.
        type: a key of `RESULT_TYPES`.
        doc: one sentence.
        nullable: nil may stand there.
        optional: the key may be missing.
        fields: of a `map` or of each of `maps`; empty when the map is open.
        unit: of a number, or empty.
    """

    name: str
    type: str
    doc: str
    nullable: bool = False
    optional: bool = False
    fields: tuple["Field", ...] = ()
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Method:
    """One row of the table.

    Attributes:
        name: as it travels.
        summary: one line.
        params: in the order of the documentation.
        result: fields of the map that answers.
        privilege: `any` caller; `map`: a right on the domain named; `admin`: the administration right.
        errors: errno's name -> when; beside those that every method shares.
        fds_out: descriptors that come with the answer.
        open_result: keys other than those of `result` may come.
        since: the protocol that had it first.
        doc: what there is to say beyond the summary.
    """

    name: str
    summary: str
    params: tuple[Param, ...] = ()
    result: tuple[Field, ...] = ()
    privilege: Privilege = "any"
    errors: Mapping[str, str] = field(default_factory=dict)
    fds_out: int = 0
    open_result: bool = False
    since: int = 1
    doc: str = ""
    checks: Mapping[str, tuple[Callable[[Param, Any], object], Param]] = field(init=False, repr=False)
    defaults: dict[str, object] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        checks = {param.name: (CHECKS[param.type], param) for param in self.params}
        object.__setattr__(self, "checks", checks)
        defaults = {param.name: param.default for param in self.params if not param.required}
        object.__setattr__(self, "defaults", defaults)


def validate(method: Method, params: Mapping[str, object]) -> dict[str, Any]:
    """Hold parameters against their table row.

    Args:
        method: the row.
        params: the map that came.

    Returns:
        A value for every parameter of the method; `Frames` for frame lists, defaults for what is missing.

    Raises:
        ParamError: EINVAL for a missing, unknown or wrongly typed key, E2BIG for too much of something.
    """
    values = method.defaults.copy()
    checks = method.checks
    try:
        for name, value in params.items():
            check, param = checks[name]
            values[name] = check(param, value)
    except (KeyError, ParamError):
        _refuse(method, params)
    if len(values) != len(checks):
        _refuse(method, params)
    return values


def _refuse(method: Method, params: Mapping[str, object]) -> Never:
    """Name what is wrong first, in the order of the table: the order of the map that came is anybody's."""
    for name, (check, param) in method.checks.items():
        if name in params:
            check(param, params[name])
        elif param.required:
            text = f"{name}: missing; {method.name} needs it: {param.doc}"
            raise ParamError(errno.EINVAL, text, {"key": name})
    _refuse_unknown(method, params)


def _refuse_unknown(method: Method, params: Mapping[str, object]) -> Never:
    known = [param.name for param in method.params]
    unknown = next(name for name in params if name not in known)
    takes = "takes " + ", ".join(known) if known else "takes no parameters"
    name = unknown if unknown.isprintable() and len(unknown) <= limits.NAME_CHARACTERS else shown(unknown)
    raise ParamError(errno.EINVAL, f"{name}: unknown key; {method.name} {takes}", {"key": name})
