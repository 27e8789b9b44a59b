# SPDX-License-Identifier: Apache-2.0
"""The parser of both commands: help that fits the terminal, and errors that suggest what was probably meant."""

from __future__ import annotations

import argparse
import errno
import os
import re
import sys

from privcmdd.cli.streams import guarded
from privcmdd.service.suggest import meant

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Never

    from _typeshed import SupportsWrite

# argparse asks for a translation of each of its words, in a dozen places of the file system each; there are none.
argparse._ = str  # type: ignore[attr-defined]
USAGE_STATUS = 2
"""Exit status of wrong usage."""
_CHOICE = r"(argument .*?: )?invalid choice: '(.*?)' \(choose from (.*)\)"
_ITEM = r"( {2}(?:\d+|\S+(?:, \S+)*(?= {2})) +)\S"


class Help(argparse.HelpFormatter):
    """Wraps paragraphs to the terminal. Indented lines, which are examples and lists, are not joined."""

    def __init__(self, prog: str, **keywords: Any) -> None:
        # argparse makes one of these for each option that it gets, and would import shutil for the terminal's width.
        super().__init__(prog, **{"width": _columns() - 2, **keywords})

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(_filled(block, width, indent) for block in text.strip("\n").split("\n\n"))


def _columns() -> int:
    """The terminal's width, as ``shutil.get_terminal_size`` says it."""
    named = os.environ.get("COLUMNS", "")
    if named.isdecimal() and int(named):
        return int(named)
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


def _filled(block: str, width: int, indent: str) -> str:
    import textwrap  # noqa: PLC0415 - for the help only

    if not re.search(r"^ ", block, re.MULTILINE):
        return textwrap.fill(" ".join(block.split()), width, initial_indent=indent, subsequent_indent=indent)
    lines: list[str] = []
    for line in block.splitlines():
        if lines and line.startswith("     "):  # an item goes on
            lines[-1] += " " + line.strip()
        else:
            lines.append(line)
    return "\n".join(indent + each for line in lines for each in _item(line, width))


def _item(line: str, width: int) -> list[str]:
    """The lines of one list item, wrapped and indented under its text; a command stays one line, to be copied."""
    import textwrap  # noqa: PLC0415 - for the help only

    item = re.match(_ITEM, line)
    if item is None:
        return [line]
    return textwrap.wrap(line, width, subsequent_indent=" " * len(item[1]), break_on_hyphens=False)


class Parser(argparse.ArgumentParser):
    """A parser of a command or of one of its subcommands; argparse makes these with the same class."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**{"formatter_class": Help, "allow_abbrev": False, **keywords})

    def parse_known_args(  # type: ignore[override]  # argparse has two signatures, we need one
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse. Words that are left over are an error of the subcommand that they were given to."""
        found, left = super().parse_known_args(args, namespace)
        if left:
            self.error(self.unrecognised(left))
        return found, []

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Print the help; a full disk is reported, as for any output."""

        def written() -> int:
            (sys.stdout if file is None else file).write(self.format_help())  # argparse's own hides errors
            return 0

        if status := guarded(self.prog, written):
            self.exit(status)

    def error(self, message: str) -> Never:
        """Say what is wrong on standard error, as JSON under ``--json``, and end with status 2."""
        text = self.corrected(message)
        if "--json" in _before_program(sys.argv[1:]):
            self.exit(wrong(text, as_json=True))
        self.print_usage(sys.stderr)
        self.exit(USAGE_STATUS, f"{self.prog}: error: {text}\n")

    def corrected(self, message: str) -> str:
        """Argparse's message, with a guess of what was meant in place of the list of all choices."""
        if (choice := re.fullmatch(_CHOICE, message, re.DOTALL)) is None:
            return message
        there = re.findall(r"[^\s',]+", choice[3])
        if not self._is_command(there):
            return f"{choice[1] or ''}{choice[2]!r} is none of {', '.join(there)}{meant(choice[2], there)}"
        return f"there is no command {choice[2]!r}{meant(choice[2], there) or ', there are: ' + ', '.join(there)}"

    def unrecognised(self, words: Sequence[str]) -> str:
        """The sentence about words that no option or argument takes."""
        name = words[0].partition("=")[0]
        options = [option for action in self._actions for option in action.option_strings]
        hint = meant(name, options) if name.startswith("-") else ""
        return f"unrecognized arguments: {' '.join(words)}{hint}"

    def _is_command(self, choices: Iterable[str]) -> bool:
        return any(
            isinstance(action, argparse._SubParsersAction) and set(choices) <= action.choices.keys()  # noqa: SLF001
            for action in self._actions
        )


def _before_program(words: Sequence[str]) -> Sequence[str]:
    """The words before the program that `run` runs, whose options are its own."""
    return words[: words.index("--")] if "--" in words else words


def wrong(text: str, *, as_json: bool) -> int:
    """Say what is wrong with the usage, on standard error. Returns the exit status for that."""
    from privcmdd.cli import output  # noqa: PLC0415 - for a mistake only

    if as_json:
        output.complain_as_json(errno.EINVAL, "EINVAL", text)
    else:
        output.complain(text)
    return USAGE_STATUS
