# SPDX-License-Identifier: Apache-2.0
"""The two commands, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import IO

Env = Mapping[str, str] | None
"""Variables to set, beyond those there are."""


def ctl(*arguments: str, stdout: IO[str] | int = subprocess.PIPE, env: Env = None) -> subprocess.CompletedProcess[str]:
    """``privcmdctl``, ended."""
    return _ended("privcmdd.cli.ctl", arguments, stdout, env)


def privcmdd(
    *arguments: str, stdout: IO[str] | int = subprocess.PIPE, env: Env = None
) -> subprocess.CompletedProcess[str]:
    """``privcmdd``, ended."""
    return _ended("privcmdd", arguments, stdout, env)


def _ended(
    module: str, arguments: tuple[str, ...], stdout: IO[str] | int, env: Env
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", module, *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        env={**os.environ, "COLUMNS": "200", **(env or {})},
        check=False,
    )
