# SPDX-License-Identifier: Apache-2.0
"""The wheel has the shim: whoever installs it needs no compiler, by pip, pipx or uv."""

from __future__ import annotations

import shutil
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from support.packed import Environment, environment, run

if TYPE_CHECKING:
    from pathlib import Path

RUN = ("run", "--domain", "hvm:64M", "--")
MAPPED = "mapped, and reads 42\n"


@pytest.fixture(scope="module")
def installed(wheel: Path, offline: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel, and nothing of the checkout."""
    new = environment(tmp_path_factory.mktemp("pip") / "venv")
    new.pip(*offline, wheel)
    return new


def test_a_program_runs_after_pip_install_without_a_compiler(installed: Environment, maps: Path) -> None:
    """The headline command works from the wheel alone: a C program maps a page of a new domain."""
    assert shutil.which("cc", path=str(installed.bin)) is None
    assert installed("privcmdctl", *RUN, maps).stdout == MAPPED


def test_the_library_and_the_packages_are_of_one_version(installed: Environment, wheel: Path) -> None:
    """Whichever is asked names the same version, the one of the wheel."""
    version = wheel.name.split("-")[1]
    code = (
        "import privcmd, privcmdd\n"
        "from privcmd.run._program import preload_library, version_of\n"
        "print(privcmd.__version__, privcmdd.__version__, version_of(preload_library()))"
    )

    assert installed("python", "-c", code).stdout.split() == [version] * 3
    assert installed("privcmdctl", "--version").stdout == f"privcmdctl {version}\n"


def test_pages_are_in_it(installed: Environment) -> None:
    """What reports point to can be read without a checkout."""
    assert "**Instead**" in installed("privcmdctl", "explain", "frame-bits-lost").stdout


def test_the_dropin_library_is_in_it_too(wheel: Path) -> None:
    """Beside the shim is the library that takes the place of Xen's; a wheel with them is for one platform."""
    with zipfile.ZipFile(wheel) as packed:
        libraries = {name for name in packed.namelist() if name.startswith("privcmd/lib/")}

    assert libraries == {"privcmd/lib/libprivcmdd-preload.so", "privcmd/lib/libxenforeignmemory.so.1"}
    assert "-py3-none-linux_" in wheel.name


@pytest.mark.parametrize("by", ["package", "PRIVCMDD_PRELOAD"])
def test_a_stale_library_is_refused_by_name(by: str, wheel: Path, maps: Path, tmp_path: Path) -> None:
    """A library of another version is not put into a program: its file, both versions and what to do are said."""
    version = wheel.name.split("-")[1]
    new = environment(tmp_path / "venv", borrow=True)
    new.build(wheel)
    ours = new.package / "lib" / "libprivcmdd-preload.so"
    old = ours if by == "package" else tmp_path / "old.so"
    old.write_bytes(ours.read_bytes().replace(version.encode(), b"0.0.1".ljust(len(version), b"\0")))
    environ = {} if by == "package" else {by: str(old)}

    said = new("privcmdctl", *RUN, maps, status=1, **environ).stderr

    assert f"EINVAL: {old} was made from version 0.0.1, and this package is version {version}" in said
    assert ("pip install --force-reinstall" if by == "package" else "unset that") in said


def test_a_library_that_names_no_version_is_refused(installed: Environment, maps: Path) -> None:
    """Whatever PRIVCMDD_PRELOAD names has to be ours, and of this version."""
    said = installed("privcmdctl", *RUN, maps, status=1, PRIVCMDD_PRELOAD=str(maps)).stderr

    assert f"{maps} was made from an unknown version" in said


def test_pipx_installs_it(wheels: Path, maps: Path, tmp_path: Path) -> None:
    """``pipx install`` gives both commands, and run works."""
    options = f"--pip-args=--no-compile --pre --find-links={wheels}"
    places = {"PIPX_HOME": str(tmp_path / "home"), "PIPX_BIN_DIR": str(tmp_path / "bin")}
    places["PIPX_MAN_DIR"] = str(tmp_path / "man")
    run([sys.executable, "-m", "pipx", "install", "--backend=pip", options, "privcmdd"], places)

    assert {path.name for path in (tmp_path / "bin").iterdir()} == {"privcmdd", "privcmdctl"}
    assert run([tmp_path / "bin" / "privcmdctl", *RUN, maps], {"PATH": str(tmp_path / "bin")}).stdout == MAPPED


def test_uv_installs_it_as_a_tool(wheels: Path, maps: Path, tmp_path: Path) -> None:
    """``uv tool install`` gives both commands, and run works."""
    places = {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin")}
    places["UV_CACHE_DIR"] = str(tmp_path / "cache")
    uv = [sys.executable, "-m", "uv", "tool", "install", "--offline", "--no-index", "--find-links", str(wheels)]
    run([*uv, "--prerelease=allow", "--python", sys.executable, "privcmdd"], places)

    assert {path.name for path in (tmp_path / "bin").iterdir()} == {"privcmdd", "privcmdctl"}
    assert run([tmp_path / "bin" / "privcmdctl", *RUN, maps], {"PATH": str(tmp_path / "bin")}).stdout == MAPPED
