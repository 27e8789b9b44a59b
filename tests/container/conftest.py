# SPDX-License-Identifier: Apache-2.0
"""The images, built once, and directories to share with containers."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from container.engine import POKE_TAG, ROOT, TAG, find

if TYPE_CHECKING:
    from collections.abc import Iterator

    from container.engine import Engine


@pytest.fixture(scope="session")
def engine() -> Engine:
    """An engine, with the image built; the tests are skipped, with the reasons, where there is none.

    All tests that take it are in one file: pytest-xdist gives that to one worker, and the image is built once.
    """
    found = find()
    if isinstance(found, str):
        pytest.skip(f"NOT TESTED: the image; {found}")
    found.build_ours(TAG)
    return found


@pytest.fixture(scope="session")
def poke(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image of a program under test, which takes the shim from ours; its tag."""
    directory = tmp_path_factory.mktemp("compose") / "poke"
    shutil.copytree(ROOT / "config/compose", directory)
    text = (directory / "Dockerfile").read_text(encoding="utf-8")
    assert text.count("--from=privcmdd ") == 1
    # Ours has another name here, so that an image of the user's own is left alone.
    (directory / "Dockerfile").write_text(text.replace("--from=privcmdd ", f"--from={TAG} "), encoding="utf-8")
    engine.build(POKE_TAG, directory, BASE=engine.base)
    return POKE_TAG


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that the container's user may write to, and a short way to it."""
    with tempfile.TemporaryDirectory(prefix="pv") as name:
        Path(name).chmod(0o777)
        yield Path(name)
