# SPDX-License-Identifier: Apache-2.0
"""What a newcomer types, in a bare root: the first commands of the README, as root and as an ordinary user.

Lines of the block marked ``<!-- run in a bare root -->`` that begin with # are typed by root, those with $ by whoever
tries the project. They are typed as they stand there, but for ADDRESS: what is cloned is the last commit of this
checkout. Then the pages of the tutorial and the how-tos are gone through, in that clone and by the same person: each
command that they show, and what it prints. ``make test`` does that too, so after it they are left out.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fresh import roots

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parents[2]
MARK: Final = "<!-- run in a bare root -->"
SUITES: Final = ("bookworm", "trixie")
USERS: Final = ("newcomer", "root")
BUNDLE: Final = "/srv/project.bundle"
"""What stands for the page's ADDRESS."""
PAGES: Final = "docs/tutorial or docs/how-to"
PLAY_PAGES: Final = ".venv/bin/python -m pytest -q -rsf tests/test_examples.py -k '{}'"
COMMAND_S: Final = 3600.0
KEPT_LINES: Final = 60
UNTESTED: Final = "NOT TESTED"
"""What pytest says of what it skips, which is shown: a green line is not to hide it."""


class Step(NamedTuple):
    """A command of the README.

    Attributes:
        command: The command, without its prompt and its comment.
        by_root: Whether root types it, whoever tries the project.
    """

    command: str
    by_root: bool


def steps(text: str) -> list[Step]:
    """The commands of a page that are typed in a bare root."""
    found = []
    for block in re.findall(rf"^{re.escape(MARK)}\n+```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            prompt, command = line[:2], re.sub(r"\s+#\s.*$", "", line[2:])
            if prompt in ("# ", "$ "):
                found.append(Step(command, by_root=prompt == "# "))
    return found


def bundle(target: Path) -> None:
    """Write the last commit and its history into a file that git can clone from."""
    subprocess.run(["git", "-C", str(ROOT), "bundle", "create", "--quiet", str(target), "HEAD"], check=True)


def play(root: Path, text: str, user: str, only: re.Pattern[str], pages: str) -> Iterator[tuple[Step, int, str, float]]:
    """Type the commands of the README in a root, and those of pages; yield each with its status, text and seconds.

    Commands of ``make`` whose target does not match ``only`` are left out.
    """
    bundle(root / BUNDLE[1:])
    if user != "root":
        made = roots.run(root, f"useradd --create-home {user}", timeout_s=60)
        assert made.returncode == 0, made.stdout
    place = "cd"
    typed_by_us = [] if only.fullmatch("test") or not pages else [Step(PLAY_PAGES.format(pages), by_root=False)]
    for step in [*steps(text), *typed_by_us]:
        target = re.fullmatch(r"make (\S+)", step.command)
        if target and not only.fullmatch(target[1]):
            continue
        who = "root" if step.by_root else user
        began = time.monotonic()
        typed = step.command.replace("ADDRESS", BUNDLE)
        command = typed if step.by_root else f"{place} && {typed}"
        done = roots.run(root, command, user=who, timeout_s=COMMAND_S)
        yield step, done.returncode, done.stdout, time.monotonic() - began
        if done.returncode:
            return
        for directory in re.findall(r"\bcd (\S+)", step.command):
            place += f" && cd {directory}"


def main() -> int:
    """Try releases and users of choice; say what each command came to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suites", default=",".join(SUITES), help="releases of Debian (default: %(default)s)")
    parser.add_argument("--users", default=",".join(USERS), help="who tries it (default: %(default)s)")
    parser.add_argument("--only", default=".*", help="make's targets, a regular expression: demo|shim")
    parser.add_argument("--pages", default=PAGES, help="which pages, as pytest's -k has it (default: %(default)s)")
    parser.add_argument("--or-none", action="store_true", help="succeed where no root can be made; it is said")
    options = parser.parse_args()
    if reason := roots.unfit():
        print(f"NOT TESTED: no fresh machine; {reason}", file=sys.stderr)
        return 0 if options.or_none else 1
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    n_failed = 0
    for suite in options.suites.split(","):
        for user in options.users.split(","):
            with roots.copy(suite) as root:
                for step, status, said, seconds in play(root, text, user, re.compile(options.only), options.pages):
                    print(f"{'✗' if status else '✓'} {suite}, {user}: {step.command} ({seconds:.0f} s)", flush=True)
                    lines = said.splitlines()
                    if status:
                        n_failed += 1
                        print("\n".join([f"status {status}", *lines[-KEPT_LINES:]]), flush=True)
                    elif untested := [line for line in lines if UNTESTED in line]:
                        print("\n".join(untested), flush=True)
    return 1 if n_failed else 0


if __name__ == "__main__":
    sys.exit(main())
