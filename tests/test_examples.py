# SPDX-License-Identifier: Apache-2.0
"""The examples of the documentation do what the pages say."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import shutil
import tempfile
from pathlib import Path

import pytest

from privcmd import PrivateBroker, PrivcmdError
from privcmd import _tools as tools
from privcmd.run import _qemu as qemu
from privcmd.run import _xenstore as xenstore
from privcmd.run._program import PRELOAD_NAME
from privcmd.run._reach import with_sbin
from support.transcript import (
    ELSEWHERE_MARK,
    MARK,
    QEMU_MARK,
    TOOL_MARK,
    TOOLS,
    XEN_MARK,
    Shell,
    alike,
    files_and_steps,
)

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def with_mark(mark: str) -> list[Path]:
    """Pages with blocks of code that have a mark, which a page may also speak of in its prose."""
    return [page for page in PAGES if mark in re.sub(r"`[^`\n]*`", "", page.read_text(encoding="utf-8"))]


def name_of(page: Path | str) -> str:
    return page if isinstance(page, str) else str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", with_mark(MARK), ids=name_of)
def test_examples_print_what_the_page_says(page: Path) -> None:
    """Commands and programs of a page, played in order in one shell beside a broker of its own."""
    play(page, MARK)


@pytest.mark.parametrize(
    "page",
    [page for page in with_mark(XEN_MARK) if files_and_steps(page.read_text(encoding="utf-8"), XEN_MARK)[1]],
    ids=name_of,
)
def test_examples_over_xens_libraries_print_what_the_page_says(page: Path) -> None:
    """The same for unmodified programs; they find our libraries where a checkout has them."""
    if shutil.which("cc") is None or not Path("/usr/include/xenforeignmemory.h").exists():
        pytest.skip(f"NOT TESTED: {name_of(page)}; cc or libxen-dev is missing (apt-get install gcc libxen-dev)")
    if not (ROOT / "clients/c/build" / PRELOAD_NAME).exists():
        pytest.skip(f"NOT TESTED: {name_of(page)}; the preload library is not built (make shim)")
    whole = ELSEWHERE_MARK in page.read_text(encoding="utf-8")  # what its broker has comes from the blocks before
    play(page, *([MARK] if whole else []), XEN_MARK)


@pytest.mark.parametrize("page", with_mark(QEMU_MARK), ids=name_of)
def test_examples_with_a_device_model_print_what_the_page_says(page: Path) -> None:
    """The same with QEMU's Xen device model and xenstored."""
    try:
        qemu.find()
    except PrivcmdError as missing:
        pytest.skip(f"NOT TESTED: {name_of(page)}; {missing}")
    if xenstore.find() is None or not (ROOT / "clients/c/build" / PRELOAD_NAME).exists():
        pytest.skip(f"NOT TESTED: {name_of(page)}; xenstored or the preload library is missing (make packages shim)")
    play(page, QEMU_MARK)


@pytest.mark.parametrize(
    ("page", "tool"), [(page, tool) for tool in TOOLS for page in with_mark(TOOL_MARK.format(tool))], ids=name_of
)
def test_examples_with_a_tool_print_what_the_page_says(page: Path, tool: str) -> None:
    """Runners of tests, debuggers, Xen's own commands: each is played by itself, after what all of them need."""
    if not is_there(tool):
        pytest.skip(f"NOT TESTED: {tool} on {name_of(page)}; missing: {tool} (apt-get install {TOOLS[tool]})")
    if not Path("/usr/include/xenforeignmemory.h").exists() or not (ROOT / "clients/c/build" / PRELOAD_NAME).exists():
        pytest.skip(f"NOT TESTED: {tool} on {name_of(page)}; missing: libxen-dev or the preload library (make shim)")
    play(page, XEN_MARK, TOOL_MARK.format(tool))


def is_there(tool: str) -> bool:
    """Whether the machine has a tool: a release of Xen's libraries, a module, or a program."""
    if tool.startswith("xen-"):
        return tools.release() == tool.removeprefix("xen-")
    return importlib.util.find_spec(tool) is not None or shutil.which(tool, path=with_sbin()) is not None


def play(page: Path, *marks: str) -> None:
    """Play the blocks of a page that have one of the marks."""
    files, steps = files_and_steps(page.read_text(encoding="utf-8"), *marks)
    assert steps
    starts_its_own = any(step.elsewhere for step in steps)
    given = contextlib.nullcontext() if starts_its_own else PrivateBroker(args=("--paranoid",))
    with (
        tempfile.TemporaryDirectory() as directory,
        given as broker,
        Shell(Path(directory), broker.path if broker else None) as shell,
    ):
        (Path(directory) / "clients").symlink_to(ROOT / "clients")
        for folder in {Path(word).parent for step in steps for word in step.command.split() if word[:6] == "tests/"}:
            (Path(directory) / folder).parent.mkdir(exist_ok=True)
            (Path(directory) / folder).symlink_to(ROOT / folder)
        for name, text in files.items():
            (Path(directory) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(directory) / name).write_text(text, encoding="utf-8")
        for step in steps:
            if step.elsewhere:
                shell.start(step)
                continue
            printed = [alike(line) for line in shell.play(step)]

            assert printed == [alike(line) for line in step.expected], step.command
