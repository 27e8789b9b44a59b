# SPDX-License-Identifier: Apache-2.0
"""``privcmdctl ping``, ``health``, ``stats``, ``findings`` and ``explain``: how the broker is, and what it has met."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from privcmd.errors import NoBroker
from privcmd.run import _unanswered as unanswered
from privcmdd.cli import findings, output
from privcmdd.cli.asking import client_of, show
from privcmdd.cli.parser import wrong
from privcmdd.server.listen import drains
from privcmdd.service.suggest import meant

if TYPE_CHECKING:
    import argparse

    from privcmdd.cli.commands import Commands

NOT_READY: Final = 4
"""Exit status of ``health`` when the broker answers and takes no new clients."""
STATUS: Final = """\
  4  health: the broker is draining
"""
_HEALTH = """\
Tell a supervisor or a probe how the broker is. It is live when it answers, and ready when it takes new clients;
after the signal to stop it is draining: it answers what has arrived, and then ends.
"""
_EXPLAIN = """\
Print what the documentation says of a finding, of an errno (its name or number), or with `hypercalls` of all operations
of Xen's that are answered. Without ID, list what can be explained. No broker is needed.
"""


def _ping(parsed: argparse.Namespace) -> int:
    with client_of(parsed) as client:
        start = time.perf_counter()
        instance = client.ping()
        took_us = round((time.perf_counter() - start) * 1e6)
        show(
            parsed,
            {"instance": instance, "path": client.path, "round_trip_us": took_us},
            f"broker {instance} answers at {client.path} ({took_us} us)",
        )
    return 0


def _health(parsed: argparse.Namespace) -> int:
    try:
        with client_of(parsed) as client:
            health = client.health()
    except NoBroker as nobody:
        if not drains(nobody.details["path"]):
            raise
        state, facts, more = "draining", {}, ""
    else:
        state, facts, more = health.state, {"connections": health.connections}, f"; clients: {health.connections}"
    show(parsed, {"live": True, "state": state, **facts}, state + more)
    return 0 if parsed.live or state == "ready" else NOT_READY


def _stats(parsed: argparse.Namespace) -> int:
    with client_of(parsed) as client:
        stats = client.stats()
    if parsed.unanswered:
        counts = unanswered.most_often(stats["broker"]["unanswered"])
        text = output.table(("asked for", "times"), counts.items(), left=("asked for",))
        show(parsed, {"unanswered": counts}, text if counts else "the broker has answered all that programs asked for")
    else:
        show(parsed, stats, output.tree(stats))
    return 0


def _findings(parsed: argparse.Namespace) -> int:
    with client_of(parsed) as client:
        show(parsed, *findings.listed(client, clear=parsed.clear))
    return 0


def _explain(parsed: argparse.Namespace) -> int:
    from privcmd.run import _explain as explain  # noqa: PLC0415 - no other command needs it

    there = explain.everything()
    if parsed.id is None:
        show(parsed, {"ids": list(there)}, "\n".join(there))
        return 0
    name = explain.called(parsed.id)
    if name not in there:
        hint = meant(name, there) or "; `privcmdctl explain` lists what can be explained"
        return wrong(f"nothing is written about {parsed.id!r}{hint}", as_json=parsed.json)
    show(parsed, {"id": name, "text": there[name]}, f"{name}\n\n{there[name]}")
    return 0


def add_ping(commands: Commands) -> None:
    """Add the command."""
    commands.add(
        "ping", _ping, "ask whether the broker answers, and how fast", examples="  privcmdctl ping && echo it runs\n"
    )


def add_health(commands: Commands) -> None:
    """Add the command."""
    health = commands.add(
        "health", _health, "tell whether the broker is live, ready or draining", _HEALTH, status=STATUS,
        examples="  privcmdctl health --timeout 5\n  privcmdctl health --live\n",
    )  # fmt: skip
    health.add_argument("--live", action="store_true", help="succeed while it answers at all, draining too")


def add_stats(commands: Commands) -> None:
    """Add the command."""
    stats = commands.add(
        "stats", _stats, "print the broker's counters", examples="  privcmdctl stats --json | jq .mappings\n"
    )
    stats.add_argument(
        "--unanswered", action="store_true",
        help="only the operations of Xen that programs asked for and that the broker does not have, by name",
    )  # fmt: skip


def add_findings(commands: Commands) -> None:
    """Add the command."""
    found = commands.add("findings", _findings, "list what does harm on a real host, in silence", findings.ABOUT)
    found.add_argument("--clear", action="store_true", help="forget them afterwards")


def add_explain(commands: Commands) -> None:
    """Add the command."""
    explained = commands.add(
        "explain", _explain, "print the page about a finding or an errno", _EXPLAIN,
        examples="  privcmdctl explain frame-bits-lost\n  privcmdctl explain EDQUOT\n",
    )  # fmt: skip
    explained.add_argument("id", metavar="ID", nargs="?", help="as frame-bits-lost, EFAULT, 14 or hypercalls")
