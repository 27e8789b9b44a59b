# SPDX-License-Identifier: Apache-2.0
"""The version that a build has comes from git's tags, and is a sensible one where git has none to tell."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from support.packed import run

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("pyproject.toml", "README.md", "LICENSE", ".git_archival.txt", ".gitattributes", "clients", "broker")
PROJECTS = (".", "clients")
NO_SHIM = {"PRIVCMDD_SHIM": "no"}

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="NOT TESTED: versions from tags; missing: git")


def git(tree: Path, *args: str) -> str:
    """Run git in a tree, as somebody."""
    who = ("-c", "user.name=a tester", "-c", "user.email=tester@localhost", "-c", "init.defaultBranch=main")
    return run(["git", "-C", tree, *who, *args]).stdout.strip()


def commit(tree: Path) -> None:
    """Add a commit."""
    git(tree, "commit", "--quiet", "--allow-empty", "--message=work")


def version_of(tree: Path) -> str:
    """The version that both packages of a tree have."""
    hatch = (sys.executable, "-W", "ignore", "-m", "hatchling", "version")  # of a shallow clone it warns
    found = {run(hatch, cwd=tree / project).stdout.strip() for project in PROJECTS}
    (version,) = found
    return version


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with this tree's files, of two commits and no tag."""
    made = tmp_path / "tree"
    made.mkdir()
    git(made, "init", "--quiet")
    not_in_git = shutil.ignore_patterns("build*", "_version.py", "__pycache__")
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, made / name, ignore=not_in_git)
        else:
            shutil.copy(ROOT / name, made / name)
    git(made, "add", "--all")
    commit(made)
    commit(made)
    return made


def exported(tree: Path, target: Path) -> Path:
    """What ``git archive`` writes, as sites that show a repository offer it for download."""
    archive = target.with_suffix(".tar")
    git(tree, "archive", f"--output={archive}", "HEAD")
    return unpacked(archive, target)


def unpacked(archive: Path, target: Path) -> Path:
    """Unpack it as a person would: Python 3.11.2, which Debian 12 has, knows no filters of tarfile yet."""
    target.mkdir()
    run(["tar", "-xf", archive, "-C", target])
    return target


def test_a_release_is_its_tag_and_main_goes_on_to_the_next_minor(tree: Path, tmp_path: Path) -> None:
    """Law: at v0.1.0 it is 0.1.0, two commits later 0.2.0.dev2 with the commit's name; an archive says the same."""
    git(tree, "tag", "v0.1.0")
    assert version_of(tree) == "0.1.0"
    assert version_of(exported(tree, tmp_path / "release")) == "0.1.0"

    commit(tree)
    commit(tree)
    assert re.fullmatch(r"0\.2\.0\.dev2\+g[0-9a-f]{7,}", version_of(tree))
    assert re.fullmatch(r"0\.2\.0\.dev2\+g[0-9a-f]{7,}", version_of(exported(tree, tmp_path / "later")))


def test_without_a_tag_it_is_on_the_way_to_the_next_release(tree: Path, tmp_path: Path) -> None:
    """Law: a clone without tags, a shallow one and an archive have a development version, later than 0.1.0."""
    assert re.fullmatch(r"0\.2\.0\.dev2\+g[0-9a-f]{7,}", version_of(tree))
    assert version_of(exported(tree, tmp_path / "archive")) == "0.2.0.dev0"

    git(tree, "tag", "v0.1.0", "HEAD~1")
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{tree}", "shallow")
    assert re.fullmatch(r"0\.2\.0\.dev1\+g[0-9a-f]{7,}", version_of(tmp_path / "shallow"))


@pytest.mark.parametrize("project", PROJECTS)
def test_an_sdist_keeps_the_version_that_it_was_made_with(project: str, tree: Path, tmp_path: Path) -> None:
    """Law: git knows nothing of an unpacked sdist, and it has the version of its name all the same."""
    git(tree, "tag", "v0.1.0")
    commit(tree)
    run([sys.executable, "-m", "build", "--no-isolation", "--sdist", "--outdir", tmp_path, tree / project])
    (sdist,) = tmp_path.glob("*.tar.gz")
    (source,) = unpacked(sdist, tmp_path / "unpacked").iterdir()

    assert re.search(r"-0\.2\.0\.dev1\+g[0-9a-f]{7,}$", source.name)
    run([sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path, source], NO_SHIM)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.split("-")[1] == source.name.rpartition("-")[2]
