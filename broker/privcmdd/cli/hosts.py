# SPDX-License-Identifier: Apache-2.0
"""The options of ``privcmdctl run`` and ``session`` that say what host is simulated: its configuration and domains."""

from __future__ import annotations

import os

from privcmdd.cli.arguments import guest, of_host, setting

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Any

    from privcmd.run._guests import DomainConfig
    from privcmdd.service.settings import MachineSize

_MIB_PAGES = 256
_PREFIX = "PRIVCMDD_"
_HEEDED = ("SOCKET", "CLIENT", "SAY", "PRELOAD", "SESSION", "DOMID", "DOMAINS", "RUNTIME", "BROKER_TIMEOUT")
_LIKENESS = 0.75  # Kubernetes sets PRIVCMDD_PORT and PRIVCMDD_SERVICE_HOST for a service called privcmdd


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    parser.add_argument("--config", metavar="FILE", help="the configuration of the broker that is started")
    parser.add_argument(
        "--set", metavar="TABLE.KEY=VALUE", type=setting, action="append", default=[],
        help="set one key of that configuration; may be given again",
    )  # fmt: skip
    parser.add_argument(
        "--host", metavar="KEY=VALUE,...", type=of_host, action="append", default=[],
        help="the host that is simulated, as xen=4.20,dom0=pvh: keys of the table host",
    )  # fmt: skip
    parser.add_argument(
        "--domain", metavar="KIND:SIZE[:NAME]", type=guest, action="append", default=[],
        help="a domain to make first, as hvm:64M, pv:16M:name or hvm:64M,hole=0x1000+0x100; may be given again",
    )  # fmt: skip


def is_chosen(parsed: argparse.Namespace) -> bool:
    """Whether the options say anything of a host's configuration."""
    return bool(parsed.config is not None or parsed.set or parsed.host)


def keywords(parsed: argparse.Namespace, *, joins: bool = False) -> dict[str, Any]:
    """What the options say, as keywords of ``privcmd.run.run`` and of ``privcmd.run._session.session``.

    Args:
        parsed: The options.
        joins: Whether a broker is joined, which is asked for the domains at once.

    Raises:
        ValueError: The configuration has a mistake: the text names it.
    """
    config = machine = None
    settings = [*parsed.set, *(one for each in parsed.host for one in each)]
    if is_chosen(parsed):
        from privcmdd.server.config import ConfigError, load  # noqa: PLC0415 - slow to import, and few choose

        try:  # a mistake in the configuration is wrong usage, so it is found before anything is started
            flags = [(one.partition("=")[0], one.partition("=")[2]) for one in settings]
            machine = load(parsed.config, environ={}, flags=flags).settings.machine
        except ConfigError as error:
            raise ValueError(str(error)) from error
    if parsed.config is not None:
        with open(parsed.config, encoding="utf-8") as file:  # noqa: PTH123 - pathlib is slow to import
            config = file.read()
    lazily = not joins and _are_sure(parsed.domain, machine)
    return {"config": config, "settings": settings, "guests": parsed.domain, "lazily": lazily}


def _are_sure(guests: Sequence[DomainConfig], machine: MachineSize | None) -> bool:
    """Whether a broker refuses none of these domains for sure, so that they need not be made before the program runs.

    Args:
        guests: The domains.
        machine: What the configuration says of the machine; None: there is none.
    """
    if not guests:
        return True
    from privcmdd.service.settings import MachineSize  # noqa: PLC0415 - as above
    from privcmdd.wire.limits import NAME_CHARACTERS  # noqa: PLC0415

    machine = machine or MachineSize()
    return (
        len(guests) <= machine.domains
        and sum(guest.n_pages for guest in guests) <= machine.memory_mib * _MIB_PAGES // 2
        and all(sum(guest.ranges[-1]) <= machine.gfns_per_domain for guest in guests)
        and all(len(guest.name) <= NAME_CHARACTERS and guest.name.isprintable() for guest in guests)
    )


def say_ignored(by: str, parsed: argparse.Namespace) -> None:
    """Say on standard error which variables of the environment a command does not heed, unless it writes JSON there."""
    sentences = [] if parsed.json else ignored(by)
    if sentences:
        from privcmdd.cli import output  # noqa: PLC0415 - slow to import, and there is seldom anything to say

        for one in sentences:
            output.complain(one)


def ignored(by: str) -> list[str]:
    """Sentences about variables of the environment that a command does not heed, and that somebody meant for us."""
    ours = sorted(name.removeprefix(_PREFIX) for name in os.environ if name.startswith(_PREFIX))
    said = []
    if of_broker := [f"{_PREFIX}{name}" for name in ours if name == "PARANOID" or "__" in name]:
        verb = "is" if len(of_broker) == 1 else "are"
        said.append(f"{', '.join(of_broker)} {verb} ignored by {by}: use --config, --set or --host")
    said += [sentence for name in ours if name not in _HEEDED and "__" not in name and (sentence := _misspelt(name))]
    return said


def _misspelt(name: str) -> str:
    """A sentence about a variable that nothing heeds and that is like one that is heeded; or empty."""
    import difflib  # noqa: PLC0415 - only for a mistake

    from privcmdd.server.keys import KEYS  # noqa: PLC0415

    there = [*_HEEDED, *(key.variable.removeprefix(_PREFIX) for key in KEYS)]
    near = difflib.get_close_matches(name, there, n=1, cutoff=_LIKENESS)
    return f"{_PREFIX}{name} is ignored; did you mean {_PREFIX}{near[0]}?" if near and near[0] != name else ""
