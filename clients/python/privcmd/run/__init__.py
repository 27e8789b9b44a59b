# SPDX-License-Identifier: Apache-2.0
"""``privcmdctl run``: an unmodified Xen program on a simulated host, as fakeroot runs one as root.

A broker is started (or joined), domains are made, the program runs with the shim preloaded, and its exit status
or signal is handed on. What it left mapped is said at the end.
"""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass, field
from typing import Any, Final

from privcmd.broker import PrivateBroker
from privcmd.client import Client
from privcmd.errors import BrokerGone
from privcmd.run import program, reach, xenstore
from privcmd.run.leaks import Watch

LEAKED: Final = 99
"""Exit status of a program that left mappings behind, when leaks are errors."""


@dataclass(frozen=True, slots=True)
class Guest:
    """A domain to make before the program starts."""

    kind: str
    n_pages: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Options:
    """What to run, and where.

    Attributes:
        command: The program and its arguments.
        socket: A broker to join; None starts one of our own.
        config: Configuration of our own broker, as TOML text.
        guests: Domains to make first.
        leaks: ``report`` or ``error``.
        xenstore: Whether to run xenstored beside the program, where it is installed.
        faults: Rules by which requests of the program fail, as arguments of ``Client.faults.add``.
    """

    command: list[str]
    socket: str | None = None
    config: str | None = None
    guests: list[Guest] = field(default_factory=list)
    leaks: str = "report"
    xenstore: bool = True
    faults: list[dict[str, Any]] = field(default_factory=list)


def run(options: Options) -> int:
    """Run a program to its end.

    Returns:
        Its exit status, or ``LEAKED``. A signal that ended it ends us as well.

    Raises:
        PrivcmdError: The program cannot be reached (``reach.Unreachable``), a domain cannot be made, the shim is not
            built.
        NoBroker: No broker answers, or ours did not start.
    """
    try:
        with program.ending():
            return _run(options)
    except program.Ended as ended:
        return program.end_as(-ended.number)


def _run(options: Options) -> int:
    path = reach.check(options.command[0])
    token = f"run-{os.getpid()}"
    with contextlib.ExitStack() as stack:
        socket = options.socket
        if socket is None:
            socket = stack.enter_context(PrivateBroker(options.config)).path
        store = stack.enter_context(xenstore.running(socket)) if options.xenstore else None
        client = stack.enter_context(Client(socket))
        for guest in options.guests:
            client.domains.create(guest.kind, guest.n_pages, name=guest.name)
        env = program.environment(socket, token)
        if store is not None:
            env["XENSTORED_RUNDIR"] = str(store)
            domains = ((domain.dom, domain.name) for domain in client.domains.list() if domain.name)
            xenstore.name(store, [(0, "Domain-0"), *domains])
        for rule in options.faults:
            client.faults.add(**{"client": f"* {token}", **rule})
        watch = Watch(client, token)
        status = program.execute(path, options.command[1:], env)
        try:
            leaks = watch.settle()
        except BrokerGone as gone:
            sys.stderr.write(f"privcmdctl: what the program left mapped is not known: {gone}\n")
            leaks = []
    for leak in leaks:
        sys.stderr.write(f"privcmdctl: still mapped: {leak}\n")
    if leaks and options.leaks == "error":
        return LEAKED
    return program.end_as(status)
