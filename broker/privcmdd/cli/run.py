# SPDX-License-Identifier: Apache-2.0
"""``privcmdctl run``: its options, and what they mean to ``privcmd.run``."""

from __future__ import annotations

import argparse
import os

from privcmdd.cli.arguments import SPEC, guest, of_host, seconds, setting
from privcmdd.cli.parser import wrong
from privcmdd.service.suggest import meant

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from privcmd.run._guests import Guest
    from privcmdd.cli.commands import Commands
    from privcmdd.service.settings import MachineSize

_MIB_PAGES = 256
_WISHES = ("errors", "times")  # what PRIVCMDD_SAY takes, separated by commas: clients/c/say.h

STATUS = """\
  97 run --faults=error: a rule of --fault never made anything fail
  98 run --findings=error: the program did what harms a real host in silence
  99 run --leaks=error: the program left mappings, or processes, behind; otherwise run ends as the program does
"""

_ABOUT = """\
Run a program that maps guest memory through libxenforeignmemory or /dev/xen/privcmd, unmodified, as if this were a
Xen host. The shim is preloaded; a broker of its own is started when it is needed, or with --socket an existing one is
joined; the program's exit status, or the signal that ended it, is handed on. Mappings that it leaves behind are
listed at the end, with the request that made each, and so is what does harm on a real host, in silence
(`privcmdctl findings --help`). Processes that it leaves running are named, and ended after --linger.
Where Xen's own xenstored is installed, there is one beside the program.

With --json all that `run` itself has to say of the program is one line of JSON on standard error, the last one, and
always a line of its own (an empty one comes before it, as the program may not have ended its last line):
status, signal, leaks, findings, faults, unanswered, running. Standard output is the program's.

Programs that are statically linked or setuid cannot be preloaded into, and are refused with the reason.
"""
_EXAMPLES = """\
  privcmdctl run --domain hvm:64M -- xl list
  privcmdctl run --domain hvm:64M --leaks=error --findings=error -- ./device-model 1
"""


def add(commands: Commands) -> None:
    """Add the command."""
    run = commands.add(
        "run", _run, "run an unmodified Xen program on a simulated host", _ABOUT, status=STATUS, examples=_EXAMPLES
    )
    run.add_argument("--config", metavar="FILE", help="the configuration of the broker that is started for it")
    run.add_argument(
        "--set", metavar="TABLE.KEY=VALUE", type=setting, action="append", default=[],
        help="set one key of that configuration; may be given again",
    )  # fmt: skip
    run.add_argument(
        "--host", metavar="KEY=VALUE,...", type=of_host, action="append", default=[],
        help="the host that is simulated, as xen=4.20,dom0=pvh: keys of the table host",
    )  # fmt: skip
    run.add_argument(
        "--domain", metavar="KIND:SIZE[:NAME]", type=guest, action="append", default=[],
        help="a domain to make first, as hvm:64M or hvm:64M,hole=0xa0+0x20:name; may be given again",
    )  # fmt: skip
    run.add_argument(
        "--leaks", choices=("report", "error"), default="report",
        help="how to report mappings and processes left behind: a line each, or also exit status 99",
    )  # fmt: skip
    run.add_argument(
        "--findings", choices=("report", "error", "ignore"), default="report",
        help="how to report findings: a paragraph each, also exit status 98, or nothing",
    )  # fmt: skip
    run.add_argument(
        "--faults", choices=("report", "error"), default="report",
        help="how to report a rule of --fault that never made anything fail: a line, or also exit status 97",
    )  # fmt: skip
    run.add_argument(
        "--xenstore", action=argparse.BooleanOptionalAction,
        help="run Xen's xenstored beside the program, or do not (default: where it is installed and XENSTORED_RUNDIR "
        "names no other)",
    )  # fmt: skip
    run.add_argument(
        "--qemu", metavar="ARGUMENTS", type=_words,
        help="run QEMU's Xen device model for the first hvm domain, with these arguments as well, and wait until it is "
        "running; as --qemu='-drive file=disk.img,if=ide,format=raw'",
    )  # fmt: skip
    run.add_argument(
        "--fault", metavar="SPEC", type=_rule, action="append", default=[],
        help=f"make requests or frames of the program fail: {SPEC}; may be given again",
    )  # fmt: skip
    run.add_argument(
        "--linger", metavar="SECONDS", type=seconds, default=5.0,
        help="how long what the program leaves running may go on before it is ended (default: 5)",
    )  # fmt: skip
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="-- PROGRAM ...", help="what to run")


