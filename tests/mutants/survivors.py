# SPDX-License-Identifier: Apache-2.0
"""Plant random small bugs in a file or a folder, and list those that the tests let live: ``make survivors``.

Each is tried in a copy of the tree by the tests that run its line, the quickest files first, up to the first failure.
Which tests run which line is measured once, and kept below ``build`` until the code or the tests change. The same seed
takes the same sample of the same text. Mutants that change nothing anybody can see are written down in
``equivalent.txt``, with the reason, and not counted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Self

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mutants import in_c, in_python, reached
from mutants.patches import HERE, ROOT
from mutants.run import NOT_COPIED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mutants.change import Change

ROOMS = {
    "broker/privcmdd/model": ("tests/model", "tests/service"),
    "broker/privcmdd/service": ("tests/service",),
    "broker/privcmdd/wire": ("tests/wire", "tests/service"),
    "broker/privcmdd/server": ("tests/server",),
    "broker/privcmdd/cli": ("tests/cli",),
    "clients/python/privcmd": ("tests/clients/python",),
    "clients/c": ("tests/clients/c/test_codec.py", "tests/clients/c/test_requests.py", "tests/clients/c"),
}
"""Where the tests of a part of the code are: those that are tried first, first."""

LAST = {"broker/privcmdd/model": ("tests/model/test_side_by_side.py",)}
"""Tests that are thorough: they are tried when all others let a mutant live."""

QUICK = ("-m", "not container and not thorough")
PACES = {".py": in_python.changes, ".c": in_c.changes}
EQUIVALENT = HERE / "equivalent.txt"
MEASURE_S = 1200.0
AT_LEAST_S, TIMES = 60.0, 5.0
KILLED, LIVED, SAME = "killed", "LIVED", "equivalent"


@dataclass
class Reach:
    """Which tests run which line of Python, and how long they take."""

    seconds: dict[str, float] = field(default_factory=dict)
    lines: dict[tuple[str, int], set[str]] = field(default_factory=lambda: defaultdict(set))

    def add(self, text: str) -> None:
        """Take in what the plugin of one run of tests wrote."""
        seen = json.loads(text)
        tests = [test for test, _ in seen["seconds"]]
        self.seconds.update(seen["seconds"])
        for file, lines in seen["lines"].items():
            for line, by in lines.items():
                self.lines[file, int(line)].update(tests[n] for n in by)

    def tests(self, change: Change) -> list[str]:
        """The tests that run a mutant: those of one file together, the quickest file first."""
        by_file: dict[str, list[str]] = defaultdict(list)
        for test in set().union(*(self.lines.get((change.file, line), ()) for line in change.lines)):
            by_file[test.partition("::")[0]].append(test)
        files = sorted(by_file.values(), key=lambda tests: (sum(self.seconds[test] for test in tests), tests[0]))
        return [test for tests in files for test in sorted(tests, key=lambda test: (self.seconds[test], test))]


class Tree:
    """A copy of the tree, and a process that runs its tests."""

    def __init__(self, path: Path, **environment: str) -> None:
        self.path = path
        parts = os.pathsep.join(str(path / part) for part in ("broker", "clients/python", "tests"))
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(HERE / "warm.py")],
            cwd=path,
            env={**os.environ, "PYTHONPATH": parts, "OPENBLAS_NUM_THREADS": "1", **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def passes(self, arguments: Sequence[str], limit_s: float, *, bounded: bool = True) -> bool:
        """Whether tests pass, in time; and in bounded memory, which programs under a sanitizer cannot."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps([limit_s, bounded, "-q", "-x", *arguments]), file=self.process.stdin, flush=True)
        return self.process.stdout.readline() == "0\n"

    def close(self) -> None:
        """End its process."""
        self.process.communicate()


def room_of(file: str) -> str:
    """The part of the code that a file is in."""
    return next(room for room in ROOMS if file.startswith(f"{room}/"))


