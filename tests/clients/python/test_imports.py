# SPDX-License-Identifier: Apache-2.0
"""What importing the library costs, and that its public face is whole."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import privcmd

ROOT = Path(__file__).resolve().parents[3]
HEAVY = {"numpy", "trio", "privcmdd", "asyncio"}


def modules_after(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has imported after a statement."""
    code = f"{statement}; import sys; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(ran.stdout.split())


def test_importing_privcmd_imports_next_to_nothing() -> None:
    """Law: `import privcmd` brings in nothing heavy, not even msgpack or ctypes."""
    assert not (HEAVY | {"msgpack", "ctypes", "dataclasses", "typing"}) & modules_after("import privcmd")


def test_the_blocking_face_needs_neither_trio_nor_numpy() -> None:
    """Law: all public names together import neither trio, numpy nor the broker."""
    assert not HEAVY & modules_after("from privcmd import *")


@pytest.mark.parametrize("name", privcmd.__all__)
def test_public_names_exist(name: str) -> None:
    """Law: whatever `__all__` promises can be had, and dir() shows it."""
    assert getattr(privcmd, name) is not None
    assert name in dir(privcmd)


def public_modules() -> set[str]:
    """The modules that users may import: those without an underscore, but for ``privcmd.run``, which is a command."""
    names = {"privcmd", *(module.name for module in pkgutil.walk_packages(privcmd.__path__, "privcmd."))}
    return {name for name in names if not any(part.startswith("_") for part in name.split("."))} - {"privcmd.run"}


def test_the_page_of_versions_names_what_is_public() -> None:
    """Law: a module has no underscore if, and only if, the page promises what it exports; it says what that is."""
    page = (ROOT / "docs/reference/versions.md").read_text(encoding="utf-8")
    (row,) = re.findall(r"^\| Python \| the names.*$", page, re.MULTILINE)

    assert set(re.findall(r"`(privcmd[\w.]*)`", row)) == public_modules()
    for name in public_modules():
        module = importlib.import_module(name)
        assert [each for each in module.__all__ if not hasattr(module, each)] == [], name


@pytest.mark.parametrize("name", sorted({*privcmd.__all__} - {"PAGE_SIZE", "PROT_EXEC", "PROT_READ", "PROT_WRITE"}))
def test_a_public_name_is_at_home_in_a_public_module(name: str) -> None:
    """Law: whatever `privcmd` exports is exported by the module that it comes from, which users may import too."""
    home = f"privcmd.{privcmd._HOMES[name]}"

    assert home in public_modules()
    assert name in importlib.import_module(home).__all__


def test_unknown_names_are_attribute_errors() -> None:
    """Law: laziness does not hide a wrong name."""
    with pytest.raises(AttributeError, match="no attribute 'Clinet'"):
        privcmd.Clinet  # noqa: B018


def test_every_module_imports() -> None:
    """Law: each module of the library can be imported by itself."""
    for module in pkgutil.walk_packages(privcmd.__path__, "privcmd."):
        importlib.import_module(module.name)


def test_methods_show_their_signatures() -> None:
    """Law: help() on a method of either face shows its parameters, answer and words."""
    inspect = importlib.import_module("inspect")
    for face in (privcmd.Client, importlib.import_module("privcmd.trio").AsyncClient):
        assert str(inspect.signature(face.munmap)) == "(self, /, addr: 'int', length: 'int') -> 'None'"
        assert "EINVAL" in (inspect.getdoc(face.munmap) or "")
