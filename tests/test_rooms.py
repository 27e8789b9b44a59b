# SPDX-License-Identifier: Apache-2.0
"""The rooms of the house: where methods and tests are, which imports are allowed."""

from __future__ import annotations

import ast
import importlib
import tomllib
from fnmatch import fnmatch
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

from privcmdd.service import methods
from privcmdd.wire import table
from privcmdd.wire.methods import METHODS

ROOT = Path(__file__).resolve().parent.parent
TESTS = Path(__file__).resolve().parent
BROKER = ROOT / "broker" / "privcmdd"
CLIENT = ROOT / "clients" / "python" / "privcmd"
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


COVERED_BY = {
    "__init__": "clients/python/test_imports.py",  # the version, and no second copy of the package
    "__main__": "server/test_supervise.py",
    "cli/*": "cli/test_ctl.py",
    "cli/broker": "server/test_config.py",
    "cli/run": "programs/test_run.py",
    "model/errors": "model/test_error_paths.py",
    "model/files": "model/test_error_paths.py",
    "model/findings": "service/methods/test_findings.py",
    "model/grants/copy": "service/methods/test_gntdev.py",
    "model/grants/entry": "model/grants/test_in_use.py",
    "model/machine/changes": "service/test_records.py",
    "model/file_keys": "service/test_backing.py",
    "model/machine/domain": "model/machine/test_lifecycle.py",
    "model/machine/gntalloc": "service/methods/test_gntalloc.py",
    "model/machine/interrupts": "service/hypercalls/test_dm_op.py",
    "model/machine/ioreq": "service/hypercalls/test_dm_op.py",
    "model/machine/log_dirty": "service/methods/test_gntdev.py",
    "model/machine/machine": "model/machine/test_lifecycle.py",
    "model/machine/p2m": "model/machine/test_foreign.py",
    "model/machine/page_types": "service/hypercalls/test_mmuext_op.py",
    "model/machine/records": "model/test_host.py",
    "model/machine/resources": "service/methods/test_resources.py",
    "model/machine/restore": "service/test_keeper.py",
    "model/mm/access": "model/privcmd/test_page_entries.py",
    "model/mm/granted": "model/grants/test_in_use.py",
    "model/mm/space": "model/mm/test_laws_ranges.py",
    "model/mm/syscalls": "model/mm/test_laws_ranges.py",
    "model/mm/uobject": "model/mm/test_vm_map.py",
    "model/privcmd/detect": "service/methods/test_findings.py",
    "model/privcmd/gntdev": "service/methods/test_gntdev.py",
    "model/privcmd/personality": "model/privcmd/test_personalities.py",
    "model/ranges": "service/hypercalls/test_dm_op.py",
    "server/event_files": "service/methods/test_evtchn.py",
    "server/host_files": "service/test_backing.py",
    "server/keys": "server/test_config.py",
    "server/signals": "server/test_supervise.py",
    "server/state_files": "server/test_state_dir.py",
    "service/broker": "service/test_session.py",
    "service/detect": "service/methods/test_findings.py",
    "service/dispatch": "service/test_privileges.py",
    "service/jobs": "service/methods/test_jobs.py",
    "service/leases": "service/methods/test_jobs.py",
    "service/domain_files": "service/test_effects.py",
    "service/findings": "service/methods/test_findings.py",
    "server/waits": "server/test_failing_calls.py",
    "service/hypercalls/context": "service/hypercalls/test_hypercall.py",
    "service/hypercalls/cpu_policy": "service/hypercalls/test_hvm_context.py",
    "service/hypercalls/dm_*": "service/hypercalls/test_dm_op.py",
    "service/hypercalls/grant_table_op": "service/methods/test_gntdev.py",
    "service/hypercalls/info": "service/hypercalls/test_domctl.py",
    "service/hypercalls/sched_op": "service/hypercalls/test_hvm_context.py",
    "service/holds": "service/methods/test_conversation.py",
    "service/incident": "server/test_report.py",
    "service/injection": "service/methods/test_faults.py",
    "service/keeping": "service/test_keeper.py",
    "service/machine_files": "model/test_host.py",
    "service/methods/__init__": "test_rooms.py",
    "service/methods/domains": "service/test_effects.py",
    "service/methods/guests": "service/hypercalls/test_dm_op.py",
    "service/methods/spaces": "service/test_session.py",
    "service/methods/stats": "service/test_paranoid.py",
    "service/packing": "service/test_records.py",
    "service/processes": "service/test_session.py",
    "service/restoring": "service/test_keeper.py",
    "service/reply": "server/test_incidents.py",
    "service/settings": "server/test_config.py",
    "service/steps": "service/test_turnstile.py",
    "service/vm_event": "service/hypercalls/test_paging.py",
    "service/world": "service/hypercalls/test_names.py",  # its counters; each test of the service uses the rest
    "wire/limits": "wire/test_codec.py",
    "wire/params": "wire/test_methods.py",
    "wire/schema": "wire/test_vectors.py",
    "wire/signature": "wire/test_methods.py",
    "wire/table/*": "wire/test_methods.py",
}
"""Module, or pattern of modules -> the file that tests it; for modules without ``tests/<room>/test_<module>.py``."""


