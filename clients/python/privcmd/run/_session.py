# SPDX-License-Identifier: Apache-2.0
"""``privcmdctl session``: one host for all runs of a command, as dbus-run-session has one bus for all its programs.

The command is told of it in its environment, where each ``privcmdctl run`` finds it. A run in a session joins its
broker, which is started for the first one, and takes its own domains away at its end.
"""

from __future__ import annotations

import os

from privcmd.run import _program as program
from privcmd.run import _reach as reach
from privcmd.run import host
from privcmd.run._guests import SESSION, told

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    from collections.abc import Sequence

    from privcmd.run._guests import DomainConfig


def session(
    command: Sequence[str],
    *,
    config: str | None = None,
    settings: Sequence[str] = (),
    guests: Sequence[DomainConfig] = (),
    lazily: bool = False,
) -> int:
    """Run a command in a session of its own.

    Args:
        command: The program and its arguments; nothing is preloaded into it.
        config: Configuration of the broker, as TOML text.
        settings: Keys of that configuration that are otherwise, each as TABLE.KEY=VALUE.
        guests: Domains to make, which all runs find.
        lazily: Whether the broker may be started, and the domains be made, when the first client comes.

    Returns:
        The command's exit status. A signal that ended it ends us as well.

    Raises:
        PrivcmdError: The program is not there, or a domain cannot be made.
        NoBroker: The broker did not start.
    """
    path = reach.which(command[0])
    if path is None:
        raise reach.missing(command[0])
    try:
        with program.ending():
            with host.running(guests, config=config, settings=settings, store=False, lazily=lazily) as here:
                env = {**os.environ, "PRIVCMDD_SOCKET": here.socket, SESSION: here.socket}
                status = program.execute(path, command[1:], told(env, here.doms, guests))
                if here.error is not None:
                    raise here.error
            return program.end_as(status)
    except program.Ended as ended:
        return program.end_as(-ended.number)
