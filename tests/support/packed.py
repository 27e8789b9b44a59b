# SPDX-License-Identifier: Apache-2.0
"""Clean virtual environments, and commands run as a user has them: with nothing of the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

BUILD_S = 600.0


def run(
    command: Sequence[str | Path],
    environ: Mapping[str, str] | None = None,
    *,
    status: int | None = 0,
    cwd: str | Path = "/",
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, from a directory that is not the checkout, and see how it ended.

    Args:
        command: What to run.
        environ: Added to the environment, in which nothing of ours is left.
        status: The expected exit status; None for any but 0.
        cwd: Where, if not at the root.
    """
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PRIVCMDD_", "PYTHON"))}
    done = subprocess.run(
        command,
        env={**clean, **(environ or {})},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_S,
    )
    as_expected = done.returncode != 0 if status is None else done.returncode == status
    assert as_expected, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@dataclass(frozen=True)
class Environment:
    """A virtual environment, whose PATH is its own commands and nothing else: there is no compiler on it.

    Attributes:
        bin: The directory of its commands.
    """

    bin: Path

    def __call__(
        self, command: str, *args: str | Path, status: int | None = 0, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run one of its commands."""
        return run([self.bin / command, *args], {"PATH": str(self.bin), **environ}, status=status)

    def pip(self, *args: str | Path, **environ: str) -> None:
        """Install something, by the pip of this test run."""
        pip = (sys.executable, "-m", "pip", "--python", self.bin / "python", "--disable-pip-version-check")
        run([*pip, "install", "--no-compile", *args], {"PATH": str(self.bin), **environ})

    def build(self, tree: Path, *args: str | Path, **environ: str) -> None:
        """Install from sources, built with what the environment borrows."""
        self.pip("--no-deps", "--no-build-isolation", "--ignore-installed", *args, tree, **environ)

    @property
    def package(self) -> Path:
        """Where ``privcmd`` is."""
        return self.site / "privcmd"

    @property
    def site(self) -> Path:
        """Where packages are installed."""
        (found,) = self.bin.parent.glob("lib/python3.*/site-packages")
        return found


def environment(directory: Path, *, borrow: bool = False) -> Environment:
    """A new one.

    Args:
        directory: Where.
        borrow: Let it see what other packages this test run has: numpy, trio and hatchling need not be installed again.
    """
    run([sys.executable, "-m", "venv", "--without-pip", directory])
    new = Environment(directory / "bin")
    if borrow:  # a path that is added in this way is not searched for .pth files: our own packages are not seen
        (new.site / "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return new
