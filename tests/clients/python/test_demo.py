# SPDX-License-Identifier: Apache-2.0
"""The demonstration is a test of its own; here it is run, and made to fail."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from privcmd._demo.stage import CheckFailed, Stage

if TYPE_CHECKING:
    from pathlib import Path


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it in a process of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "privcmdd.cli.ctl", "demo", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_all_seven_steps_hold() -> None:
    """Law: the demonstration's own checks all hold, and it says which they were."""
    ran = demo("--json")

    assert (ran.returncode, ran.stderr) == (0, "")
    shown = json.loads(ran.stdout)
    assert shown["ok"] is True
    assert [step["number"] for step in shown["steps"]] == list(range(1, 8))
    assert all(check["ok"] for step in shown["steps"] for check in step["checks"])


def test_a_small_file_of_the_users(tmp_path: Path) -> None:
    """Law: any file can be loaded, an empty one too; piped output is plain."""
    file = tmp_path / "empty"
    file.touch()

    ran = demo(str(file))

    assert (ran.returncode, ran.stderr) == (0, "")
    assert f"0 bytes of {file} are in guest memory" in ran.stdout
    assert "\x1b" not in ran.stdout
    assert "All " in ran.stdout.splitlines()[-1]


def test_a_file_that_is_not_there() -> None:
    """Law: what cannot be read ends it with a sentence and status 1."""
    ran = demo("/nonexistent/file")

    assert ran.returncode == 1
    assert "/nonexistent/file" in ran.stderr


def test_a_failed_check_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """Law: a check that does not hold ends the step, and says what was found instead."""
    stage = Stage(as_json=False, colour=False)

    with stage.step("a step"):
        stage.check(ok=True, text="fire is hot")
        with pytest.raises(CheckFailed, match="step 1: water is dry -- found wet"):
            stage.check(ok=False, text="water is dry", found="wet")

    assert "fire is hot" in capsys.readouterr().out
