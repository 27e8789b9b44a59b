# SPDX-License-Identifier: Apache-2.0
"""The house itself: what the tree promises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import descriptors

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {".py": "#", ".c": "//", ".h": "//", ".mjs": "//", ".js": "//", ".pml": "//"}


def tracked() -> list[Path]:
    """The files that git knows."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.splitlines()]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout: git cannot list the files")
def test_every_source_file_names_its_licence() -> None:
    """Each source file begins with its SPDX line."""
    without = [
        str(path.relative_to(ROOT))
        for path in tracked()
        if path.suffix in SOURCES
        and path.exists()
        and "SPDX-License-Identifier: Apache-2.0" not in path.read_text()[:200]
    ]

    assert without == []


@pytest.mark.parametrize(
    ("second", "package"),
    [
        ("broker.privcmdd", "privcmdd"),
        ("broker.privcmdd.model.units", "privcmdd"),
        ("clients.python.privcmd", "privcmd"),
        ("clients.python.privcmd.errors", "privcmd"),
    ],
)
def test_there_is_no_second_copy_of_a_package(second: str, package: str) -> None:
    """From the repository's root, a package by the path of its files is refused, and it says what to import instead."""
    command = [sys.executable, "-c", f"import {second}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert f"would be a second copy of the package: `import {package}`" in done.stderr


def test_a_descriptor_left_open_is_noticed() -> None:
    """The check around every test sees what it is there to see."""
    before = descriptors.open_now()

    reader, writer = os.pipe()
    try:
        left = descriptors.left_since(before)
    finally:
        os.close(reader)
        os.close(writer)

    assert set(left) == {reader, writer}
    assert descriptors.left_since(before) == {}
