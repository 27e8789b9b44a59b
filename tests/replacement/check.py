# SPDX-License-Identifier: Apache-2.0
"""Run Spin over the model of replacement (``replacement.pml``): the true protocol, exhaustively, and planted bugs.

``python tests/replacement/check.py`` prints a line for each scope and each bug, and fails when a law of the true
protocol is broken or a bug is not noticed. It takes spin and a C compiler (apt-get install spin gcc).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MODEL: Final = Path(__file__).resolve().parent / "replacement.pml"
BUGS: Final = MODEL.with_name("bugs.pml")
MOST_STEPS: Final = 3_000_000  # of a run of the protocol; one that is longer is an error, not a cut
MOST_STEPS_TO_A_BUG: Final = 20_000
MEMORY_MIB: Final = 2_000
NO_LAW: Final = 99
LIVENESS: Final = "answered"  # who waits is answered some day


@dataclass(frozen=True)
class Program:
    """What Spin makes of the model: a verifier of its own for each size of the arrays, and for liveness."""

    n_clients: int = 3
    n_pages: int = 2
    liveness: bool = False

    def build(self, directory: Path) -> Path:
        """Make the verifier in a directory of its own."""
        sizes = [f"-DCLIENTS={self.n_clients}", f"-DPAGES={self.n_pages}"]
        run(["spin", *sizes, *(["-DLIVENESS"] if self.liveness else []), "-a", str(MODEL)], directory)
        kind = [] if self.liveness else ["-DSAFETY"]
        run(["cc", "-O2", "-w", *kind, f"-DMEMLIM={MEMORY_MIB}", "-o", "pan", "pan.c"], directory)
        return directory / "pan"


@dataclass(frozen=True)
class Scope:
    """How much of the world is searched: all of its states.

    Attributes:
        name: For people and reports.
        text: What takes part.
        settings: Parameters of the model (see its head).
    """

    name: str
    text: str
    settings: Mapping[str, int]
    program: Program = field(default_factory=Program)
    thorough: bool = False


@dataclass(frozen=True)
class Bug:
    """A bug that the model can be told to have, and the law that notices."""

    number: int
    name: str
    law: str
    text: str


@dataclass(frozen=True)
class Outcome:
    """What a search found.

    Attributes:
        law: The law that was broken, if one was.
    """

    law: str | None
    n_states: int
    n_transitions: int
    depth: int
    memory_mib: float
    seconds: float


BATCH, LIST, RESERVE, UNMAP, HIDE, SHOW = (1 << n for n in range(1, 7))
EVERYTHING: Final = BATCH | LIST | RESERVE | UNMAP | HIDE | SHOW
SCOPES: Final = (
    Scope(
        "threads",
        "3 threads of a space: batches, unmapping; a frame taken away and another in its place",
        {"THREADS": 3, "OPS": BATCH | RESERVE | UNMAP, "MOST_FRAMES": 3},
    ),
    Scope(
        "spaces",
        "2 threads of a space and 1 of another with the same frames: batches; a quota that does not suffice for all",
        {"THREADS": 2, "OPS": BATCH | RESERVE, "MOST_FRAMES": 3, "MOST_OWNED": 1},
    ),
    Scope(
        "frames",
        "2 threads of a space and 1 of another: batches; a frame taken away and another in its place",
        {"THREADS": 2, "OPS": BATCH | RESERVE, "MOST_FRAMES": 3},
        thorough=True,
    ),
    Scope(
        "lists",
        "2 threads of a space and 1 of another: batches, and lists of two ranges; one batch in flight at a time",
        {"THREADS": 2, "OPS": BATCH | LIST | RESERVE, "MOST_FRAMES": 4, "MOST_BATCHES": 1, "MOST_OWNED": 1},
        thorough=True,
    ),
    Scope(
        "requests",
        "3 threads of a space: every request there is, and faults",
        {"THREADS": 3, "OPS": EVERYTHING, "MOST_FRAMES": 3, "MOST_OWNED": 1},
        thorough=True,
    ),
    Scope(
        "slices",
        "3 threads of a space: batches of three slices over parts of each other",
        {"THREADS": 3, "OPS": BATCH | RESERVE, "MOST_FRAMES": 5, "MOST_OWNED": 1},
        Program(n_pages=3),
        thorough=True,
    ),
    Scope(
        "liveness",
        "3 threads of a space, one of which never hangs up: it is answered",
        {"THREADS": 3, "OPS": BATCH | RESERVE, "MOST_FRAMES": 6, "MOST_OWNED": 1, "PATIENT": 0},
        Program(liveness=True),
    ),
)
# Where bugs are looked for; all but these few show among the threads of one space.
ANYWHERE: Final = {"THREADS": 3, "OPS": EVERYTHING, "MOST_FRAMES": 3}
ELSEWHERE: Final = {"refused-keeps-references": {"THREADS": 2, "MOST_BATCHES": 1}}
STARVING: Final = ("leave-grants-nobody", "granted-and-gone")  # bugs that the liveness property notices as well


def bugs() -> list[Bug]:
    """The bugs that the model knows, as its own comments say them."""
    lines = re.findall(r"^#define BUG_(\w+) (\d+) // law (\d+): (.*)$", BUGS.read_text(encoding="utf-8"), re.MULTILINE)
    return [Bug(int(number), name.lower().replace("_", "-"), law, text) for name, number, law, text in lines]


def scope_row(scope: Scope, outcome: Outcome) -> str:
    """A scope in the table of docs/explanation/replacement-model.md."""
    return f"| {scope.name} | {scope.text} | {outcome.n_states:,} | {outcome.n_transitions:,} |"


def bug_row(bug: Bug) -> str:
    """A bug in the table of docs/explanation/replacement-model.md."""
    return f"| {bug.text} | {bug.law} |"


def missing() -> list[str]:
    """Tools that are not installed."""
    return [tool for tool in ("spin", "cc") if shutil.which(tool) is None]


def run(command: Sequence[str], directory: Path, settings: Mapping[str, int] | None = None) -> str:
    """The output of a tool, which must not fail."""
    environment = os.environ | {name: str(value) for name, value in (settings or {}).items()}
    done = subprocess.run(
        command,
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout[-2000:]}")
    return done.stdout


class Checker:
    """Verifiers, each made once, and what they find. Use as a context; searches may run beside each other."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="replacement-")
        self._built: dict[Program, Path] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._directory.cleanup()

    def build(self, program: Program) -> None:
        """Make a verifier."""
        self._built[program] = program.build(Path(tempfile.mkdtemp(dir=self._directory.name)))

    def search(self, program: Program, settings: Mapping[str, int], most_steps: int = MOST_STEPS) -> Outcome:
        """Look at every state, or at all up to the first in which a law is broken.

        Raises:
            RuntimeError: The search was cut short: it says nothing.
        """
        verifier = self._built[program]
        options = ["-a", "-f"] if program.liveness else []
        command = [str(verifier), *options, f"-m{most_steps}", "-t" + f".{settings.get('PLANTED', 0)}"]
        said = run(command, verifier.parent, settings)
        law = None
        if found := re.search(r"assertion violated \(broken!=(\d+)\)|acceptance cycle", said):
            law = found[1] or LIVENESS
        elif "errors: 0" not in said or "not completed" in said or "max search depth too small" in said:
            raise RuntimeError(f"the search was cut short:\n{said[-2000:]}")
        return Outcome(
            law,
            n_states=int(number(said, r"(\S+) states, stored")),
            n_transitions=int(number(said, r"(\S+) transitions")),
            depth=int(number(said, r"depth reached (\d+)")),
            memory_mib=number(said, r"(\S+)\ttotal actual memory usage"),
            seconds=number(said, r"elapsed time (\S+) seconds"),
        )

    def scope(self, scope: Scope) -> Outcome:
        """Search the true protocol."""
        return self.search(scope.program, scope.settings)

    def bug(self, bug: Bug) -> Outcome:
        """Search with a bug planted, watching the law that has to notice."""
        settings = ANYWHERE | ELSEWHERE.get(bug.name, {}) | {"PLANTED": bug.number, "WATCHED": int(bug.law)}
        return self.search(Program(), settings, MOST_STEPS_TO_A_BUG)

    def starve(self, bug: Bug) -> Outcome:
        """Search for somebody who is never answered, with a bug planted and no law watched."""
        (scope,) = (scope for scope in SCOPES if scope.program.liveness)
        settings = {**scope.settings, "PLANTED": bug.number, "WATCHED": NO_LAW}
        return self.search(scope.program, settings, MOST_STEPS_TO_A_BUG)


