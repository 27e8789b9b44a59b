# SPDX-License-Identifier: Apache-2.0
"""``privcmdctl run``: an unmodified Xen program on a simulated host, as fakeroot runs one as root.

The program runs with the shim preloaded, on a host that is started when it is needed or joined, and its exit status or
signal is handed on. What it left mapped is said at the end.

A run is started for each test of a suite: what it imports before it is needed, everybody waits for.
"""

from __future__ import annotations

import os
import sys

from privcmd.errors import BrokerGone, NoAnswer
from privcmd.run import _background as background
from privcmd.run import _program as program
from privcmd.run import _reach as reach
from privcmd.run import _report as report
from privcmd.run import _sanitizers as sanitizers
from privcmd.run import host
from privcmd.run._leaks import Watch

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from privcmd._connection import Connection
    from privcmd.faults import InjectedFault
    from privcmd.run._guests import DomainConfig
    from privcmd.run._models import Models
    from privcmd.run.host import Host

NEVER_FIRED = 97
"""Exit status of a program of which a rule of faults asked something that never came, when that is an error."""
FOUND = 98
"""Exit status of a program of which something was found, when findings are errors."""
LEAKED = 99
"""Exit status of a program that left mappings behind, when leaks are errors."""


def run(
    command: Sequence[str],
    *,
    socket: str | None = None,
    job: str | None = None,
    keep: bool = False,
    config: str | None = None,
    settings: Sequence[str] = (),
    guests: Sequence[DomainConfig] = (),
    lazily: bool = False,
    in_session: bool = False,
    xenstore: bool | None = None,
    device_model: Sequence[str] | None = None,
    models: Sequence[Sequence[str]] = (),
    wait_ioreq: int = 0,
    ready: str | None = None,
    faults: Sequence[dict[str, Any]] = (),
    linger_s: float = background.LINGER_S,
    leaks: str = "report",
    findings: str = "report",
    never_fired: str = "report",
    as_json: bool = False,
) -> int:
    """Run a program to its end.

    Args:
        command: The program and its arguments.
        socket: A broker to join; None starts one of our own.
        job: The job that its processes, and all that they make, belong to; None: one of its own.
        keep: Whether domains that are made stay on the broker that is joined.
        config: Configuration of our own broker, as TOML text.
        settings: Keys of that configuration that are otherwise, each as TABLE.KEY=VALUE.
        guests: Domains to make first.
        lazily: Whether our own broker is started, and the domains are made, when the program first needs them; what the
            broker refuses is then said at the end.
        in_session: Whether the broker that is joined is a session's (``privcmd.run._session``).
        xenstore: Whether there is a xenstored beside the program: None, where it is installed; True, or else fail.
        device_model: Arguments of a QEMU for the first HVM guest; None for none.
        models: Command lines of device models of one's own, which are started before the program and ended after it.
        wait_ioreq: How many ioreq servers must be enabled before the program runs.
        ready: A shell command that must succeed before the program runs.
        faults: Rules by which requests of the program fail, as arguments of ``Client.faults.add``; the domain may be
            a name.
        linger_s: How long what the program leaves running may go on, in seconds.
        leaks: ``report`` or ``error``.
        findings: ``report``, ``error`` or ``ignore``.
        never_fired: What a rule is that never made anything fail: ``report`` or ``error``.
        as_json: Say what there is to say at the end as one line of JSON.

    Returns:
        Its exit status, ``NEVER_FIRED``, ``FOUND`` or ``LEAKED``. A signal that ended it ends us as well.

    Raises:
        PrivcmdError: The program cannot be reached (``reach.Unreachable``), a domain cannot be made, the shim is not
            built.
        NoBroker: No broker answers, or ours did not start.
    """
    try:
        with program.ending():
            path = reach.check(command[0])
            program.preload_library()  # what is wrong with it is said before anything is started
            token = f"run-{os.getpid()}"
            job = job or f"{token}-{os.urandom(4).hex()}"  # a process of another container may have our number
            watch = Watch(token)
            host_of_it = host.running(
                guests,
                socket=socket,
                job=job,
                keep=keep,
                config=config,
                settings=settings,
                store=xenstore,
                device_model=device_model,
                lazily=lazily and not (faults or models or wait_ioreq or ready),
                in_session=in_session,
                listener=watch.notice,
            )
            with host_of_it as here:
                others_before = None if here.link is None else _n_of_others(here.link)
                rules = _added(here, token, faults)
                env = sanitizers.environment(here.environment(token), path)
                beside = _beside(here, token, models, wait_ioreq, ready) if models or wait_ioreq or ready else None
                try:
                    status = program.execute(path, command[1:], env)
                finally:
                    left = background.end(env, linger_s, quiet=as_json)
                    if beside is not None and beside.end():
                        watch.ignore(_of_models(token))
                if here.error is not None:
                    raise here.error
                if here.without_store is not None:
                    sys.stderr.write(f"privcmdctl: programs have found no xenstore: {here.without_store}\n")
                end = report.End(status, left)
                if here.link is not None:  # or else nobody has met Xen, and there is nothing to ask for
                    try:
                        watch.settle(here.link)
                        end.leaks, end.unanswered = watch.leaks, watch.unanswered
                        end.n_leaks_dropped = watch.n_dropped
                        if socket is None:  # what is beside the program, as QEMU, is ours as well
                            end.unanswered = here.link.call("stats")["broker"]["unanswered"]
                        if findings != "ignore":
                            found = here.link.call("findings.list")
                            end.findings, end.n_findings_dropped = found["findings"], found["dropped"]
                        end.faults = _faults(here, token, rules)
                        # Who had our own broker started has asked it for something.
                        end.asked = others_before is None or _n_of_others(here.link) != others_before
                    except (BrokerGone, NoAnswer) as gone:
                        end.unknown = str(gone)
            end.say(as_json=as_json)
            # What is not known may be anything.
            if (end.leaks or end.running or end.n_leaks_dropped or end.unknown) and leaks == "error":
                return LEAKED
            if (end.findings or end.n_findings_dropped or end.unknown) and findings == "error":
                return FOUND
            if never_fired == "error" and not all(rule.fired for rule in end.faults):
                return NEVER_FIRED
            return program.end_as(status)
    except program.Ended as ended:
        return program.end_as(-ended.number)


