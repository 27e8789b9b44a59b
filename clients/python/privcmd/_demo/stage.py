# SPDX-License-Identifier: Apache-2.0
"""The demonstration's output: steps with checks. A check that does not hold ends the demonstration."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_GREEN, _RED, _BOLD, _DIM, _END = "\x1b[32m", "\x1b[31m", "\x1b[1m", "\x1b[2m", "\x1b[0m"


class CheckFailed(Exception):  # noqa: N818 - what happened
    """A check did not hold; the text names it."""


@dataclass(slots=True)
class Check:
    """One check: what has to be true, in words, and whether it is."""

    text: str
    ok: bool
    found: str


@dataclass(slots=True)
class Step:
    """One step of the demonstration."""

    number: int
    title: str
    seconds: float = 0.0
    checks: list[Check] = field(default_factory=list)


class Stage:
    """Prints steps and checks as they come, or keeps them for one JSON document at the end."""

    def __init__(self, *, as_json: bool, colour: bool) -> None:
        self._as_json = as_json
        self._colour = colour
        encoding = (sys.stdout.encoding or "ascii").lower()
        self._good, self._bad = ("✓", "✗") if encoding.startswith("utf") else ("ok", "NO")
        self.steps: list[Step] = []

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Begin a step, which gets the next number; the end of the block ends it."""
        step = Step(len(self.steps) + 1, title)
        self.steps.append(step)
        self._say(f"\n{self._paint(_BOLD, f'{step.number}. {title}')}")
        start = time.perf_counter()
        try:
            yield
        finally:
            step.seconds = round(time.perf_counter() - start, 3)
        self._say(self._paint(_DIM, f"   {step.seconds:.2f} s"))

    def check(self, ok: object, text: str, found: object = "") -> None:
        """Check that what ``text`` says is true; if not, the demonstration ends.

        Raises:
            CheckFailed: ``ok`` is false; the text says what was found instead.
        """
        check = Check(text, bool(ok), str(found))
        self.steps[-1].checks.append(check)
        if check.ok:
            self._say(f"   {self._paint(_GREEN, self._good)} {text}")
            return
        instead = f" -- found {check.found}" if check.found else ""
        self._say(f"   {self._paint(_RED, self._bad)} {text}{instead}")
        raise CheckFailed(f"step {self.steps[-1].number}: {text}{instead}")

    def show(self, lines: str) -> None:
        """Print lines that are no check."""
        self._say("\n".join(f"     {self._paint(_DIM, line)}" for line in lines.splitlines()))

    def close(self, error: str | None) -> None:
        """Print the result of the demonstration."""
        n_checks = sum(len(step.checks) for step in self.steps)
        seconds = sum(step.seconds for step in self.steps)
        if self._as_json:
            document = {"ok": error is None, "error": error, "steps": [asdict(step) for step in self.steps]}
            sys.stdout.write(json.dumps(document, indent=2) + "\n")
        elif error is None:
            self._say(f"\n{self._paint(_GREEN, f'All {n_checks} checks hold')}, in {seconds:.1f} s.")
        sys.stdout.flush()

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_END}" if self._colour else text

    def _say(self, text: str) -> None:
        if not self._as_json:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
