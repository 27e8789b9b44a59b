# SPDX-License-Identifier: Apache-2.0
"""Make the tables of the pages from the broker's own tables, the drawing of its rooms, and the configuration to copy.

Usage: tables.py [--check]

A page has what is made between ``<!-- made: NAME -->`` and ``<!-- end -->``; what is around them is written by hand.
With --check nothing is written: exit status 1, and the names of the files that are stale.
"""

import argparse
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import rooms

from privcmd.run import _explain as explain
from privcmdd.model.findings import FindingKind
from privcmdd.server.keys import KEYS, Key, as_toml, render
from privcmdd.service.hypercalls import createdomain, dm_op, domctl
from privcmdd.service.hypercalls.hypercall import TABLE
from privcmdd.service.hypercalls.names import NAMES, named

ROOT: Final = Path(__file__).resolve().parent.parent
OWN_NAME: Final = re.compile(r"^(``\w+``(?: and |, )?)+(: )?")
PART: Final = re.compile(r"(<!-- made: ([^>]+) -->\n\n).*?(<!-- end -->\n)", re.DOTALL)
LINK: Final = re.compile(r"(?<!!)\[((?:[^\[\]]|\[\[\w+\]\])+)\]\([^()]*\)")
COMMENT: Final = re.compile(r"<!--.*?-->\n+", re.DOTALL)


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Write a table in Markdown."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def takes(key: Key) -> str:
    """Say what a configuration key may be."""
    if key.choices:
        return " or ".join(f"`{choice}`" for choice in key.choices)
    if isinstance(key.default, bool):
        return "`true` or `false`"
    if isinstance(key.default, str):
        return "an octal mode" if key.unit == "octal" else "a path"
    if key.high >= 2**53 - 1:
        return f"{key.low:,} or more {key.unit}"
    return f"{key.low:,} to {key.high:,} {key.unit}"


def keys(name: str) -> str:
    """Make the table of the configuration keys of one TOML table."""
    rows = (
        (f"`{key.name}`", f"`{as_toml(key.default)}`", takes(key), "yes" if key.live else "restart", key.reason)
        for key in KEYS
        if key.table == name
    )
    return table(("key", "default", "takes", "SIGHUP", "what for"), rows)


def findings() -> str:
    """Make the table of all kinds of findings."""
    return table(("id", "in one line"), ((f"[`{kind}`](#{kind})", kind.summary) for kind in FindingKind))


def answered() -> dict[str, Mapping[int, Any]]:
    """Find the tables by which hypercalls do operations: number -> a function, or a structure and a function."""
    of_domctl = {domctl.CREATEDOMAIN: createdomain.create, domctl.GETDOMAININFO: domctl.next_domain}
    rooms = {NAMES["hypercall"][number]: sys.modules[handler.__module__] for number, handler in TABLE.items()}
    tables = {name: dict(room.COMMANDS) for name, room in rooms.items() if hasattr(room, "COMMANDS")}
    tables["domctl"] |= of_domctl | domctl.SINCE_4_20
    return {**tables, "dm_op": dm_op.REQUESTS}


def hypercalls() -> str:
    """Make the table of what is answered: each operation by Xen's name, and what the function that does it promises."""
    rows = []
    numbers = {name: number for number, name in NAMES["hypercall"].items()}
    for hypercall, operations in answered().items():
        for at, (op, found) in enumerate(sorted(operations.items())):
            do = found[1] if isinstance(found, tuple) else found
            promise = (inspect.getdoc(do) or "").split("\n", maxsplit=1)[0]
            about = OWN_NAME.sub("", promise).rstrip(".").replace("``", "`")
            about = about if promise.startswith("``") else about[:1].lower() + about[1:]
            name = named(hypercall, op).removeprefix(f"{hypercall} ")
            rows.append(
                ("" if at else f"`{hypercall}` ({numbers[hypercall]})", f"`{name}` ({op})", about or "as Xen does")
            )
    return table(("hypercall", "operation", "here"), rows)


def public(module: str) -> str:
    """Make the table of what a module of the client library exports, with the first sentence of what each promises."""
    home = importlib.import_module(module)
    rows = []
    for name in home.__all__:
        value = getattr(home, name)
        if callable(value):
            rows.append(
                (f"`{name}`", (inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " ").replace("``", "`"))
            )
    return table(("name", "what it is"), rows)


PARTS: Final[Mapping[str, Callable[[], str]]] = {
    "keys": lambda: keys(""),
    **{f"keys.{name}": lambda name=name: keys(name) for name in dict.fromkeys(key.table for key in KEYS) if name},  # type: ignore[misc]
    "findings": findings,
    "hypercalls": hypercalls,
    "rooms": rooms.drawing,
    **{f"api {name}": lambda name=name: public(name) for name in ("privcmd", "privcmd.trio", "privcmd.guest")},  # type: ignore[misc]
}
"""What can stand in a page, by its name."""


def filled(text: str) -> str:
    """Fill a page's tables in.

    Raises:
        KeyError: There is no table of a name that the page asks for.
    """
    return PART.sub(lambda part: f"{part[1]}{PARTS[part[2]]()}\n{part[3]}", text)


def plain(text: str) -> str:
    """Make of a page what can be read where its links lead nowhere."""
    return LINK.sub(r"\1", COMMENT.sub("", text))


def files() -> dict[Path, str]:
    """Make every file that has something made in it."""
    pages = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").rglob("*.md"))}
    made = {path: filled(text) for path, text in pages.items() if PART.search(text)}
    carried = {
        explain.PAGES / path.name.replace(".md", ".txt"): plain(filled(text))
        for path, text in pages.items()
        if path.stem in (*explain.BY_SECTION, *explain.WHOLE)
    }
    return {**made, **carried, ROOT / "config" / "privcmdd.toml": render()}


def main() -> int:
    """Write or check the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a file is stale")
    check = parser.parse_args().check
    stale = [
        (path, text) for path, text in files().items() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path, text in stale:
        print(f"{path.relative_to(ROOT)}: {'stale, run docs/tables.py (make generate)' if check else 'written'}")
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
