# SPDX-License-Identifier: Apache-2.0
"""The examples of the documentation do what the pages say."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

import pytest

from privcmd import PrivateBroker, PrivcmdError
from privcmd.run import qemu, xenstore
from privcmd.run.program import PRELOAD_NAME
from support.transcript import MARK, QEMU_MARK, XEN_MARK, Shell, alike, files_and_steps

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def with_mark(mark: str) -> list[Path]:
    """Pages with blocks of code that have a mark, which a page may also speak of in its prose."""
    return [page for page in PAGES if mark in re.sub(r"`[^`\n]*`", "", page.read_text(encoding="utf-8"))]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", with_mark(MARK), ids=name_of)
def test_examples_print_what_the_page_says(page: Path) -> None:
    """Commands and programs of a page, played in order in one shell beside a broker of its own."""
    play(page, MARK)


@pytest.mark.parametrize("page", with_mark(XEN_MARK), ids=name_of)
def test_examples_over_xens_libraries_print_what_the_page_says(page: Path) -> None:
    """The same for unmodified programs; they find our libraries where a checkout has them."""
    if shutil.which("cc") is None or not Path("/usr/include/xenforeignmemory.h").exists():
        pytest.skip(f"NOT TESTED: {name_of(page)}; cc or libxen-dev is missing (apt-get install gcc libxen-dev)")
    if not (ROOT / "clients/c/build" / PRELOAD_NAME).exists():
        pytest.skip(f"NOT TESTED: {name_of(page)}; the preload library is not built (make shim)")
    play(page, XEN_MARK)


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


def play(page: Path, mark: str) -> None:
    """Play the blocks of a page that have the mark."""
    files, steps = files_and_steps(page.read_text(encoding="utf-8"), mark)
    assert steps
    with (
        tempfile.TemporaryDirectory() as directory,
        PrivateBroker(args=("--paranoid",)) as broker,
        Shell(Path(directory), broker.path) as shell,
    ):
        (Path(directory) / "clients").symlink_to(ROOT / "clients")
        for name, text in files.items():
            (Path(directory) / name).write_text(text, encoding="utf-8")
        for step in steps:
            printed = [alike(line) for line in shell.play(step)]

            assert printed == [alike(line) for line in step.expected], step.command
