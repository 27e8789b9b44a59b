# SPDX-License-Identifier: Apache-2.0
"""What importing the library costs, and that its public face is whole."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import privcmd

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
