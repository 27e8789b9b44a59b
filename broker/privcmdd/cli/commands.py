# SPDX-License-Identifier: Apache-2.0
"""The subcommands of ``privcmdctl`` as parsers: each with the common options, exit statuses and its own examples."""

from __future__ import annotations

import argparse

from privcmdd.cli.parser import Parser

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

TIMEOUT_S = 30.0
"""How long to wait for the broker by default; it may be busy with batches of a million frames."""
STATUS = """\
exit status:
  0  done
  1  the broker refused (the sentence on standard error begins with the errno's name), a check of the
     demonstration failed, or the output could not be written
  2  wrong usage: nothing was asked of the broker
  3  no broker answers there, or it went away
"""


class Commands:
    """Where subcommands are added.

    Args:
        actions: What ``add_subparsers`` of their parser returned.
    """

    def __init__(self, actions: Any) -> None:
        self._actions = actions

    def group(self, name: str, text: str, *, examples: str = "") -> Commands:
        """Add a command that has commands. Returns where these are added."""
        parent = self._actions.add_parser(name, help=text, description=_sentence(text), epilog=epilog("", examples))
        return Commands(parent.add_subparsers(title="commands", metavar="COMMAND", required=True))

    def add(
        self,
        name: str,
        run: Callable[[argparse.Namespace], int],
        text: str,
        about: str | None = None,
        *,
        status: str = "",
        examples: str = "",
    ) -> argparse.ArgumentParser:
        """Add a command.

        Args:
            name: Its word.
            run: Does it, and returns its exit status.
            text: One line, for the list of commands.
            about: What its help says; None: the same line.
            status: Its own exit statuses, beside those of all.
            examples: Command lines.
        """
        command: argparse.ArgumentParser = self._actions.add_parser(
            name, help=text, description=about or _sentence(text), epilog=epilog(status, examples),
            parents=[common(outermost=False)],
        )  # fmt: skip
        command.set_defaults(run=run)
        return command


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def epilog(status: str, examples: str) -> str:
    """The end of a command's help."""
    return f"{STATUS}{status}" + (f"\nexamples:\n{examples}" if examples else "")


def common(*, outermost: bool) -> argparse.ArgumentParser:
    """The options that may stand before or after the command. After it they have no defaults, to keep those before."""
    default: dict[str, Any] = {} if outermost else {"argument_default": argparse.SUPPRESS}
    common = Parser(add_help=False, **default)
    common.add_argument("--socket", metavar="PATH", help="the broker's socket")
    common.add_argument("--job", metavar="NAME", help="the job to belong to (default: PRIVCMDD_JOB; see `jobs --help`)")
    common.add_argument("--json", action="store_true", help="one JSON document instead of text")
    common.add_argument(
        "--timeout", metavar="S", type=float, help=f"seconds to wait for the broker (default {TIMEOUT_S:g})"
    )
    if outermost:
        common.set_defaults(timeout=TIMEOUT_S)
    return common
