# SPDX-License-Identifier: Apache-2.0
"""``make wheel`` makes what is published: wheels that old systems take, and that run where there is no compiler."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.utils import parse_sdist_filename, parse_wheel_filename

from support.packed import environment, run

if TYPE_CHECKING:
    from privcmd import Client
    from privcmd.broker import PrivateBroker

ROOT = Path(__file__).resolve().parents[2]
MAPPED = "mapped, and reads 42\n"
NAMES = ("privcmdd", "privcmdd-client")


@pytest.fixture(scope="module")
def released(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with what is published, made with zig where it is installed; nothing of ours is on PATH before."""
    directory = tmp_path_factory.mktemp("released")
    run([ROOT / ".ci/wheel", sys.executable, directory], {"CC": compiler, "PATH": "/usr/bin:/bin"}, cwd=ROOT)
    return directory


def here(released: Path, name: str) -> Path:
    """The wheel of one of the packages, for this machine."""
    (wheel,) = released.glob(f"{name.replace('-', '_')}-*_{platform.machine()}.whl")
    return wheel


def tags(wheel: Path) -> set[str]:
    """The platforms that a wheel is for."""
    _, _, _, found = parse_wheel_filename(wheel.name)
    assert {(tag.interpreter, tag.abi) for tag in found} == {("py3", "none")}
    return {tag.platform for tag in found}


def test_both_packages_are_made_as_wheels_and_sdists_of_one_version(released: Path) -> None:
    """Law: nothing else is published, and all of it is of one version."""
    sdists = {parse_sdist_filename(path.name) for path in released.glob("*.tar.gz")}
    wheels = {parse_wheel_filename(path.name)[:2] for path in released.glob("*.whl")}

    assert {name for name, _ in sdists} == set(NAMES)
    assert sdists == wheels
    assert len({version for _, version in sdists}) == 1
    assert {path.suffix for path in released.iterdir()} == {".gz", ".whl"}


def test_auditwheel_finds_the_tag_honest(released: Path) -> None:
    """Law: the libraries ask for no symbol that the platform of the name does not promise, and for no other library."""
    for wheel in released.glob("*.whl"):
        said = " ".join(run([sys.executable, "-m", "auditwheel", "show", wheel]).stdout.split())
        stated = said.partition('is consistent with the following platform tag: "')[2].partition('"')[0]

        assert stated.startswith("manylinux_2_")
        assert stated in tags(wheel)


def test_zig_makes_them_for_the_oldest_glibc_and_for_aarch64(released: Path) -> None:
    """Law: what is published runs with glibc 2.17 and later, on both machines."""
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("NOT TESTED: wheels for aarch64 and for glibc 2.17; missing: ziglang (make zig)")
    machines = [{"manylinux2014_aarch64", "manylinux_2_17_aarch64"}, {"manylinux2014_x86_64", "manylinux_2_17_x86_64"}]

    assert sorted(map(sorted, map(tags, released.glob("*.whl")))) == sorted(map(sorted, machines * 2))


def test_they_run_where_there_is_no_compiler(
    released: Path, offline: tuple[str, ...], maps: Path, broker: PrivateBroker, client: Client, tmp_path: Path
) -> None:
    """Law: with the wheels that are published, in environments of their own, a C program maps a page of a guest."""
    whole, alone = environment(tmp_path / "whole"), environment(tmp_path / "alone")
    whole.pip(*offline, here(released, "privcmdd"))
    alone.pip(*offline, here(released, "privcmdd-client"))
    client.domains.create("hvm", 64, dom=1)

    assert shutil.which("cc", path=str(whole.bin)) is None
    assert whole("privcmdctl", "run", "--domain", "hvm:64M", "--", maps).stdout == MAPPED
    assert alone("python", "-m", "privcmd.run", "--socket", broker.path, "--", maps).stdout == MAPPED
