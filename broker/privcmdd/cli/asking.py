# SPDX-License-Identifier: Apache-2.0
"""What the commands share that ask a broker: a connection, a domain by its name, the answer on standard output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import privcmd
from privcmd import _domids
from privcmdd.cli import output

if TYPE_CHECKING:
    import argparse

    from privcmd import Client


def client_of(parsed: argparse.Namespace) -> Client:
    """A connection to the broker that the options name."""
    return privcmd.Client(parsed.socket, timeout_s=parsed.timeout, job=parsed.job)


def domid(client: Client, named: int | str) -> int:
    """The number of a domain that is given by number or by name.

    Raises:
        PrivcmdError: ESRCH, no domain that the caller has a right to has this name; EEXIST, several have it.
    """
    if isinstance(named, int):
        return named
    return _domids.domid(named, [(domain.dom, domain.name) for domain in client.domains.list()])


def show(parsed: argparse.Namespace, value: Any, text: str) -> None:
    """Print an answer: a document under ``--json``, else its text."""
    print(output.as_json(value) if parsed.json else text, flush=True)