def fingerprint() -> str:
    """Changes when what was measured may have changed."""
    digest = hashlib.sha256()
    for part in ("broker", "clients/python", "tests"):
        for path in sorted((ROOT / part).rglob("*.py")):
            digest.update(f"{path.relative_to(ROOT)} {path.stat().st_size}".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def reach_of(path: Path, room: str) -> Reach:
    """Measure which tests of a room run which line, or remember it. Ends the program if one of them fails."""
    kept = ROOT / "build" / "reached" / fingerprint()
    kept.mkdir(parents=True, exist_ok=True)
    reach = Reach()
    for tests in ROOMS[room]:
        output = kept / f"{tests.replace('/', '-')}.json"
        if not output.exists():
            print(f"measuring which lines {tests} runs", file=sys.stderr)
            roots = " ".join(str(path / part) for part in ("broker/privcmdd", "clients/python/privcmd"))
            tree = Tree(path, **{reached.OUTPUT: str(output), reached.ROOTS: roots})
            passed = tree.passes(["-p", "mutants.reached", *QUICK, tests], MEASURE_S)
            tree.close()
            if not passed:
                output.unlink(missing_ok=True)
                sys.exit(f"{tests} fails without any mutant")
        reach.add(output.read_text(encoding="utf-8"))
    return reach


def all_changes(target: Path) -> list[Change]:
    """Every change that can be planted in a file, or in the files of a folder."""
    paths = sorted(path for path in target.rglob("*") if path.suffix in PACES) if target.is_dir() else [target]
    found: list[Change] = []
    for path in paths:
        name = str(path.relative_to(ROOT))
        if "/build/" not in name:
            found.extend(PACES[path.suffix](name, path.read_text(encoding="utf-8")))
    return found


def key(change: Change, text: str) -> str:
    """How a mutant is written down: it stays the same when lines move."""
    before, after = change.rows(text)
    return f"{change.file} {change.where or '-'}: {before} => {after}"


def equivalents() -> dict[str, str]:
    """The mutants that are written down as changing nothing, with the reasons."""
    blocks = re.split(r"\n{2,}", EQUIVALENT.read_text(encoding="utf-8"))
    rows = [block.strip().split("\n") for block in blocks if not block.startswith("#")]
    return {each: row[-1].strip() for row in rows for each in row[:-1]}


class Trees:
    """Copies of the tree, one for each mutant that is tried at the same time."""

    def __init__(self, directory: Path, n: int) -> None:
        self.paths = [directory / f"tree-{number}" for number in range(n)]
        self.free: SimpleQueue[Tree] = SimpleQueue()
        self.trees: list[Tree] = []
        self.clock = int(time.time())
        for path in self.paths:
            shutil.copytree(ROOT, path, ignore=NOT_COPIED, symlinks=True)

    def __enter__(self) -> Self:
        self.trees = [Tree(path) for path in self.paths]
        for tree in self.trees:
            self.free.put(tree)
        return self

    def __exit__(self, *_: object) -> None:
        for tree in self.trees:
            tree.close()

    def write(self, path: Path, text: str) -> None:
        """Write a file whose time was never another's: what Python compiled of the text before is not taken for it."""
        path.write_text(text, encoding="utf-8")
        self.clock += 1
        os.utime(path, (self.clock, self.clock))

    def judge(self, change: Change, reach: Reach) -> tuple[str, str]:
        """Plant one mutant and run its tests. Returns what became of it and what was run."""
        tree = self.free.get()
        file = tree.path / change.file
        text = file.read_text(encoding="utf-8")
        try:
            self.write(file, change.applied(text))
            if (
                file.suffix == ".c"
                and subprocess.run(
                    ["make", "-s", "-C", "clients/c"], cwd=tree.path, capture_output=True, check=False
                ).returncode
            ):
                return KILLED, "it does not compile"
            tests = reach.tests(change)
            named = tree.path / "tests-of-mutant"
            named.write_text("\n".join(tests), encoding="utf-8")
            limit_s = AT_LEAST_S + TIMES * sum(reach.seconds[test] for test in tests)
            if tests:
                lives, what = tree.passes([f"@{named}"], limit_s), f"{len(tests)} tests run it"
            else:
                rooms = ROOMS[room_of(change.file)]
                lives, what = (
                    tree.passes([*QUICK, *rooms], MEASURE_S, bounded=file.suffix != ".c"),
                    f"not seen to be run; tried by {' '.join(rooms)}",
                )
            last = LAST.get(room_of(change.file))
            if lives and last and not tree.passes(last, MEASURE_S):
                lives = False
            return (LIVED if lives else KILLED), what
        finally:
            self.write(file, text)
            self.free.put(tree)


def tell(change: Change, text: str, number: int, end: str, what: str) -> None:
    """One mutant, as a person would read it."""
    before, after = change.rows(text)
    print(
        f"{end} {number} {change.file}:{change.line(text)} {change.where}\n    -{before}\n    +{after}\n    {what}",
        flush=True,
    )


def main(arguments: Iterable[str] | None = None) -> int:
    """Plant them; 0 unless fewer are killed than asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path, help="a file or a folder of the code")
    parser.add_argument("-n", type=int, default=50, help="how many (50)")
    parser.add_argument("--seed", type=int, default=1, help="which (1)")
    parser.add_argument("--only", type=int, nargs="*", help="of these, only the ones with these numbers")
    parser.add_argument("--at-least", type=float, default=0, metavar="PERCENT", help="exit with 1 if fewer are killed")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), help="tried at a time")
    chosen = parser.parse_args(None if arguments is None else list(arguments))
    possible = all_changes(chosen.target.resolve())
    texts = {file: (ROOT / file).read_text(encoding="utf-8") for file in {change.file for change in possible}}
    sample = random.Random(chosen.seed).sample(possible, min(chosen.n, len(possible)))
    numbered = [(n, change) for n, change in enumerate(sample, 1) if not chosen.only or n in chosen.only]
    excused = equivalents()
    ends: dict[str, int] = dict.fromkeys((KILLED, LIVED, SAME), 0)
    with tempfile.TemporaryDirectory(prefix="survivors-") as directory, ThreadPoolExecutor(chosen.processes) as pool:
        trees = Trees(Path(directory), chosen.processes)
        rooms = {room_of(change.file) for change in sample}
        reaches = {room: Reach() if room == "clients/c" else reach_of(trees.paths[0], room) for room in rooms}

        def judge(numbered_change: tuple[int, Change]) -> tuple[str, str]:
            _, change = numbered_change
            reason = excused.get(key(change, texts[change.file]))
            return (SAME, reason) if reason else trees.judge(change, reaches[room_of(change.file)])

        with trees:
            for room in rooms & {"clients/c"}:
                if not trees.trees[0].passes([*QUICK, *ROOMS[room]], MEASURE_S, bounded=False):
                    sys.exit(f"the tests of {room} fail without any mutant")
            for (number, change), (end, what) in zip(numbered, pool.map(judge, numbered), strict=True):
                ends[end] += 1
                if end == LIVED:
                    tell(change, texts[change.file], number, end, what)
    n_real = ends[KILLED] + ends[LIVED]
    share = 100 * ends[KILLED] / max(n_real, 1)
    print(
        f"{chosen.target}: {len(possible)} possible, {len(numbered)} planted (seed {chosen.seed}), "
        f"{ends[SAME]} equivalent; of {n_real} others {ends[KILLED]} killed, {share:.0f} %, {ends[LIVED]} lived"
    )
    return int(share < chosen.at_least)


if __name__ == "__main__":
    sys.exit(main())
