# SPDX-License-Identifier: Apache-2.0
"""``privcmdctl run``: its options, and what they mean to ``privcmd.run``."""

from __future__ import annotations

import argparse
import os

from privcmdd.cli import hosts
from privcmdd.cli.arguments import SPEC, number, seconds
from privcmdd.cli.parser import wrong
from privcmdd.service.suggest import meant

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    from typing import Any

    from privcmdd.cli.commands import Commands

_WISHES = ("errors", "times")  # what PRIVCMDD_SAY takes, separated by commas: clients/c/say.h
_TIMEOUT = "PRIVCMDD_BROKER_TIMEOUT"  # clients/c/patience.h

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
status, signal, leaks, findings, faults, unanswered, running, asked. Standard output is the program's.

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
    hosts.options(run)
    run.add_argument(
        "--keep", action="store_true", help="with --socket: leave the domains there that are made (default: they go)"
    )
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
        "--device-model", metavar="COMMAND", type=_words, action="append", default=[],
        help="run a device model of your own, under the shim, beside the program: it is started before and ended after "
        "it; may be given again",
    )  # fmt: skip
    run.add_argument(
        "--wait-ioreq", metavar="N", type=number, default=0,
        help="run the program when the domains have N ioreq servers that are enabled",
    )  # fmt: skip
    run.add_argument(
        "--ready", metavar="COMMAND",
        help="run the program when this shell command succeeds, which is run again and again until it does",
    )  # fmt: skip
    run.add_argument(
        "--fault", metavar="SPEC", type=_rule, action="append", default=[],
        help=f"make requests or frames of the program fail: {SPEC}; may be given again",
    )  # fmt: skip
    run.add_argument(
        "--linger", metavar="SECONDS", type=seconds, default=5.0,
        help="how long what the program leaves running may go on before it is ended (default: 5)",
    )  # fmt: skip
    run.add_argument(
        "--broker-timeout", metavar="SECONDS", type=seconds, default=os.environ.get(_TIMEOUT) or "30",
        help="how long a call of the program waits for the broker before it fails with ETIMEDOUT; 0 is for ever "
        "(default: 30, or what PRIVCMDD_BROKER_TIMEOUT says)",
    )  # fmt: skip
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="-- PROGRAM ...", help="what to run")


def _rule(text: str) -> dict[str, Any]:
    """A rule of injection, as ``privcmd.run.run`` takes it. Raises argparse.ArgumentTypeError."""
    from privcmdd.cli import faults  # noqa: PLC0415 - slow to import, and few programs are made to fail

    return faults.rule_of(text)


def _words(text: str) -> list[str]:
    """A command line's words, as a shell splits them. Raises ValueError."""
    import shlex  # noqa: PLC0415 - slow to import, and few runs have a QEMU

    return shlex.split(text)


def _run(parsed: argparse.Namespace) -> int:
    from privcmd import run  # noqa: PLC0415 - not for the help
    from privcmd.run._guests import SESSION  # noqa: PLC0415

    command = parsed.command[1:] if parsed.command[:1] == ["--"] else parsed.command
    if not command:
        return wrong("nothing to run: privcmdctl run [OPTIONS] -- PROGRAM ARGUMENTS", as_json=parsed.json)
    for wish in filter(None, os.environ.get("PRIVCMDD_SAY", "").split(",")):
        if wish not in _WISHES:
            there = " or ".join(_WISHES)
            return wrong(
                f"PRIVCMDD_SAY is {wish!r}, expected {there}, or both{meant(wish, _WISHES)}", as_json=parsed.json
            )
    in_session = None if parsed.socket is not None or hosts.is_chosen(parsed) else os.environ.get(SESSION)
    if parsed.socket is not None and hosts.is_chosen(parsed):
        return wrong(
            "--config, --set and --host are for the broker that run starts: leave out --socket", as_json=parsed.json
        )
    socket = parsed.socket or in_session or None
    if parsed.keep and socket is None:
        return wrong("--keep is for a broker that stays: name it with --socket", as_json=parsed.json)
    try:
        wanted = hosts.keywords(parsed, joins=socket is not None)
    except ValueError as error:
        return wrong(str(error), as_json=parsed.json)
    hosts.say_ignored("run", parsed)
    os.environ[_TIMEOUT] = f"{parsed.broker_timeout:g}"  # where the shim finds it
    return run.run(
        command,
        **wanted,
        socket=socket,
        job=parsed.job,
        keep=parsed.keep,
        in_session=bool(in_session),
        xenstore=parsed.xenstore,
        device_model=parsed.qemu,
        models=parsed.device_model,
        wait_ioreq=parsed.wait_ioreq,
        ready=parsed.ready,
        faults=parsed.fault,
        linger_s=parsed.linger,
        leaks=parsed.leaks,
        findings=parsed.findings,
        never_fired=parsed.faults,
        as_json=parsed.json,
    )
