# SPDX-License-Identifier: Apache-2.0
"""The preload library that programs run under, built once."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from privcmd.broker import PrivateBroker

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENT = Path(__file__).resolve().parents[2] / "clients" / "c"


@pytest.fixture(scope="session", autouse=True)
def preload(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """``privcmdctl run`` uses the library of this test run."""
    if shutil.which("cc") is None or shutil.which("make") is None:
        pytest.skip("NOT TESTED: unmodified programs; cc and make are missing (apt-get install gcc make)")
    build = tmp_path_factory.mktemp("lib")
    done = subprocess.run(
        ["make", "-s", "-j2", "-C", CLIENT, f"BUILD={build}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for directory in (build, *build.parents[:2]):
        directory.chmod(0o755)  # programs of other users are to find it
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRIVCMDD_PRELOAD", str(build / "libprivcmdd-preload.so"))
        for name in [name for name in os.environ if name.startswith("XENSTORED_")]:
            patch.delenv(name)
        yield


@pytest.fixture
def broker() -> Iterator[PrivateBroker]:
    """Without the check of all laws after each of thousands of requests."""
    with PrivateBroker() as private:
        yield private
