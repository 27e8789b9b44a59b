# SPDX-License-Identifier: Apache-2.0
"""A broker for as long as a block lasts."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest

from privcmd import NoBroker, PrivateBroker
from privcmd.run import _program as program


def test_it_serves_and_leaves_nothing() -> None:
    """Law: it listens before the block begins, and process and directory are gone after it."""
    with PrivateBroker() as broker:
        with broker.client() as client:
            assert client.ping()
        directory = Path(broker.path).parent
        assert directory.stat().st_mode & 0o077 == 0
        assert broker.terminate() == 0
        assert '"stopped"' in broker.output

    assert not directory.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(broker.pid, 0)


def test_a_configuration_can_be_given() -> None:
    """Law: the TOML text is its configuration; the environment's PRIVCMDD_ settings are not."""
    with PrivateBroker("[machine]\nmemory_mib = 64\n") as broker, broker.client() as client:
        assert client.stats()["machine"]["frames"] == 64 * 256


def test_an_early_end_says_why() -> None:
    """Law: a broker that does not start is NoBroker with its own words, and leaves nothing."""
    with pytest.raises(NoBroker, match="memory_mib") as caught:
        PrivateBroker("[machine]\nmemory_mib = -1\n")

    assert "ended with status" in str(caught.value)


def test_it_ends_with_its_interpreter() -> None:
    """Law: a program that forgets its broker leaves neither process nor directory."""
    code = "import privcmd; b = privcmd.PrivateBroker(); print(b.pid, b.path)"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    pid, path = ran.stdout.split()

    assert not Path(path).parent.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


class Impatient(subprocess.Popen[bytes]):
    """The signal that ends us comes when the process is there, and nobody knows of it yet."""

    pids: ClassVar[list[int]] = []

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pids.append(self.pid)
        signal.raise_signal(signal.SIGTERM)


def test_a_signal_while_it_is_being_started_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law: a handler that raises, at whatever moment, leaves neither a broker nor a program beside it."""
    monkeypatch.setattr(subprocess, "Popen", Impatient)
    with pytest.raises(program.Ended), program.ending():
        PrivateBroker()
    with (
        pytest.raises(program.Ended),
        program.ending(),
        contextlib.ExitStack() as stack,
        Path(os.devnull).open("wb") as out,
    ):
        program.start(stack, ["sleep", "infinity"], dict(os.environ), out, signal.SIGKILL)

    assert len(Impatient.pids) == 2
    for pid in Impatient.pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
