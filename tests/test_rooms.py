# SPDX-License-Identifier: Apache-2.0
"""The rooms of the house: each method stands where its row stands, each room has a contract, no circle of imports."""

from __future__ import annotations

import importlib
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

from privcmdd.service import methods
from privcmdd.wire import table
from privcmdd.wire.methods import METHODS

ROOT = Path(__file__).resolve().parent.parent
ROWS_ONLY = {"common"}  # what several files of the table share


def files_of(package: str, path: list[str]) -> set[str]:
    """The names of a package's modules."""
    assert len(path) == 1, package
    return {file.stem for file in Path(path[0]).glob("*.py")} - {"__init__"}


ROOMS = sorted(files_of("table", [*table.__path__]) - ROWS_ONLY)


def test_methods_have_the_files_of_the_table() -> None:
    """Who has read a file of the table knows where its methods are done, and there is no other room."""
    assert sorted(files_of("methods", [*methods.__path__])) == ROOMS


@pytest.mark.parametrize("room", ROOMS)
def test_a_method_is_done_in_the_file_that_bears_the_name_of_its_row(room: str) -> None:
    """The handlers of a room are those of the rows in the table's file of that name, all of them and no others."""
    rows = importlib.import_module(f"privcmdd.wire.table.{room}").ROWS
    handlers = importlib.import_module(f"privcmdd.service.methods.{room}").HANDLERS

    assert set(handlers) == {row.name for row in rows}
    assert all(METHODS[name].name == name for name in handlers)


def test_every_handler_is_behind_one_of_the_two_doors() -> None:
    """What needs no machine is known at once, all else through the one lazy door; no method is missing."""
    assert set(methods.AT_ONCE) | set(methods.machinery().handlers) == set(METHODS)
    assert not set(methods.AT_ONCE) & set(methods.machinery().handlers)


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """What imports what, imports for typing included."""
    return grimp.build_graph("privcmdd", "privcmd", cache_dir=None)


def test_every_room_has_a_contract(graph: grimp.ImportGraph) -> None:
    """Each package has a contract of layers that lists all that is in it, so that no import in it runs upwards."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    listed = [room for each in contracts if each.get("exhaustive") for room in each["containers"]]

    assert sorted(listed) == sorted(module for module in graph.modules if graph.find_children(module))


def test_no_import_runs_in_a_circle(graph: grimp.ImportGraph) -> None:
    """The modules of the broker and of the client library can be put in an order."""
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}

    assert len(imports) > 150
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as circle:
        pytest.fail(f"these import each other: {' -> '.join(circle.args[1])}")


@pytest.mark.parametrize("room", ["cli", "clients", "model", "server", "service", "wire"])
def test_helpers_of_tests_stand_in_support(room: str) -> None:
    """A room of tests holds tests and their fixtures; what helps them stands in tests/support, and nowhere else."""
    files = {path.name for path in (Path(__file__).parent / room).rglob("*.py")}

    assert files
    assert {name for name in files if not name.startswith("test_")} <= {"conftest.py"}
