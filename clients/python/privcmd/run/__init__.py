# SPDX-License-Identifier: Apache-2.0
"""``privcmdctl run``: an unmodified Xen program on a simulated host, as fakeroot runs one as root.

A broker is started (or joined), domains are made, the program runs with the shim preloaded, and its exit status
or signal is handed on. What it left mapped is said at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from privcmd.errors import BrokerGone
from privcmd.run import background, host, program, reach, sanitizers, unanswered
from privcmd.run.findings import LEAKED as LEAKED_KIND
from privcmd.run.findings import of_programs, paragraph
from privcmd.run.leaks import Leak, Watch

if TYPE_CHECKING:
    from privcmd.faults import InjectedFault
    from privcmd.results import Finding
    from privcmd.run.background import Left
    from privcmd.run.host import Guest

NEVER_FIRED: Final = 97
"""Exit status of a program of which a rule of faults asked something that never came, when that is an error."""
FOUND: Final = 98
"""Exit status of a program of which something was found, when findings are errors."""
LEAKED: Final = 99
"""Exit status of a program that left mappings behind, when leaks are errors."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to run, and where.

    Attributes:
        command: The program and its arguments.
        socket: A broker to join; None starts one of our own.
        config: Configuration of our own broker, as TOML text.
        settings: Keys of that configuration that are otherwise, each as TABLE.KEY=VALUE.
        guests: Domains to make first.
        leaks: ``report`` or ``error``.
        xenstore: Whether to run xenstored beside the program: None, where it is installed; True, or else fail.
        device_model: Arguments of a QEMU for the first HVM guest; None for none.
        findings: ``report``, ``error`` or ``ignore``.
        as_json: Say what there is to say at the end as one line of JSON.
        linger_s: How long what the program leaves running may go on, in seconds.
        faults: Rules by which requests of the program fail, as arguments of ``Client.faults.add``.
        never_fired: What a rule is that never made anything fail: ``report`` or ``error``.
    """

    command: list[str]
    socket: str | None = None
    config: str | None = None
    guests: list[Guest] = field(default_factory=list)
    leaks: str = "report"
    xenstore: bool | None = None
    device_model: list[str] | None = None
    faults: list[dict[str, Any]] = field(default_factory=list)
    linger_s: float = background.LINGER_S
    findings: str = "report"
    as_json: bool = False
    never_fired: str = "report"
    settings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class End:
    """How a program ended.

    Attributes:
        status: Its exit status, or minus the signal that ended it.
        leaks: Mappings that it left behind.
        findings: What it did that a real host lets pass in silence.
        faults: The rules by which its requests failed.
        unanswered: What of Xen's the programs on the host asked for meanwhile and did not get, and how often.
        running: Processes that it left running, and that had to be ended.
    """

    status: int
    leaks: list[Leak] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    faults: list[InjectedFault] = field(default_factory=list)
    unanswered: dict[str, int] = field(default_factory=dict)
    running: list[Left] = field(default_factory=list)


def run(options: Options) -> int:
    """Run a program to its end.

    Returns:
        Its exit status, ``NEVER_FIRED``, ``FOUND`` or ``LEAKED``. A signal that ended it ends us as well.

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
    program.preload_library()  # what is wrong with it is said before anything is started
    token = f"run-{os.getpid()}"
    up = host.running(
        options.guests,
        socket=options.socket,
        config=options.config,
        settings=options.settings,
        store=options.xenstore,
        device_model=options.device_model,
    )
    with up as here:
        client = here.client
        rules = {client.faults.add(**{"client": named(token), **rule}) for rule in options.faults}
        watch = Watch(client, token)
        before = unanswered.counts(client)
        env = sanitizers.environment(here.environment(token), path)
        try:
            status = program.execute(path, options.command[1:], env)
        finally:
            running = background.end(env, options.linger_s, quiet=options.as_json)
        try:
            leaks = watch.settle()
            found = [] if options.findings == "ignore" else of_programs(client, token)
            faults = [told(rule, token) for rule in client.faults.list() if rule.id in rules] if rules else []
            end = End(status, leaks, found, faults, unanswered.since(client, before), running)
        except BrokerGone as gone:
            sys.stderr.write(f"privcmdctl: what the program left mapped is not known: {gone}\n")
            end = End(status, running=running)
    with contextlib.suppress(OSError):  # nobody reads what there is to say, and the program's end is what counts
        # What the program wrote there last need not have ended with its line.
        sys.stderr.write("\n" + as_json(end) if options.as_json else as_text(end))
        sys.stderr.flush()
    if (end.leaks or end.running) and options.leaks == "error":
        return LEAKED
    if end.findings and options.findings == "error":
        return FOUND
    if options.never_fired == "error" and not all(rule.fired for rule in end.faults):
        return NEVER_FIRED
    return program.end_as(status)


def named(token: str) -> str:
    """The clients of a run, for a rule: theirs is the token behind the program's name."""
    return f"* {token}"


def told(rule: InjectedFault, token: str) -> InjectedFault:
    """A rule as it was given, without what made it one for this run alone."""
    return replace(rule, rule={key: value for key, value in (rule.rule or {}).items() if value != named(token)})


def as_text(end: End) -> str:
    """What is to be said of a program, line by line: nothing when there is nothing. Leaks are findings told better.

    Xen's own tools ask for what they can do without, so what was not answered is said of a program that failed.
    """
    said = [f"still mapped: {leak}" for leak in end.leaks]
    said += [f"did not end, and was ended: {one}" for one in end.running]
    said += [paragraph(finding) for finding in end.findings if finding.kind != LEAKED_KIND]
    if end.unanswered and (end.status or "errors" in os.environ.get("PRIVCMDD_SAY", "")):
        said.append(unanswered.sentence(end.unanswered))
    said += [f"fault {rule}: seen {rule.seen}, fired {rule.fired}{never(rule)}" for rule in end.faults]
    return "".join(f"privcmdctl: {one}\n" for one in said)


def never(rule: InjectedFault) -> str:
    """Why a rule may never have made anything fail; empty for one that has."""
    if rule.fired:
        return ""
    why = "too few of what it is about came" if rule.seen else "nothing came that it is about: is the spelling right?"
    return f"; it never made anything fail: {why}"


def as_json(end: End) -> str:
    """The same as one line of JSON."""
    ended = {"status": None, "signal": -end.status} if end.status < 0 else {"status": end.status, "signal": None}
    leaks, findings, faults = map(asdict, end.leaks), map(asdict, end.findings), map(asdict, end.faults)
    said = {**ended, "leaks": [*leaks], "findings": [*findings], "faults": [*faults], "unanswered": end.unanswered}
    said["running"] = [asdict(one) for one in end.running]
    return json.dumps(said) + "\n"
