# SPDX-License-Identifier: Apache-2.0
"""libxenvchan, unmodified: pages that one process grants and another maps, and an end that nobody has said."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from programs.programs import needs, run

if TYPE_CHECKING:
    from privcmd import Client
    from privcmd.broker import PrivateBroker

HERE = Path(__file__).resolve().parent


def test_two_processes_talk_until_one_is_gone(broker: PrivateBroker, client: Client, tmp_path: Path) -> None:
    """A hundred kilobytes there and back; who dies without a word is noticed, by a byte and an event; nothing stays."""
    needs("xenstored")
    if not Path("/usr/include/libxenvchan.h").exists() or shutil.which("cc") is None:
        pytest.skip("NOT TESTED: libxenvchan; libxen-dev is missing (apt-get install libxen-dev gcc)")
    program = tmp_path / "vchan"
    command = ["cc", "-o", str(program), str(HERE / "vchan.c"), "-lxenvchan", "-lxenstore"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr

    done = run("--socket", broker.path, "--xenstore", "--leaks=error", "--", str(program))

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "100000 bytes came back\nthe client has gone (0)\n"
    assert client.stats()["mappings"]["frames"] == 0
    pages = client.share_pages(0)
    os.close(pages.fd)
    assert pages.refs == [8], "pages of theirs are left"
