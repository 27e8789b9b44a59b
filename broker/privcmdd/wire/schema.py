# SPDX-License-Identifier: Apache-2.0
"""The table of methods as plain data: `describe` answers it, and the documentation is made from it."""

from collections.abc import Mapping
from typing import Any

from privcmdd.wire import limits
from privcmdd.wire.methods import COMMON_ERRORS, FEATURES, METHODS, PROTOCOL, TOPICS, Field, Method, Param
from privcmdd.wire.params import ROWS, TYPES
from privcmdd.wire.signature import RESULT_TYPES


def wire_limits() -> dict[str, int]:
    """Return every bound of the wire, by its name in lower case."""
    return {name.lower(): value for name, value in sorted(vars(limits).items()) if name.isupper()}


def _param(param: Param) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": param.name,
        "type": param.type,
        "required": param.required,
        "doc": param.doc,
    }
    if not param.required:
        row["default"] = list(param.default) if isinstance(param.default, tuple) else param.default
    if param.unit:
        row["unit"] = param.unit
    if param.choices:
        row["choices"] = list(param.choices)
    if param.most:
        row["most"] = param.most
    if param.nullable:
        row["nullable"] = True
    if param.type in ROWS:
        row["fields"] = list(ROWS[param.type])
    return row


def _field(field: Field) -> dict[str, Any]:
    row: dict[str, Any] = {"name": field.name, "type": field.type, "doc": field.doc}
    if field.nullable:
        row["nullable"] = True
    if field.optional:
        row["optional"] = True
    if field.unit:
        row["unit"] = field.unit
    if field.fields:
        row["fields"] = [_field(inner) for inner in field.fields]
    return row


def _method(method: Method) -> dict[str, Any]:
    return {
        "summary": method.summary,
        "doc": method.doc,
        "params": [_param(param) for param in method.params],
        "result": [_field(field) for field in method.result],
        "errors": dict(method.errors),
        "privilege": method.privilege,
        "fds_out": method.fds_out,
        "open_result": method.open_result,
        "since": method.since,
    }


def describe(in_force: Mapping[str, object] | None = None) -> dict[str, Any]:
    """Return the table as plain data.

    Args:
        in_force: limits that an operator has set; they are added to the bounds of the wire.
    """
    return {
        "protocol": PROTOCOL,
        "features": dict(FEATURES),
        "topics": {name: [_field(field) for field in fields] for name, fields in TOPICS.items()},
        "limits": {**wire_limits(), **(in_force or {})},
        "types": dict(TYPES),
        "result_types": dict(RESULT_TYPES),
        "errors": dict(COMMON_ERRORS),
        "methods": {name: _method(method) for name, method in METHODS.items()},
    }
