# SPDX-License-Identifier: Apache-2.0
"""The house itself: what the tree promises."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from support import descriptors

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {".py": "#", ".c": "//", ".h": "//", ".mjs": "//", ".js": "//", ".pml": "//"}
RECORDINGS = {".jsonl"}
GIT_LISTS = pytest.mark.skipif(
    not (ROOT / ".git").exists(), reason="NOT TESTED: the tree; missing: git's list of its files"
)


def tracked() -> list[Path]:
    """The files that git knows."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.splitlines()]


@GIT_LISTS
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


def skips(tree: ast.AST) -> Iterator[str]:
    """Each place where a module of tests leaves one out, as it is written."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("pytest.skip", "pytest.mark.skipif"):
            yield ast.unparse(node)


def test_what_is_skipped_is_said_loudly() -> None:
    """Each skip says what is NOT TESTED, and so what is missing: `make test` lists the reasons at its end."""
    modules = {str(path.relative_to(ROOT)): ast.parse(path.read_text("utf-8")) for path in ROOT.glob("tests/**/*.py")}
    found = [(name, skip) for name, tree in modules.items() for skip in skips(tree)]

    assert len(found) >= 30
    assert [(name, skip) for name, skip in found if "NOT TESTED: " not in skip] == []


def texts() -> dict[str, str]:
    """The tracked files by their names, without what was recorded."""
    files = [path for path in tracked() if path.suffix not in RECORDINGS and path.is_file()]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in files}


@GIT_LISTS
def test_what_is_cited_can_be_opened() -> None:
    """A path that starts at the repository's root leads to a file, and a page that is named is one of ours.

    A name that begins with + is one of ``changelog.d``, where files come and go.
    """
    files = {str(path.relative_to(ROOT)) for path in tracked()}
    pages = {Path(name).name for name in files}
    dead = set()
    for name, text in texts().items():
        cited = re.findall(
            r"(?<![\w./-])((?:docs|tests|bench|config)/[\w./-]+\.(?:md|py|c|h|jsonl|toml|yaml|pml))\b", text
        )
        dead |= {f"{name}: {path}" for path in cited if path not in files}
        dead |= {f"{name}: {page}" for page in re.findall(r"(?<![\w.*+-])[\w.-]+\.md\b", text) if page not in pages}

    assert sorted(dead) == []


@GIT_LISTS
def test_sections_of_the_facts_that_are_cited_are_there() -> None:
    """The facts are cited by the numbers of their sections."""
    files = texts()
    cited = [
        (name, page, number)
        for name, text in files.items()
        for page, number in re.findall(r"(docs/explanation/facts/[\w-]+\.md),[\s/#*]+(?:sections?[\s/#*]+)?(\d+)", text)
    ]

    assert len(cited) > 20
    assert [each for each in cited if f"\n## {each[2]}. " not in files[each[1]]] == []


def said_by(module: ast.Module) -> Iterator[str]:
    """The texts of a module that are no docstrings: what it can say."""
    bare = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}  # docstrings, of attributes too
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in bare:
            yield node.value


def test_no_message_names_a_path_of_the_checkout() -> None:
    """Who installed a package has no `docs/`: messages point to `privcmdctl explain`, which prints the page."""
    python = {
        path: "\n".join(said_by(ast.parse(path.read_text("utf-8"))))
        for folder in ("broker", "clients/python")
        for path in (ROOT / folder).rglob("*.py")
    }
    c = {
        path: "\n".join(re.findall(r'"(?:[^"\\\n]|\\.)*"', path.read_text("utf-8")))
        for path in (ROOT / "clients" / "c").rglob("*.[ch]")
    }

    assert any("privcmdctl explain" in said for said in python.values())
    assert [str(path) for path, said in {**python, **c}.items() if "docs/" in said or ".md" in said] == []


@GIT_LISTS
def test_nothing_refers_to_a_file_beside_the_checkout() -> None:
    """A clone is complete: no path goes up to a folder that the tree does not have."""
    parts = {".venv", *(part for path in tracked() for part in path.relative_to(ROOT).parts)}
    outside = set()
    for name, text in texts().items():
        up = re.findall(r"(?<![\w.])(?:\.\./)+(\.?[\w-]+(?:\.[\w-]+)*)", text)
        outside |= {f"{name}: ../{part}" for part in up if part not in parts}
        outside |= {f"{name}: {found}" for found in re.findall(r"\bROOT\.parent\b", text)}

    assert sorted(outside) == []


def test_the_same_versions_of_python_are_tried_everywhere() -> None:
    """CI and nox try the same versions, from the oldest that the package admits."""
    found = {
        name: re.findall(r'"(3\.\d+)"', re.findall(pattern, (ROOT / name).read_text(encoding="utf-8"))[0])
        for name, pattern in (("noxfile.py", r"VERSIONS = (.*)"), (".github/workflows/ci.yml", r"python: (\[.*)"))
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert found["noxfile.py"] == found[".github/workflows/ci.yml"]
    assert project["requires-python"] == f">={found['noxfile.py'][0]}"


@GIT_LISTS
def test_hooks_before_a_commit_run_what_make_has_installed() -> None:
    """Each hook's program is in the venv or is the shell, so that no hook needs the network."""
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    entries = re.findall(r"entry: (\S+)", hooks)

    assert len(entries) == hooks.count("- id: ")
    programs = {Path(name).name for name in entries} - {"sh"}
    assert [name for name in programs if not (Path(sys.prefix) / "bin" / name).exists()] == []