def _of_models(token: str) -> str:
    """What device models add to their names: the token of the run, and what tells them from its program."""
    return f"{token}-model"


def _beside(here: Host, token: str, models: Sequence[Sequence[str]], wait_ioreq: int, ready: str | None) -> Models:
    """Start device models, and wait until they are ready. Raises PrivcmdError."""
    from privcmd.run._models import Models  # noqa: PLC0415 - slow to import, and most runs have none

    env = here.environment(_of_models(token))
    started = Models(models, env)
    try:
        if wait_ioreq and here.link is not None:
            started.wait_for_servers(here.link, here.doms, wait_ioreq)
        if ready is not None:
            started.wait_for_command(ready, env)
    except BaseException:
        started.end()
        raise
    return started


def _n_of_others(link: Connection) -> int:
    """How many requests others of our job than we have made."""
    (job,) = link.call("job.list")["jobs"]
    n: int = job["requests"] - link.n_asked
    return n


def _added(here: Host, token: str, faults: Sequence[dict[str, Any]]) -> set[int]:
    """Add rules for this run alone. Returns their numbers."""
    if not faults or here.link is None:
        return set()
    from privcmd import _calls as calls  # noqa: PLC0415 - slow to import, and most runs have no rules
    from privcmd._domids import domid  # noqa: PLC0415

    there = [(row["dom"], row["name"]) for row in here.link.call("domain.list")["domains"]]
    numbers = set()
    for rule in faults:
        dom = rule.get("dom")
        of = {"dom": domid(dom, there)} if isinstance(dom, str) else {}
        added = calls.faults_add(**{"client": _named(token), **rule, **of})
        numbers.add(added.read(here.link.call(added.method, **added.params), ()))
    return numbers


def _faults(here: Host, token: str, rules: set[int]) -> list[InjectedFault]:
    """What the rules did, each as it was given, without what made it one for this run alone."""
    if not rules or here.link is None:
        return []
    from dataclasses import replace  # noqa: PLC0415 - slow to import, and most runs have no rules

    from privcmd import _calls as calls  # noqa: PLC0415

    there = calls.faults_list()
    return [
        replace(one, job="", rule={key: value for key, value in (one.rule or {}).items() if value != _named(token)})
        for one in there.read(here.link.call(there.method, **there.params), ())
        if one.id in rules
    ]


def _named(token: str) -> str:
    """The clients of a run, for a rule: theirs is the token behind the program's name."""
    return f"* {token}"
