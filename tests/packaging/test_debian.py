# SPDX-License-Identifier: Apache-2.0
"""The Debian packages: built, checked and installed in bare roots, with what Debian has and nothing of PyPI.

Debian 13 has all that the broker needs. Debian 12 has an older trio and numpy, and makes the packages of C alone.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

from fresh import roots

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
MAPPED = "mapped, and reads 42\n"
SOURCE = "srv/privcmdd"
LIBRARIES = {"libprivcmdd-preload", "libprivcmdd-foreignmemory"}
QUIETLY = "apt-get update -qq && apt-get install -qq -y --no-install-recommends"
STEP_S = 900.0

pytestmark = pytest.mark.timeout(3600)  # each step has a limit of its own

NEEDS_ROOTS = pytest.mark.skipif(
    bool(roots.unfit()), reason=f"NOT TESTED: the Debian packages; missing: {roots.unfit()}"
)


def typed(root: Path, command: str, user: str = "root") -> str:
    """What a command says in a root, which has to succeed."""
    done = roots.run(root, command, user=user, timeout_s=STEP_S)
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


def bare(suite: str) -> None:
    """Make the bare root of a release, or skip the test where its mirror does not answer."""
    try:
        roots.bare(suite)
    except subprocess.CalledProcessError:
        pytest.skip(f"NOT TESTED: the Debian packages; missing: a root of {suite}, which debootstrap cannot make here")


def build(root: Path, *options: str) -> None:
    """Build the packages of this tree in a root, beside their source: with what they ask for, and no more."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in {*listed.stdout.decode().split("\0")} - {""}:
        if (ROOT / name).is_file():
            (root / SOURCE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / SOURCE / name)
    arch_only = ["--arch-only"] * ("-B" in options)
    typed(root, f"{QUIETLY} build-essential")
    typed(root, f"cd /{SOURCE} && apt-get build-dep -qq -y --no-install-recommends {' '.join(arch_only)} ./")
    typed(root, f"cd /{SOURCE} && dpkg-buildpackage -us -uc {' '.join(options)}")


@pytest.fixture(scope="module")
def trixie() -> Iterator[Path]:
    """A root of Debian 13 in which the packages were built."""
    bare("trixie")
    with roots.copy("trixie") as root:
        build(root)
        yield root


def names(root: Path) -> set[str]:
    """The packages that were made, without those of debug symbols."""
    return {path.name.partition("_")[0] for path in root.glob("srv/*.deb") if "dbgsym" not in path.name}


def contents(root: Path, package: str) -> set[str]:
    """The files of a package, without Python's modules."""
    said = typed(root, f"dpkg-deb --fsys-tarfile /srv/{package}_*.deb | tar -t")
    return {name[1:] for name in said.splitlines() if not name.endswith("/") and "dist-packages" not in name}


@NEEDS_ROOTS
def test_lintian_finds_nothing(trixie: Path) -> None:
    """Law: source and packages follow Debian's policy, as far as its checker knows it, pedantry included."""
    assert names(trixie) == {"privcmdd", *LIBRARIES}
    typed(trixie, f"{QUIETLY} lintian")
    said = typed(trixie, "lintian --fail-on error,warning,info,pedantic -I --pedantic /srv/*.changes")

    assert re.findall(r"^[EWIP]: .*", said, re.MULTILINE) == []


@NEEDS_ROOTS
def test_each_file_is_where_debian_looks_for_it(trixie: Path) -> None:
    """Law: commands, manuals, completion, units and configuration have Debian's places; libraries one of their own."""
    assert contents(trixie, "privcmdd") >= {
        "/etc/privcmdd/privcmdd.toml",
        "/usr/bin/privcmdctl",
        "/usr/bin/privcmdd",
        "/usr/lib/systemd/system/privcmdd.service",
        "/usr/lib/systemd/system/privcmdd.socket",
        "/usr/share/bash-completion/completions/privcmdctl",
        "/usr/share/doc/privcmdd/README.Debian",
        "/usr/share/man/man1/privcmdctl.1.gz",
        "/usr/share/man/man1/privcmdd.1.gz",
        "/usr/share/zsh/site-functions/_privcmdctl",
    }
    found = set().union(*(contents(trixie, package) for package in LIBRARIES))
    lib = typed(
        trixie, "echo /usr/lib/$(dpkg --print-architecture | sed s/amd64/x86_64/ | sed s/arm64/aarch64/)-linux-gnu"
    )
    assert {name for name in found if "/share/doc/" not in name} == {
        f"{lib.strip()}/{name}"
        for name in (
            "pkgconfig/privcmdd-foreignmemory.pc",
            "pkgconfig/privcmdd-preload.pc",
            "privcmdd/libprivcmdd-preload.so",
            "privcmdd/libxenforeignmemory.so",
            "privcmdd/libxenforeignmemory.so.1",
        )
    }


@NEEDS_ROOTS
def test_a_program_runs_where_nothing_else_is_installed(trixie: Path, maps: Path) -> None:
    """Law: on a bare machine, with what apt brings along, an ordinary user's program maps a page of a guest."""
    with roots.copy("trixie") as root:
        for package in (path for path in trixie.glob("srv/*.deb") if "dbgsym" not in path.name):
            shutil.copy(package, root / "srv")
        shutil.copy(maps, root / "srv/maps")
        typed(root, f"{QUIETLY} /srv/*.deb && useradd --create-home somebody")

        assert typed(root, "privcmdctl run --domain hvm:64M -- /srv/maps", "somebody") == MAPPED
        assert "All " in typed(root, "privcmdctl demo", "somebody")
        typed(root, "ldconfig -p | grep -c privcmdd; test $? = 1")  # no program finds ours unasked
        typed(root, "apt-get purge -qq -y privcmdd && test ! -e /etc/privcmdd && test ! -e /usr/bin/privcmdd")


@NEEDS_ROOTS
def test_debian_12_makes_the_libraries() -> None:
    """Law: ``dpkg-buildpackage -B`` asks for nothing of Python, and makes the packages of C."""
    bare("bookworm")
    with roots.copy("bookworm") as root:
        build(root, "-B")

        assert names(root) == LIBRARIES
        assert "dh-python" not in typed(root, "dpkg-query -W -f '${Package}\\n'")


def test_what_debian_is_asked_for_is_what_pyproject_asks_for() -> None:
    """Law: the package is of the version that is being worked on, and has the bounds of the wheel.

    That of msgpack is Debian's affair: README.Debian says why.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    changelog = (ROOT / "debian/changelog").read_text(encoding="utf-8")
    control = (ROOT / "debian/control").read_text(encoding="utf-8")
    (version,) = re.findall(r"\Aprivcmdd \((\S+)\)", changelog)
    wanted = {each.name: each.specifier for each in map(Requirement, project["project"]["dependencies"])}

    assert version.replace("~", ".") == project["tool"]["hatch"]["version"]["fallback-version"]
    for name, specifier in wanted.items():
        bounds = set(re.findall(rf"python3-{name}(?: \((>= )(?:1:)?(\S+)\))?,", control))
        (bound,) = bounds
        assert name == "msgpack" or "".join(bound).replace(" ", "") == str(specifier)
    assert "msgpack 1.2.3" in (ROOT / "debian/README.Debian").read_text(encoding="utf-8")
    assert str(wanted["msgpack"]) == ">=1.2.3"
