# SPDX-License-Identifier: Apache-2.0
"""Make the man pages of the commands and their completion for bash, zsh and fish, from the parsers.

Usage: commands.py DIRECTORY

The files have the names and folders that systems look for below a prefix: ``share/man/man1`` and so on.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import shtab
from argparse_manpage.manpage import Manpage

from privcmdd import __version__
from privcmdd.cli import broker, ctl

COMMANDS: Final = (
    (ctl.command_line(), "look at a broker of simulated Xen guests, and run programs on a simulated Xen host"),
    (broker.command_line(), "the broker of simulated Xen guests"),
)
PLACES: Final = {
    "bash": "share/bash-completion/completions/{}",
    "zsh": "share/zsh/site-functions/_{}",
    "fish": "share/fish/vendor_completions.d/{}.fish",
}
MAN: Final = "share/man/man1/{}.1"
FILES: Final = ("FILE", "PATH")
"""Metavars of arguments that are the names of files."""


def actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """All arguments of a command and of its subcommands."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for below in action.choices.values():
                yield from actions(below)


def man_page(parser: argparse.ArgumentParser, about: str) -> str:
    """Make a man page; the environment's SOURCE_DATE_EPOCH sets its date."""
    data = {
        "project_name": f"privcmdd {__version__}",
        "description": about,
        "manual_title": "privcmdd",
        "manual_section": "1",
    }
    head, comments, lists = str(Manpage(parser, _data=data)).partition(".SH COMMENTS\n")
    # Exit statuses and examples are lists: man is not to fill their lines.
    return f"{head}{comments}.nf\n{lists}\n.fi\n"


def files() -> dict[str, str]:
    """Make all files: their places below a prefix, and what is in them."""
    made = {}
    for parser, about in COMMANDS:
        for action in actions(parser):
            if action.metavar in FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
        made[MAN.format(parser.prog)] = man_page(parser, about)
        for shell, place in PLACES.items():
            if shell in shtab.SUPPORTED_SHELLS:
                made[place.format(parser.prog)] = shtab.complete(parser, shell=shell)
    return made


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("directory", type=Path, metavar="DIRECTORY", help="the prefix")
    prefix = parser.parse_args().directory
    for shell in sorted(PLACES.keys() - {*shtab.SUPPORTED_SHELLS}):
        sys.stderr.write(f"NOT MADE: completion for {shell}, which shtab {shtab.__version__} does not know\n")
    for place, text in files().items():
        path = prefix / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
