# SPDX-License-Identifier: Apache-2.0
"""What a newcomer types, in a bare root: the first commands of the README, as root and as an ordinary user.

Lines of the block marked ``<!-- run in a bare root -->`` that begin with # are typed by root, those with $ by whoever
tries the project. They are typed as they stand there, but for ADDRESS: what is cloned is the last commit of this
checkout.
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
COMMAND_S: Final = 3600.0
KEPT_LINES: Final = 60


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


def play(root: Path, text: str, user: str, only: re.Pattern[str]) -> Iterator[tuple[Step, str, float]]:
    """Type the commands of a page in a root; yield each with what it said, "" when it succeeded, and its seconds.

    Commands of ``make`` whose target does not match ``only`` are left out.
    """
    bundle(root / BUNDLE[1:])
    if user != "root":
        made = roots.run(root, f"useradd --create-home {user}", timeout_s=60)
        assert made.returncode == 0, made.stdout
    place = "cd"
    for step in steps(text):
        target = re.fullmatch(r"make (\S+)", step.command)
        if target and not only.fullmatch(target[1]):
            continue
        who = "root" if step.by_root else user
        began = time.monotonic()
        typed = step.command.replace("ADDRESS", BUNDLE)
        command = typed if step.by_root else f"{place} && {typed}"
        done = roots.run(root, command, user=who, timeout_s=COMMAND_S)
        yield step, "" if done.returncode == 0 else f"status {done.returncode}\n{done.stdout}", time.monotonic() - began
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
    options = parser.parse_args()
    if reason := roots.unfit():
        print(f"NOT TESTED: no fresh machine; {reason}", file=sys.stderr)
        return 1
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    n_failed = 0
    for suite in options.suites.split(","):
        for user in options.users.split(","):
            with roots.copy(suite) as root:
                for step, said, seconds in play(root, text, user, re.compile(options.only)):
                    mark = "✗" if said else "✓"
                    print(f"{mark} {suite}, {user}: {step.command} ({seconds:.0f} s)", flush=True)
                    if said:
                        n_failed += 1
                        print("\n".join(said.splitlines()[-KEPT_LINES:]), flush=True)
    return 1 if n_failed else 0


if __name__ == "__main__":
    sys.exit(main())
