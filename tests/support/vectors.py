# SPDX-License-Identifier: Apache-2.0
"""The golden vectors, the schema, and a check of values against the schema."""

import json
import re
from pathlib import Path
from typing import Any

PROTOCOL = Path(__file__).parents[2] / "clients" / "protocol"


VECTORS: list[dict[str, Any]] = json.loads((PROTOCOL / "vectors.json").read_text(encoding="utf-8"))["vectors"]


SCHEMA: dict[str, Any] = json.loads((PROTOCOL / "schema.json").read_text(encoding="utf-8"))


def complaint(value: Any, schema: dict[str, Any]) -> str | None:
    """Why a value does not fit, for the part of JSON Schema that we write; None when it does."""
    if "$ref" in schema:
        return complaint(value, SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")])
    if "anyOf" in schema and all(complaint(value, option) for option in schema["anyOf"]):
        return f"{value!r} fits none of {len(schema['anyOf'])} forms"
    if "const" in schema and (value != schema["const"] or type(value) is not type(schema["const"])):
        return f"{value!r} is not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{value!r} is none of {schema['enum']}"
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool, "null": type(None)}
    if "type" in schema and type(value) is not kinds[schema["type"]]:
        return f"{value!r} is no {schema['type']}"
    if isinstance(value, int) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        return f"{value} is out of range"
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        return f"{value!r} does not match"
    if isinstance(value, list):
        items = schema.get("prefixItems", [schema.get("items", {})] * len(value))
        if len(items) != len(value):
            return f"{len(value)} items, expected {len(items)}"
        return next((why for item, kind in zip(value, items, strict=True) if (why := complaint(item, kind))), None)
    if isinstance(value, dict):
        known = schema.get("properties", {})
        if missing := set(schema.get("required", ())) - set(value):
            return f"lacks {missing}"
        if not schema.get("additionalProperties", True) and (unknown := set(value) - set(known)):
            return f"has {unknown}"
        return next((why for k, item in value.items() if k in known and (why := complaint(item, known[k]))), None)
    return None
