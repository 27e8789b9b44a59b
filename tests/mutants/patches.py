# SPDX-License-Identifier: Apache-2.0
"""Mutants: patches that each plant one real bug in our code, and what their headers say of it.

A patch begins with a header like a letter's, which ``git apply`` passes over:

    Class: reference count wrong
    Source: XSA-224
    Bug: what goes wrong, in a sentence
    Law: 3                              (where a law alone is to see it)
    Killed-by: tests/model/mm/test_pmap.py::test_name
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from email import message_from_string
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


@dataclass(frozen=True)
class Mutant:
    """One patch.

    Attributes:
        path: Where the patch is.
        kind: The class of bugs that it stands for.
        source: The advisory or the code that had it.
        bug: What it does, in a sentence.
        law: The law that has to see it, or None.
        killers: The tests that should notice first, as pytest names them.
        files: What it changes.
    """

    path: Path
    kind: str
    source: str
    bug: str
    law: int | None
    killers: tuple[str, ...]
    files: tuple[str, ...]

    @property
    def name(self) -> str:
        """What it is called: its file's name."""
        return self.path.stem

    @property
    def modules(self) -> tuple[str, ...]:
        """The Python modules among its files."""
        names = [re.sub(r"^(broker|clients/python)/", "", file) for file in self.files if file.endswith(".py")]
        return tuple(name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in names)

    @property
    def needs_shim(self) -> bool:
        """It changes the C client, which is to be built anew."""
        return any(file.endswith((".c", ".h")) for file in self.files)


def read(path: Path) -> Mutant:
    """Read a patch.

    Raises:
        ValueError: A line of its header is missing.
    """
    text = path.read_text(encoding="utf-8")
    header = message_from_string(text.partition("\ndiff --git ")[0])

    def line(key: str) -> str:
        value = " ".join(str(header[key] or "").split())
        if not value:
            raise ValueError(f"{path.name}: the header has no {key}")
        return value

    return Mutant(
        path,
        line("Class"),
        line("Source"),
        line("Bug"),
        int(line("Law")) if header["Law"] else None,
        tuple(line("Killed-by").split()),
        tuple(re.findall(r"^\+\+\+ b/(.*)$", text, re.MULTILINE)),
    )


def all_mutants() -> list[Mutant]:
    """Every patch in this folder, by name."""
    return [read(path) for path in sorted(HERE.glob("*.patch"))]


def apply(mutant: Mutant, tree: Path, *, check_only: bool = False) -> str | None:
    """Apply a patch to a tree, or see whether it could be.

    Returns:
        Why it does not apply, None when it does.
    """
    command = ["git", "apply", *(["--check"] if check_only else []), str(mutant.path)]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else done.stderr.strip()


def ambiguous(mutant: Mutant, tree: Path) -> list[str]:
    """Hunks whose lines stand more than once in their file: git might apply them at the wrong place."""
    found = []
    text = mutant.path.read_text(encoding="utf-8")
    for part in re.split(r"^diff --git ", text, flags=re.MULTILINE)[1:]:
        name = re.findall(r"^\+\+\+ b/(.*)$", part, re.MULTILINE)[0]
        source = (tree / name).read_text(encoding="utf-8")
        for hunk in re.split(r"^@@.*@@.*\n", part, flags=re.MULTILINE)[1:]:
            old = "".join(row[1:] + "\n" for row in hunk.splitlines() if row[:1] in (" ", "-"))
            if source.count(old) != 1:
                found.append(f"{name}: {source.count(old)} times:\n{old}")
    return found