def modules() -> set[str]:
    """The broker's modules, by path. An ``__init__`` that has only a docstring is none, nor what the build writes."""
    written = set(BROKER.rglob("*.py")) - {BROKER / "_version.py"}
    files = {path for path in written if len(ast.parse(path.read_text(encoding="utf-8")).body) > 1}
    return {path.relative_to(BROKER).with_suffix("").as_posix() for path in files}


def test_each_module_has_a_test_file() -> None:
    """Law: ``tests/<room>/test_<module>.py`` tests a module, or COVERED_BY names the file that does."""
    alone = {name for name in modules() if not own_tests(name).exists()}

    assert {name for name in alone if not any(fnmatch(name, pattern) for pattern in COVERED_BY)} == set()


def test_the_table_of_test_files_is_up_to_date() -> None:
    """Law: each file that COVERED_BY names exists, and each line of it is needed."""
    alone = {name for name in modules() if not own_tests(name).exists()}

    assert {file for file in COVERED_BY.values() if not (TESTS / file).is_file()} == set()
    assert {pattern for pattern in COVERED_BY if not any(fnmatch(name, pattern) for name in alone)} == set()


def own_tests(module: str) -> Path:
    """The test file that has the name of a module."""
    path = Path(module)
    return TESTS / path.parent / f"test_{path.name}.py"


def test_no_test_file_imports_another() -> None:
    """Law: what several test files use stands in tests/support."""
    found = [
        f"{path.relative_to(TESTS)}: {name}"
        for path in TESTS.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in imported(node)
        if name.startswith("test_") or ".test_" in name
    ]

    assert found == []


def imported(node: ast.AST) -> list[str]:
    """The dotted names that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


PAIRS = {
    "Batch": "what MMAPBATCH did, and its answer",
    "Connection": "a connection as the broker reads it, and as a client has it",
    "Finding": "a finding, and the answer that describes it",
    "Host": "what a host is, and one that is up",
    "Interrupts": "a domain's interrupts, and the answer that describes them",
    "Notification": "a notification as the broker sends it, and as a client gets it",
    "IoreqServer": "an ioreq server, and the answer that describes it",
}


def test_a_name_of_a_class_means_one_thing() -> None:
    """No two classes have one name, except the same thing on two floors: with the broker, and with its client."""
    where: dict[str, list[str]] = {}
    for package in (BROKER, CLIENT):
        for file in package.rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ClassDef):
                    where.setdefault(node.name, []).append(file.relative_to(ROOT).parts[0])

    assert {name for name, floors in where.items() if len(floors) > 1} == set(PAIRS)
