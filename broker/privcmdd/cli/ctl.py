# SPDX-License-Identifier: Apache-2.0
"""The command ``privcmdctl``: looks at a broker and its domains, makes them, and runs programs on them.

Each subcommand has a module, and only the one that is asked for is imported: a run is started for each test of a suite.
"""

from __future__ import annotations

import sys

from privcmdd import __version__
from privcmdd.cli.commands import Commands, common, epilog
from privcmdd.cli.parser import USAGE_STATUS, Parser
from privcmdd.cli.streams import end_process, guarded

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Any

    from privcmd import PrivcmdError

COMMANDS = {
    "ping": "state.add_ping",
    "health": "state.add_health",
    "domain": "domains.add",
    "maps": "spaces.add_maps",
    "spaces": "spaces.add_spaces",
    "jobs": "jobs.add",
    "evict": "jobs.add_evict",
    "stats": "state.add_stats",
    "findings": "state.add_findings",
    "explain": "state.add_explain",
    "fault": "faults.add",
    "run": "run.add",
    "session": "session.add",
    "demo": "demo.add",
}
"""The function that adds each command to the parser, as the help lists them."""

_ABOUT = """\
Look at a privcmdd broker and its simulated domains, make and destroy domains, and see the whole at work.

The broker's socket is --socket, else $PRIVCMDD_SOCKET, else $XDG_RUNTIME_DIR/privcmdd/broker.sock, or
/run/privcmdd/broker.sock when only that is there. With --json a command prints one JSON document, and
nothing else, to standard output. Errors are sentences on standard error, or with --json one line of
JSON there: {"error": {"errno": 3, "name": "ESRCH", "text": ..., "details": ...}}.
"""
_EXAMPLES = """\
  privcmdctl ping && echo it runs
  privcmdctl domain create --kind hvm --memory 64M --hole 0xa0+0x20 --name guest
  privcmdctl run --domain hvm:64M -- xl list
  privcmdctl session -- ctest
  privcmdctl demo /usr/bin/ls
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Its words; None: those of this process, which ends with it.

    Returns:
        Its exit status.
    """
    status = guarded("privcmdctl", lambda: _main(sys.argv[1:] if arguments is None else arguments))
    return end_process(status) if arguments is None else status


def _main(arguments: Sequence[str]) -> int:
    if not arguments:
        command_line().print_help(sys.stderr)
        return USAGE_STATUS
    parsed = command_line(_command(arguments)).parse_args(arguments)
    from privcmd.errors import PrivcmdError  # noqa: PLC0415 - not to say what is wrong with the usage

    try:
        return int(parsed.run(parsed))
    except PrivcmdError as error:
        return _complain(error, as_json=parsed.json)


def _complain(error: PrivcmdError, *, as_json: bool) -> int:
    """Say what went wrong. Returns the exit status for that."""
    from privcmd.errors import BrokerGone, NoAnswer, NoBroker  # noqa: PLC0415 - for a failure only
    from privcmdd.cli import output  # noqa: PLC0415

    if as_json:
        output.complain_as_json(error.errno or 0, error.name, error.text, error.details)
    else:
        output.complain(str(error))
    return 3 if isinstance(error, (NoBroker, BrokerGone, NoAnswer)) else 1


def _command(arguments: Sequence[str]) -> str | None:
    """The command among the arguments; None when that takes a parser of them all to say."""
    words = iter(arguments)
    for word in words:
        if word in ("--socket", "--timeout", "--job"):
            next(words, None)
        elif word in COMMANDS:
            return word
        elif word != "--json" and not word.startswith(("--socket=", "--timeout=", "--job=")):
            return None
    return None


def command_line(only: str | None = None) -> argparse.ArgumentParser:
    """Make the parser of the command.

    Args:
        only: The one subcommand that it is to know; None: all.
    """
    status = "" if only else "".join(_module(name).STATUS for name in ("state", "run"))
    parser = Parser(
        prog="privcmdctl", description=_ABOUT, epilog=epilog(status, _EXAMPLES), parents=[common(outermost=True)]
    )
    parser.add_argument("--version", action="version", version=f"privcmdctl {__version__}")
    commands = Commands(parser.add_subparsers(title="commands", metavar="COMMAND", required=True, prog=parser.prog))
    for name in [only] if only else COMMANDS:
        module, function = COMMANDS[name].split(".")
        getattr(_module(module), function)(commands)
    return parser


def _module(name: str) -> Any:
    """A module of this package, without importlib, which is slow to import itself."""
    return __import__(f"privcmdd.cli.{name}", fromlist=["privcmdd.cli"])


if __name__ == "__main__":
    sys.exit(main())
