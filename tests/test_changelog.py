# SPDX-License-Identifier: Apache-2.0
"""The changelog is gathered from ``changelog.d`` by towncrier: a file for each change that users notice."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FRAGMENTS = ROOT / "changelog.d"
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["towncrier"]


def towncrier(tree: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Build the changelog of a tree."""
    command = [sys.executable, "-m", "towncrier", "build", "--version", "0.2.0", *args]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with our settings and changelog, and no fragment."""
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "changelog.d").mkdir()
    return tmp_path


def is_entry(text: str) -> bool:
    """Whether a text is one paragraph that begins as a sentence and ends as one."""
    lines = text.rstrip("\n").split("\n")
    return all(lines) and bool(re.match(r"[A-Z`*]", text)) and lines[-1].endswith(".")


def test_the_fragments_are_well_formed() -> None:
    """Law: towncrier takes the name of each, and each is an entry."""
    done = towncrier(ROOT, "--draft")
    texts = {path.name: path.read_text(encoding="utf-8") for path in FRAGMENTS.iterdir() if path.name != "README.md"}

    assert done.returncode == 0, done.stderr
    assert [name for name, text in texts.items() if not is_entry(text)] == []


@pytest.mark.parametrize("name", ["+a.feature.md", "+a.md", "+a.txt"])
def test_a_fragment_with_a_wrong_name_is_an_error(name: str, tree: Path) -> None:
    """Law: none is left out silently, as one of a kind that does not exist."""
    (tree / "changelog.d" / name).write_text("Something.\n")

    done = towncrier(tree, "--draft")

    assert done.returncode != 0
    assert name in done.stdout + done.stderr


@pytest.mark.parametrize("text", ["", "no capital.\n", "No full stop\n", "Two.\n\nParagraphs.\n"])
def test_a_text_that_is_no_entry_is_noticed(text: str) -> None:
    """Law: what is not one paragraph of sentences is no entry."""
    assert not is_entry(text)
    assert is_entry("**`make news`** shows\nwhat is new.\n")


def test_a_release_gathers_them_above_the_last_one(tree: Path) -> None:
    """Law: each kind of the page has its heading and its entry, above what was released before; no file is left."""
    page = (FRAGMENTS / "README.md").read_text(encoding="utf-8")
    kinds = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    for kind in kinds:
        (tree / "changelog.d" / f"+some.{kind}.md").write_text(f"This is {kind}.\n")
    before = (tree / "CHANGELOG.md").read_text(encoding="utf-8")

    done = towncrier(tree, "--yes", "--date", "2030-01-02")

    assert done.returncode == 0, done.stderr
    after = (tree / "CHANGELOG.md").read_text(encoding="utf-8")
    head, mark, rest = before.partition("<!-- the next release is put here -->\n")
    release = after.removeprefix(head + mark).removesuffix(rest)
    assert kinds == [each["directory"] for each in CONFIG["type"]]
    assert release.strip() == "## [0.2.0] - 2030-01-02\n\n" + "\n\n".join(
        f"### {kind.capitalize()}\n\n- This is {kind}." for kind in kinds
    )
    assert list((tree / "changelog.d").iterdir()) == []