def _rule(text: str) -> dict[str, Any]:
    """A rule of injection, as arguments of ``Client.faults.add``. Raises argparse.ArgumentTypeError."""
    from privcmdd.cli import faults  # noqa: PLC0415 - slow to import, and few programs are made to fail

    return faults.rule_of(text)


def _words(text: str) -> list[str]:
    """A command line's words, as a shell splits them. Raises ValueError."""
    import shlex  # noqa: PLC0415 - slow to import, and few runs have a QEMU

    return shlex.split(text)


def _run(parsed: argparse.Namespace) -> int:
    from privcmd import run  # noqa: PLC0415 - not for the help

    command = parsed.command[1:] if parsed.command[:1] == ["--"] else parsed.command
    if not command:
        return wrong("nothing to run: privcmdctl run [OPTIONS] -- PROGRAM ARGUMENTS", as_json=parsed.json)
    for wish in filter(None, os.environ.get("PRIVCMDD_SAY", "").split(",")):
        if wish not in _WISHES:
            there = " or ".join(_WISHES)
            return wrong(
                f"PRIVCMDD_SAY is {wish!r}, expected {there}, or both{meant(wish, _WISHES)}", as_json=parsed.json
            )
    config = machine = None
    settings = [*parsed.set, *(one for each in parsed.host for one in each)]
    if parsed.socket is not None and (parsed.config is not None or settings):
        return wrong(
            "--config, --set and --host are for the broker that run starts: leave out --socket", as_json=parsed.json
        )
    if parsed.config is not None or settings:
        from privcmdd.server.config import ConfigError, load  # noqa: PLC0415 - no other command needs it

        try:  # a mistake in the configuration is wrong usage, so it is found before the broker starts
            flags = [(one.partition("=")[0], one.partition("=")[2]) for one in settings]
            machine = load(parsed.config, environ={}, flags=flags).settings.machine
        except ConfigError as error:
            return wrong(str(error), as_json=parsed.json)
        if parsed.config is not None:
            with open(parsed.config, encoding="utf-8") as file:  # noqa: PTH123 - pathlib is slow to import
                config = file.read()
    if not parsed.json:
        _say_ignored()
    return run.run(
        command,
        socket=parsed.socket,
        config=config,
        settings=settings,
        guests=parsed.domain,
        lazily=_are_sure(parsed.domain, machine),
        xenstore=parsed.xenstore,
        device_model=parsed.qemu,
        faults=parsed.fault,
        linger_s=parsed.linger,
        leaks=parsed.leaks,
        findings=parsed.findings,
        never_fired=parsed.faults,
        as_json=parsed.json,
    )


def _are_sure(guests: Sequence[Guest], machine: MachineSize | None) -> bool:
    """Whether a broker refuses none of these domains for sure, so that they need not be made before the program runs.

    Args:
        guests: The domains.
        machine: What the configuration says of the machine; None: there is none.
    """
    if not guests:
        return True
    from privcmd.run._guests import around  # noqa: PLC0415 - as above
    from privcmdd.service.settings import MachineSize  # noqa: PLC0415
    from privcmdd.wire.limits import NAME_CHARACTERS  # noqa: PLC0415

    machine = machine or MachineSize()
    return (
        len(guests) <= machine.domains
        and sum(guest.n_pages for guest in guests) <= machine.memory_mib * _MIB_PAGES // 2
        and all(sum(around(guest.n_pages, guest.holes)[-1]) <= machine.gfns_per_domain for guest in guests)
        and all(len(guest.name) <= NAME_CHARACTERS and guest.name.isprintable() for guest in guests)
    )


def _say_ignored() -> None:
    """Say which variables of the environment configure `privcmdd serve` and not the broker of a run."""
    ours = [name for name in os.environ if name.startswith("PRIVCMDD_")]
    ignored = sorted(name for name in ours if name == "PRIVCMDD_PARANOID" or "__" in name)
    if ignored:
        verb = "is" if len(ignored) == 1 else "are"
        from privcmdd.cli import output  # noqa: PLC0415 - as above

        output.complain(f"{', '.join(ignored)} {verb} ignored by run: use --config, --set or --host")
