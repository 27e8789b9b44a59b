# SPDX-License-Identifier: Apache-2.0
"""The table of methods as JSON Schema (draft 2020-12), over messages in the notation of the vectors."""

from typing import Any, Final

from privcmdd.wire import limits
from privcmdd.wire.methods import METHODS, TOPICS, Field, Method, Param
from privcmdd.wire.params import ROWS

_SAFE: Final = {"type": "integer", "minimum": 0, "maximum": limits.SAFE_INTEGER - 1}
_NAME: Final = {"type": "string", "maxLength": limits.NAME_CHARACTERS}
_U32: Final = {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{name}"}


def _object(properties: dict[str, Any], required: list[str], *, is_open: bool = False) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": is_open,
    }


def _rows(kind: str) -> dict[str, Any]:
    names = ROWS[kind]
    return {"type": "array", "items": _object(dict.fromkeys(names, _SAFE), list(names))}


def _param(param: Param) -> dict[str, Any]:
    kinds: dict[str, dict[str, Any]] = {
        "u32": _U32,
        "domid": {"type": "integer", "minimum": 0, "maximum": 65535},
        "addr": _SAFE,
        "size": _SAFE,
        "prot": {"type": "integer", "minimum": 0, "maximum": 7},
        "bool": {"type": "boolean"},
        "str": _NAME,
        "enum": {"enum": list(param.choices)},
        "bin": _ref("bin"),
        "bins": {"type": "array", "items": _ref("bin"), "maxItems": param.most or limits.NAMES},
        "frames": _ref("frames"),
        "entries": _rows("entries"),
        "ranges": _rows("ranges"),
        "segments": _rows("segments"),
        "ints": {"type": "array", "items": _SAFE, "maxItems": limits.NAMES},
        "strs": {"type": "array", "items": _NAME, "maxItems": limits.NAMES},
    }
    kind = kinds[param.type]
    if param.nullable:
        kind = {"anyOf": [kind, {"type": "null"}]}
    made: dict[str, Any] = {"description": param.doc, **kind}
    if param.most and param.type in ROWS:
        made["maxItems"] = param.most
    elif param.most and param.type in ("u32", "size"):
        made["maximum"] = param.most
    if not param.required and param.default is not None:
        made["default"] = list(param.default) if isinstance(param.default, tuple) else param.default
    return made


def _field(field: Field) -> dict[str, Any]:
    inner = _fields(field.fields) if field.fields else {"type": "object"}
    kinds: dict[str, dict[str, Any]] = {
        "int": {"type": "integer"},
        "bool": {"type": "boolean"},
        "str": {"type": "string"},
        "bin": _ref("bin"),
        "bins": {"type": "array", "items": _ref("bin")},
        "frames": _ref("frames"),
        "errnos": _ref("errnos"),
        "extents": _ref("bin"),
        "ints": {"type": "array", "items": {"type": "integer"}},
        "strs": {"type": "array", "items": {"type": "string"}},
        "map": inner,
        "maps": {"type": "array", "items": inner},
    }
    kind = kinds[field.type]
    if field.nullable:
        kind = {"anyOf": [kind, {"type": "null"}]}
    return {"description": field.doc, **kind}


def _fields(fields: tuple[Field, ...], *, is_open: bool = False) -> dict[str, Any]:
    properties = {field.name: _field(field) for field in fields}
    return _object(properties, [field.name for field in fields if not field.optional], is_open=is_open)


def _method(method: Method) -> dict[str, Any]:
    params = {param.name: _param(param) for param in method.params}
    return {
        f"{method.name}.params": {
            "description": method.summary,
            **_object(params, [param.name for param in method.params if param.required]),
        },
        f"{method.name}.result": _fields(method.result, is_open=method.open_result),
    }


def _tuple(*items: Any) -> dict[str, Any]:
    return {"type": "array", "prefixItems": list(items), "items": False, "minItems": len(items)}


def schema() -> dict[str, Any]:
    """Make the schema of every message."""
    definitions: dict[str, Any] = {
        "bin": {
            "description": "bytes: MessagePack's bin, here in hex",
            **_object({"$bin": {"type": "string", "pattern": "^([0-9a-f]{2})*$"}}, ["$bin"]),
        },
        "frames": {
            "description": "frame numbers: a bin of little-endian u64, or an array",
            "anyOf": [_ref("bin"), {"type": "array", "items": _SAFE, "maxItems": limits.ARRAY_FRAMES}],
        },
        "errnos": {
            "description": "negative errno numbers, 0 for good: a bin of little-endian i32, or an array",
            "anyOf": [_ref("bin"), {"type": "array", "items": {"type": "integer", "maximum": 0}}],
        },
        "error": {
            "description": 'errno, "ENAME: text", details; with nvim-errors 0 and the text only',
            "anyOf": [
                _tuple({"type": "integer", "minimum": 1}, {"type": "string"}, {"type": "object"}),
                _tuple({"const": 0}, {"type": "string"}),
            ],
        },
    }
    for method in METHODS.values():
        definitions |= _method(method)
    requests = [_tuple({"const": 0}, _U32, {"const": name}, _tuple(_ref(f"{name}.params"))) for name in METHODS]
    results = [_ref(f"{name}.result") for name in METHODS]
    notifications = [
        _tuple({"const": 2}, {"const": topic}, _tuple(_fields(fields))) for topic, fields in TOPICS.items()
    ]
    definitions |= {
        "request": {"anyOf": requests},
        "response": {
            "anyOf": [
                _tuple({"const": 1}, _U32, {"type": "null"}, {"anyOf": results}),
                _tuple({"const": 1}, _U32, _ref("error"), {"type": "null"}),
            ]
        },
        "notification": {"anyOf": notifications},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "privcmdd protocol 1",
        "description": "Messages in the notation of vectors.json; made from the broker's table of methods.",
        "anyOf": [_ref("request"), _ref("response"), _ref("notification")],
        "$defs": definitions,
    }
