# SPDX-License-Identifier: Apache-2.0
"""What fuzzers have found once is tried each time, without a fuzzer."""

from __future__ import annotations

import importlib
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from fuzz.run import IN_C, IN_PYTHON, LONGEST, TARGETS, build, kept

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 120


@pytest.mark.parametrize("target", IN_PYTHON)
def test_no_input_of_the_corpus_breaks_a_promise_in_python(target: str) -> None:
    """Each is answered or refused in words, and every law holds."""
    one = importlib.import_module(f"fuzz.{target}").one
    for data in kept(target):
        one(data)


@pytest.mark.parametrize("target", IN_C)
@pytest.mark.skipif(shutil.which("cc") is None, reason="NOT TESTED: the corpus of the C client; missing: gcc")
def test_no_input_of_the_corpus_breaks_a_promise_in_c(target: str, tmp_path: Path) -> None:
    """Under the sanitizers; the last input that is named is the one that did it."""
    program = build(target, tmp_path / target, compiler="cc", sources=("replay.c",))
    files = []
    for n, data in enumerate(kept(target)):
        files.append(tmp_path / f"{n:04}")
        files[-1].write_bytes(data)

    done = subprocess.run([program, *files], capture_output=True, text=True, timeout=SECONDS, check=False)

    assert done.returncode == 0, done.stdout[-100:] + done.stderr
    assert len(done.stdout.splitlines()) == len(files)


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_is_small(target: str) -> None:
    """It is read by people and kept for ever: no input twice, none longer than the fuzzer makes them."""
    inputs = kept(target)

    assert 20 < len(inputs) < 400
    assert len(set(inputs)) == len(inputs)
    assert max(map(len, inputs)) <= LONGEST[target]
