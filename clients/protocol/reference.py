# SPDX-License-Identifier: Apache-2.0
"""The protocol's reference page, in Markdown: what holds for all methods is told here, the rest is the table's."""

import json
from pathlib import Path
from typing import Any

from vectors import EXAMPLES, encode, request_of, response_of

from privcmdd.wire import limits
from privcmdd.wire.methods import COMMON_ERRORS, FEATURES, METHODS, TOPICS, Field, Method, Param
from privcmdd.wire.params import TYPES
from privcmdd.wire.signature import RESULT_TYPES

_TEMPLATE = Path(__file__).parent / "protocol.template.md"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def _default(param: Param) -> str:
    if param.required:
        return "required"
    value = list(param.default) if isinstance(param.default, tuple) else param.default
    return "-" if value is None else f"`{json.dumps(value)}`"


def _param_type(param: Param) -> str:
    if param.choices:
        return " or ".join(f'`"{choice}"`' for choice in param.choices)
    most = f", at most {param.most}" if param.most else ""
    return f"{param.type}{most}"


def _unit(unit: str) -> str:
    return f" ({unit})" if unit else ""


def _fields(fields: tuple[Field, ...], prefix: str = "") -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for field in fields:
        kind = field.type + (" or nil" if field.nullable else "") + (", may be missing" if field.optional else "")
        rows.append((f"`{prefix}{field.name}`", kind, field.doc + _unit(field.unit)))
        rows += _fields(field.fields, f"{prefix}{field.name}[]." if field.type == "maps" else f"{prefix}{field.name}.")
    return rows


def _diagnostic(value: Any) -> str:
    """Write a value much as JSON, bins as h'hex'."""
    if isinstance(value, dict):
        if list(value) == ["$bin"]:
            return f"h'{value['$bin']}'"
        return "{" + ", ".join(f"{json.dumps(key)}: {_diagnostic(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_diagnostic(item) for item in value) + "]"
    return "nil" if value is None else json.dumps(value)


def _hex(data: bytes) -> str:
    rows = [data[at : at + 24].hex(" ", -4) for at in range(0, len(data), 24)]
    return "\n".join(f"   {row}" for row in rows)


def _example(method: Method, msgid: int) -> str:
    blocks = []
    for arrow, value in (("->", request_of(method.name, msgid)), ("<-", response_of(method.name, msgid))):
        blocks.append(f"{arrow} {_diagnostic(value)}\n{_hex(encode(value))}")
    note = EXAMPLES[method.name].get("note")
    return ("" if note is None else note + "\n\n") + "```text\n" + "\n".join(blocks) + "\n```\n"


_PRIVILEGES = {
    "any": "Any caller.",
    "map": "Needs a right on the domain: read, or write where something becomes writable.",
    "admin": "Needs the administration right on the domain.",
}


def _section(method: Method, msgid: int) -> str:
    parts = [
        f"### {method.name}\n",
        f"{method.summary} {_PRIVILEGES[method.privilege]} Since protocol {method.since}.\n",
    ]
    if method.doc:
        parts.append(method.doc + "\n")
    rows: list[tuple[str, ...]] = [
        (f"`{param.name}`", _param_type(param), _default(param), param.doc + _unit(param.unit))
        for param in method.params
    ]
    parts.append(_table(("parameter", "type", "default", "meaning"), rows) or "No parameters.\n")
    answer = "The answer's map is open.\n" if method.open_result else "The answer is an empty map.\n"
    parts.append(_table(("result", "type", "meaning"), _fields(method.result)) or answer)
    if method.fds_out:
        parts.append(f"Descriptors with the answer: {method.fds_out}.\n")
    errors: list[tuple[str, ...]] = [(name, when) for name, when in method.errors.items()]
    parts += [table] if (table := _table(("error", "when"), errors)) else []
    parts.append(_example(method, msgid))
    return "\n".join(parts)


def page() -> str:
    """Render the page."""
    bounds: list[tuple[str, ...]] = [
        ("containers inside each other", f"{limits.DEPTH}"),
        ("values in one message, keys included", f"{limits.NODES:,}"),
        ("bytes of one string", f"{limits.STR_BYTES:,}"),
        ("bytes of one bin", f"{limits.BIN_BYTES:,}"),
        ("bytes of one message", f"{limits.MESSAGE_BYTES:,}"),
    ]
    topics = "\n".join(
        f"**{name}**\n\n" + _table(("field", "type", "meaning"), _fields(fields)) for name, fields in TOPICS.items()
    )
    parts = {
        "array_frames": f"{limits.ARRAY_FRAMES:,}",
        "types": _table(("type", "what it takes"), [(f"`{name}`", text) for name, text in TYPES.items()]),
        "result_types": _table(("type", "what it holds"), [(f"`{name}`", text) for name, text in RESULT_TYPES.items()]),
        "bounds": _table(("bound", "most"), bounds),
        "common": _table(("error", "when"), list(COMMON_ERRORS.items())),
        "features": _table(("feature", "what it turns on"), [(f"`{name}`", text) for name, text in FEATURES.items()]),
        "topics": topics,
        "contents": _table(
            ("method", "what it does"),
            [(f"[`{name}`](#{name.replace('.', '')})", method.summary) for name, method in METHODS.items()],
        ),
    }
    preamble = _TEMPLATE.read_text(encoding="utf-8")
    for name, text in parts.items():
        preamble = preamble.replace(f"<<{name}>>", text)
    sections = [_section(method, msgid) for msgid, method in enumerate(METHODS.values(), 1)]
    text = "\n".join([preamble, *sections])
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text
