# SPDX-License-Identifier: Apache-2.0
"""The rows of the table of methods, and the check of a request's parameters against a row."""

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
        nullable: the value may be nil.
        optional: the key may be missing.
        fields: the fields of a `map`, or of each map of `maps`; empty when the map may have any keys.
        unit: the unit of a number, or empty.
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
        name: as in the message.
        summary: one line.
        params: in the order of the documentation.
        result: the fields of the answer.
        privilege: `any`: none is needed; `map`: a right on the domain named; `admin`: the administration right.
        errors: name of an errno -> when it is answered; `COMMON_ERRORS` are not repeated here.
        fds_out: descriptors that come with the answer.
        open_result: the answer may have keys that are not in `result`.
        since: the first protocol that has the method.
        doc: what the summary leaves out.
        checks: made from `params`: name -> check and parameter.
        defaults: made from `params`: name -> default of each parameter that has one.
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
    """Check the parameters of a request against the row of its method.

    Args:
        method: the row.
        params: the map of the request.

    Returns:
        A value for each parameter of the method: `Frames` for a frame list, the default for a missing key.

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
    """Raise the error for the first wrong parameter, in the order of the table: a client's map has any order."""
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
