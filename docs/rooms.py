# SPDX-License-Identifier: Apache-2.0
"""Draw the rooms of the broker: which there are, in which order they stand, and how many imports go between them.

The order is that of the import contracts in ``pyproject.toml``. A package is a room; so are the single files of a floor
that stand next to each other in its contract.
"""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grimp

ROOT: Final = Path(__file__).resolve().parent.parent
BROKER: Final = "privcmdd"
NO_FLOORS: Final = {"__main__", "(_version)"}
"""What stands above all floors and only calls ``cli``, and what a build writes below them."""
CALLED: Final = {
    "service.broker": "dispatch",
    "service.world": "state",
    "wire.connection": "messages",
    "wire.params": "encoding",
    "model.invariants": "laws",
    "model.errors": "values",
}
"""What a room of single files is called, by one file that is in it."""
CELL: Final = 4
"""Characters to a count: three digits and a space."""


@dataclass(slots=True)
class Room:
    """A room, and the modules in it."""

    floor: str
    name: str = ""
    modules: set[str] = field(default_factory=set)


def contracts() -> dict[str, list[str]]:
    """Read what each package has in it, from top to bottom."""
    settings: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    rules = settings["tool"]["importlinter"]["contracts"]
    return {
        package: [name for layer in rule["layers"] for name in layer.split(" | ")]
        for rule in rules
        if rule.get("exhaustive")
        for package in rule["containers"]
    }


def rooms_of(floor: str, names: list[str], graph: grimp.ImportGraph) -> Iterator[Room]:
    """Find the rooms of a floor, from top to bottom."""
    files = Room(floor)
    for name in names:
        module = f"{BROKER}.{floor}.{name}"
        inside = graph.find_descendants(module)
        if not inside:
            files.modules.add(module)
            files.name = CALLED.get(f"{floor}.{name}", files.name)
            continue
        if files.modules:
            yield files
            files = Room(floor)
        yield Room(floor, name, {module, *inside})
    if files.modules:
        yield files


def drawn(rooms: list[Room], counts: list[list[int]]) -> Iterator[str]:
    """Draw a line for each room: a count stands above the room that is imported, in the line of the one that imports.

    An arrow runs down from the counts and ends at the room.
    """
    yield "floor    room      files   imports"
    for at, room in enumerate(rooms):
        used = any(line[at] for line in counts)
        last = max((to for to, n in enumerate(counts[at]) if n), default=0)
        line = "◀" + "─" * (CELL * (at + 1) - 1) + "┘" if used else " " * (CELL * (at + 1) + 1)
        for to in range(at + 1, len(rooms)):
            passing = any(counts[above][to] for above in range(at))
            line += str(counts[at][to] or ("│" if passing else "·" if to < last else "")).rjust(CELL)
        floor = room.floor if at == 0 or rooms[at - 1].floor != room.floor else ""
        yield f"{floor:9}{room.name:11}{len(room.modules):4} {line}".rstrip()


def drawing() -> str:
    """Draw the broker's floors and rooms, with how many imports of a module by a module go from room to room."""
    graph = grimp.build_graph(BROKER, cache_dir=None)
    listed = contracts()
    rooms = [
        room
        for floor in listed[BROKER]
        if floor not in NO_FLOORS
        for room in rooms_of(floor, listed[f"{BROKER}.{floor}"], graph)
    ]
    for room in rooms:
        room.name = room.name or room.floor
    imports = [
        [name for module in room.modules for name in graph.find_modules_directly_imported_by(module)] for room in rooms
    ]
    counts = [
        [
            0 if here == there else sum(name in rooms[there].modules for name in imports[here])
            for there in range(len(rooms))
        ]
        for here in range(len(rooms))
    ]
    return "```text\n" + "\n".join(drawn(rooms, counts)) + "\n```\n"
