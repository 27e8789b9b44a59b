# SPDX-License-Identifier: Apache-2.0
"""``python3 -m privcmd.run``: a program on a host that is there already, where only the client is installed."""

from __future__ import annotations

import argparse
import os
import sys

from privcmd import run
from privcmd._connect import socket_path
from privcmd.errors import PrivcmdError


def main() -> int:
    """Run a program under the shim.

    Returns:
        Its exit status; 1 when it could not be run, 3 when no broker answers.
    """
    parser = argparse.ArgumentParser(
        prog="python3 -m privcmd.run",
        description="Run a program under the shim beside a broker that runs already. `privcmdctl run`, which can start "
        "one, is in the package privcmdd.",
    )
    parser.add_argument("--socket", metavar="PATH", help="the broker's socket")
    parser.add_argument("--leaks", choices=("report", "error"), default="report", help="what mappings left behind are")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- PROGRAM ARGUMENTS")
    parsed = parser.parse_args()
    command = parsed.command[1:] if parsed.command[:1] == ["--"] else parsed.command
    if not command:
        parser.error("nothing to run")
    try:
        return run.run(command, socket=socket_path(parsed.socket), leaks=parsed.leaks)
    except PrivcmdError as error:
        sys.stderr.write(f"privcmd.run: {error}{os.linesep}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