@GIT_LISTS
def test_no_file_is_too_large_for_the_hook() -> None:
    """The hook against large files lets the recording of the real host pass, and everything else that is tracked."""
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    limit_kib = int(re.findall(r"-size \+(\d+)k", hooks)[0])

    assert [path for path in tracked() if path.is_file() and path.stat().st_size > limit_kib * 1024] == []


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


def requirements(name: str) -> dict[str, Version]:
    """The versions that a file of ``requirements`` has for this Python; each entry has hashes."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").replace("\\\n", "")
    found: dict[str, Version] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        requirement, *hashes = re.split(r"\s+--hash=", line)
        assert hashes, f"{name}.txt: no hash: {line}"
        assert all(each.startswith("sha256:") for each in hashes)
        pinned = Requirement(requirement)
        (exactly,) = pinned.specifier
        assert exactly.operator == "=="
        if pinned.marker is None or pinned.marker.evaluate():
            found[canonicalize_name(pinned.name)] = Version(exactly.version)
    return found


def groups(project: dict[str, Any], name: str) -> Iterator[str]:
    """The requirements of a dependency group, those that it includes as well."""
    for entry in project["dependency-groups"][name]:
        if isinstance(entry, str):
            yield entry
        else:
            yield from groups(project, entry["include-group"])


def test_everything_that_is_installed_is_locked() -> None:
    """Image, .venv and CI install what ``requirements`` pins by hashes, and it fits what pyproject.toml asks for.

    What builds and runs the image has the versions that the tests run with. Where this fails: ``make lock``.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = {
        "run": project["project"]["dependencies"],
        "build": project["build-system"]["requires"],
        "release": [*groups(project, "release")],
        "dev": [*project["project"]["dependencies"], *project["build-system"]["requires"], *groups(project, "dev")],
    }
    locked = {name: requirements(name) for name in asked}
    unmet = {
        f"requirements/{name}.txt: {text}"
        for name, texts in asked.items()
        for text in texts
        if not (wanted := Requirement(text)).specifier.contains(
            locked[name].get(canonicalize_name(wanted.name), Version("0")), prereleases=True
        )
    }

    assert unmet == set(), "run `make lock`"
    assert locked["dev"].items() >= locked["run"].items() | locked["build"].items(), "run `make lock`"
    assert "--require-hashes" in (ROOT / ".ci/setup").read_text(encoding="utf-8")
    assert (ROOT / "Dockerfile").read_text(encoding="utf-8").count("--require-hashes") == 2