def number(text: str, pattern: str) -> float:
    """A figure in what a verifier prints."""
    found = re.search(pattern, text)
    assert found is not None, text
    return float(found[1])


def main() -> int:
    """Run everything, two at a time."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=2, help="searches at a time, up to 2 GiB each (default: 2)")
    jobs = parser.parse_args().jobs
    if missing():
        sys.stderr.write(f"not found: {', '.join(missing())}; as root on Debian: apt-get install spin gcc\n")
        return 1
    failed = 0
    with Checker() as checker, ThreadPoolExecutor(jobs) as pool:
        list(pool.map(checker.build, dict.fromkeys(scope.program for scope in SCOPES)))
        for scope, outcome in zip(SCOPES, pool.map(checker.scope, SCOPES), strict=True):
            verdict = "holds" if outcome.law is None else f"BREAKS {outcome.law}"
            print(
                f"scope {scope.name:<9} {outcome.n_states:>9} states {outcome.n_transitions:>10} transitions "
                f"{outcome.seconds:>6.1f} s {outcome.memory_mib:>5.0f} MiB  {verdict}",
                flush=True,
            )
            failed += outcome.law is not None
        planted = bugs()
        starving = [bug for bug in planted if bug.name in STARVING]
        searches = [(bug, bug.law, pool.submit(checker.bug, bug)) for bug in planted]
        searches += [(bug, LIVENESS, pool.submit(checker.starve, bug)) for bug in starving]
        for bug, law, search in searches:
            noticed = search.result().law == law
            print(f"bug {bug.name:<25} {f'refuted by {law}' if noticed else 'NOT NOTICED':<20} {bug.text}")
            failed += not noticed
    print(f"{len(SCOPES)} scopes, {len(planted)} bugs planted, {failed} not as they should be")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
