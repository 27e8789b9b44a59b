# SPDX-License-Identifier: Apache-2.0
"""The forms of output: aligned tables and trees for people, one JSON document for each command for programs."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from privcmdd.server.logs import coloured

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_BOLD, _DIM, _RED, _END = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[0m"
_KIB = 1024


def as_json(value: Any) -> str:
    """A value as the one document that ``--json`` prints."""
    return json.dumps(value, indent=2, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return list(value)


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, left: Iterable[str] = ()) -> str:
    """A table of rows under headings. The columns named in ``left`` are aligned to the left, others to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(headings), *cells]) for i in range(len(headings))]
    to_left = [heading in set(left) for heading in headings]
    bold, end = (_BOLD, _END) if coloured(sys.stdout) else ("", "")

    def line(row: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if is_left else cell.rjust(width)
            for cell, width, is_left in zip(row, widths, to_left, strict=True)
        ]
        return "  ".join(padded).rstrip()

    return "\n".join([f"{bold}{line(headings)}{end}", *map(line, cells)])


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """Names and values, one pair on each line."""
    kept = [(name, str(value)) for name, value in pairs]
    width = max((len(name) for name, _ in kept), default=0)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in kept)


def tree(values: Mapping[str, Any], indent: int = 0) -> str:
    """A tree of counters: branches as headings, leaves aligned within their branch."""
    bold, end = (_BOLD, _END) if coloured(sys.stdout) else ("", "")
    pad = "  " * indent
    leaves = [(str(name), value) for name, value in values.items() if not isinstance(value, dict)]
    width = max((len(name) for name, _ in leaves), default=0)
    shown = [str(_leaf(value)) for _, value in leaves]
    value_width = max((len(text) for text in shown), default=0)
    lines = [
        f"{pad}{name.ljust(width)}  {text.rjust(value_width) if _is_number(value) else text}"
        for (name, value), text in zip(leaves, shown, strict=True)
    ]
    for name, value in values.items():
        if isinstance(value, dict):
            lines.append(f"{pad}{bold}{name}{end}" + ("" if value else "  none"))
            if value:
                lines.append(tree(value, indent + 1))
    return "\n".join(lines)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _leaf(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        return ", ".join(str(_leaf(item)) for item in value) or "none"
    return str(value)


def size(size_bytes: int) -> str:
    """A number of bytes for people: "64 MiB", "1.5 GiB"."""
    amount = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if amount < _KIB:
            return f"{amount:g} {unit}" if amount == int(amount) else f"{amount:.1f} {unit}"
        amount /= _KIB
    return f"{amount:g} GiB" if amount == int(amount) else f"{amount:.1f} GiB"


def since(age_s: int) -> str:
    """When something began that is so old, by the clock of this place: "2026-11-30 19:44:06"."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() - age_s))


def complain(text: str) -> None:
    """Write a sentence to standard error."""
    red, end = (_RED, _END) if coloured(sys.stderr) else ("", "")
    with contextlib.suppress(OSError):  # standard error cannot be written: there is no other place
        print(f"privcmdctl: {red}{text}{end}", file=sys.stderr)


def complain_as_json(number: int, name: str, text: str, details: Mapping[str, Any] | None = None) -> None:
    """Write an error to standard error, under ``--json``: one line, a document of its own."""
    error = {"errno": number, "name": name, "text": text, "details": details or {}}
    with contextlib.suppress(OSError):
        print(json.dumps({"error": error}, default=_plain), file=sys.stderr)
