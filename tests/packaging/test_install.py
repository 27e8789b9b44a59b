# SPDX-License-Identifier: Apache-2.0
"""``make install`` puts the C parts where they are told to, with pkg-config files that say where that is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from privcmd import __version__
from privcmd.run._program import version_of
from support.packed import environment, run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def destination(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DESTDIR, installed into with PREFIX=/usr."""
    directory = tmp_path_factory.mktemp("destination")
    build = directory.parent / f"{directory.name}-build"
    make = ("make", "-s", "-C", ROOT / "clients/c", f"BUILD={build}", f"CC={compiler}", "install")
    run([*make, "PREFIX=/usr", f"DESTDIR={directory}"])
    return directory


def test_it_writes_below_destdir_and_prefix_and_nothing_else(destination: Path) -> None:
    """The libraries have a directory of their own, so that no program takes ours for Xen's unasked."""
    files = {str(path.relative_to(destination)) for path in destination.rglob("*") if not path.is_dir()}

    assert files == {
        "usr/lib/privcmdd/libprivcmdd-preload.so",
        "usr/lib/privcmdd/libxenforeignmemory.so",
        "usr/lib/privcmdd/libxenforeignmemory.so.1",
        "usr/lib/pkgconfig/privcmdd-foreignmemory.pc",
        "usr/lib/pkgconfig/privcmdd-preload.pc",
    }
    assert version_of(f"{destination}/usr/lib/privcmdd/libprivcmdd-preload.so") == __version__


def test_pkg_config_says_where_they_are(destination: Path) -> None:
    """The shim's path is a variable; the drop-in library is linked by --libs, which name no DESTDIR."""
    if shutil.which("pkg-config") is None:
        pytest.skip("NOT TESTED: the pkg-config files; missing: pkg-config (apt-get install pkg-config)")
    environ = {"PKG_CONFIG_PATH": str(destination / "usr/lib/pkgconfig")}

    def asked(*options: str) -> str:
        return run(["pkg-config", *options], environ).stdout.strip()

    assert asked("--variable=preload", "privcmdd-preload") == "/usr/lib/privcmdd/libprivcmdd-preload.so"
    assert asked("--modversion", "privcmdd-preload") == __version__
    libs = asked("--libs", "privcmdd-foreignmemory")
    assert libs.split() == ["-L/usr/lib/privcmdd", "-Wl,-rpath,/usr/lib/privcmdd", "-lxenforeignmemory"]


def test_run_finds_it_below_the_prefix_of_the_package(compiler: str, maps: Path, tmp_path: Path) -> None:
    """A package without a shim of its own takes the one of the same PREFIX, if it is of the same version."""
    new = environment(tmp_path / "venv", borrow=True)
    new.build(ROOT, PRIVCMDD_SHIM="no")
    words = ("run", "--domain", "hvm:64M", "--", maps)
    make = ("make", "-s", "-C", ROOT / "clients/c", f"CC={compiler}", "install", f"PREFIX={tmp_path / 'venv'}")
    library = tmp_path / "venv/lib/privcmdd/libprivcmdd-preload.so"
    version = new("privcmdctl", "--version").stdout.split()[1]

    assert "libprivcmdd-preload.so is not built" in new("privcmdctl", *words, status=1).stderr
    run([*make, f"BUILD={tmp_path / 'build'}", f"VERSION={version}"])
    assert new("privcmdctl", *words).stdout == "mapped, and reads 42\n"
    run([*make, f"BUILD={tmp_path / 'old'}", "VERSION=0.0.1"])
    said = new("privcmdctl", *words, status=1).stderr
    assert f"{library} was made from version 0.0.1, and this package is version {version}; install both" in said
