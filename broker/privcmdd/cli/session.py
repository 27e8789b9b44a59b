# SPDX-License-Identifier: Apache-2.0
"""``privcmdctl session``: its options, and what they mean to ``privcmd.run._session``."""

from __future__ import annotations

import argparse

from privcmdd.cli import hosts
from privcmdd.cli.parser import wrong

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from privcmdd.cli.commands import Commands

_ABOUT = """\
Run a command, such as a whole test suite, in which all `privcmdctl run` share one broker: a broker takes part of a
second to start, and to join one takes next to nothing. It is started for the first run, and ends with the command,
whose exit status, or the signal that ended it, is handed on.

A run in a session makes its own domains, by the lowest numbers that are free, destroys them at its end, and reports
only what its own programs did. Runs at one time get different numbers, which PRIVCMDD_DOMID tells each. The domains of
the session itself (--domain) are there for all. A run with --config, --set or --host has a broker of its own, and so
has one with --socket, which joins another one.
"""
_EXAMPLES = """\
  privcmdctl session -- ctest
  privcmdctl session --host xen=4.20 -- make check
"""


def add(commands: Commands) -> None:
    """Add the command."""
    session = commands.add(
        "session", _session, "run a command in which all runs share one broker", _ABOUT, examples=_EXAMPLES
    )
    hosts.options(session)
    session.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND ...", help="what to run")


def _session(parsed: argparse.Namespace) -> int:
    from privcmd.run._session import session  # noqa: PLC0415 - not for the help

    command = parsed.command[1:] if parsed.command[:1] == ["--"] else parsed.command
    if not command:
        return wrong("nothing to run: privcmdctl session [OPTIONS] -- COMMAND ARGUMENTS", as_json=parsed.json)
    if parsed.socket is not None:
        return wrong("a session starts a broker of its own: leave out --socket", as_json=parsed.json)
    if parsed.job is not None:
        return wrong("each run in a session has a job of its own: leave out --job", as_json=parsed.json)
    try:
        wanted = hosts.keywords(parsed)
    except ValueError as error:
        return wrong(str(error), as_json=parsed.json)
    hosts.say_ignored("session", parsed)
    return session(command, **wanted)
