# SPDX-License-Identifier: Apache-2.0
"""The sdist makes the shim where there is a compiler, and says plainly where not."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from support.packed import environment, run

ROOT = Path(__file__).resolve().parents[2]
RUN = ("run", "--domain", "hvm:64M", "--")
NEEDS_COMPILER = pytest.mark.usefixtures("compiler")
MAPPED = "mapped, and reads 42\n"


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources as they are published."""
    directory = tmp_path_factory.mktemp("sdist")
    run([sys.executable, "-m", "build", "--no-isolation", "--sdist", "--outdir", directory, ROOT])
    (found,) = directory.glob("privcmdd-*.tar.gz")
    return found


@NEEDS_COMPILER
def test_it_makes_the_shim_where_there_is_a_compiler(sdist: Path, maps: Path, tmp_path: Path) -> None:
    """Installed from sources by pip on a machine with a compiler, run works, and the version is that of the sources."""
    new = environment(tmp_path / "venv", borrow=True)
    new.build(sdist, PATH=os.environ["PATH"])

    assert new("privcmdctl", *RUN, maps).stdout == MAPPED
    assert sdist.name == f"privcmdd-{new('privcmdctl', '--version').stdout.split()[1]}.tar.gz"


def test_it_installs_without_a_compiler_and_run_says_what_to_do(sdist: Path, maps: Path, tmp_path: Path) -> None:
    """Without one the broker and its commands work; only run refuses, with the reason and the way out."""
    new = environment(tmp_path / "venv", borrow=True)
    new.build(sdist)

    assert new("privcmdctl", "demo").returncode == 0
    said = new("privcmdctl", *RUN, maps, status=1).stderr
    assert "libprivcmdd-preload.so could not be built when this package was installed: cc is not on PATH" in said
    assert "apt-get install gcc" in said
    assert "pip install --force-reinstall --no-cache-dir privcmdd" in said


def test_a_compiler_that_fails_is_named(sdist: Path, tmp_path: Path) -> None:
    """A compiler without libc's headers, as in a slim container, ends no install; its own words are kept."""
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho 'stdio.h: fatal error: No such file' >&2\nexit 1\n")
    broken.chmod(0o755)
    new = environment(tmp_path / "venv", borrow=True)
    new.build(sdist, PATH=os.environ["PATH"], CC=str(broken))

    reason = (new.package / "lib" / "not-built.txt").read_text()
    assert reason == f"{broken} fails: stdio.h: fatal error: No such file\n"


def test_a_build_that_requires_the_shim_fails_without_a_compiler(sdist: Path, tmp_path: Path) -> None:
    """What is published is built with PRIVCMDD_SHIM=required: no wheel without the shim is made by accident."""
    new = environment(tmp_path / "venv", borrow=True)

    with pytest.raises(AssertionError, match="cc is not on PATH"):
        new.build(sdist, PRIVCMDD_SHIM="required")
    assert not new.package.exists()


@NEEDS_COMPILER
def test_an_editable_install_needs_no_compiler(tmp_path: Path) -> None:
    """``pip install -e`` is the tree itself: nothing is compiled, and ``make shim`` is what run asks for."""
    tree = tmp_path / "tree"
    not_in_git = shutil.ignore_patterns("build*", "_version.py", "__pycache__")
    for name in ("broker", "clients", "pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=not_in_git)
        else:
            shutil.copy(ROOT / name, tree / name)
    new = environment(tmp_path / "venv", borrow=True)
    new.build(tree, "--editable")

    assert new("privcmdctl", "--version").stdout == "privcmdctl 0.2.0.dev0\n"  # git knows nothing of this tree
    assert "`make shim` does it" in new("privcmdctl", *RUN, "/bin/true", status=1).stderr
    run(["make", "-s", "-C", tree / "clients/c"])
    assert new("privcmdctl", *RUN, "/bin/true").returncode == 0
