# SPDX-License-Identifier: Apache-2.0
"""What a user would install, built once from this tree; and clean environments to install it into."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from support.packed import run

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def compiler() -> str:
    """The compiler; what needs one is skipped where there is none."""
    missing = [tool for tool in ("cc", "make") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"NOT TESTED: what is packed; missing: {', '.join(missing)} (apt-get install gcc make)")
    return "cc"


@pytest.fixture(scope="session")
def wheels(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with our wheel and all that it needs, so that installing it asks no index."""
    directory = tmp_path_factory.mktemp("wheels")
    pip = (sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--wheel-dir", directory)
    run([*pip, ROOT], {"PRIVCMDD_SHIM": "required", "CC": compiler})
    return directory


@pytest.fixture(scope="session")
def wheel(wheels: Path) -> Path:
    """Our wheel."""
    (found,) = wheels.glob("privcmdd-*.whl")
    return found


@pytest.fixture(scope="session")
def offline(wheels: Path) -> tuple[str, ...]:
    """Options of pip by which it takes what it needs from there."""
    return ("--no-index", "--find-links", str(wheels))


@pytest.fixture(scope="session")
def maps(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A C program that maps a page, compiled beforehand."""
    program = tmp_path_factory.mktemp("maps") / "maps"
    run([compiler, "-std=c11", "-D_GNU_SOURCE", "-o", program, HERE / "maps.c"])
    return program
