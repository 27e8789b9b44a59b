# SPDX-License-Identifier: Apache-2.0
"""``privcmdctl demo``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from privcmd._demo import demonstrate
from privcmdd.server.logs import coloured

if TYPE_CHECKING:
    import argparse

    from privcmdd.cli.commands import Commands


def _demo(parsed: argparse.Namespace) -> int:
    return demonstrate(parsed.file, as_json=parsed.json, colour=coloured(sys.stdout))


def add(commands: Commands) -> None:
    """Add the command."""
    demo = commands.add(
        "demo", _demo, "start a broker and device models, and check what they promise, step by step",
        examples="  privcmdctl demo /usr/bin/ls\n",
    )  # fmt: skip
    demo.add_argument("file", metavar="FILE", nargs="?", help="a file to load into guest memory (default: this Python)")
