# SPDX-License-Identifier: Apache-2.0
"""``privcmdctl jobs``: the jobs of a broker, and what each has."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from privcmdd.cli import output
from privcmdd.cli.arguments import number, utf8
from privcmdd.cli.asking import client_of, show
from privcmdd.cli.parser import wrong

if TYPE_CHECKING:
    import argparse

    from privcmdd.cli.commands import Commands

_ABOUT = """\
List jobs: one line for each.

A job is what belongs together on a broker that others use as well, such as all processes of one CI job. `privcmdctl
run` makes one for its program; --job NAME, or PRIVCMDD_JOB in the environment, has a command, a program under the shim
or one of the Python library join one. A job ends with its last connection, and the domains that were made in it are
destroyed.

One sees the jobs of one's own uid, or in a job that job alone; who may administer all domains sees all.
"""


_EVICT = """\
End a connection, a job, or all connections and jobs of a uid: the connections are closed, and what was made for them
and for the jobs is given back and destroyed. Domains that were made to stay do so.

One may evict what is one's own uid's, in a job (--job) what is that job's; outside, who may administer all domains
evicts anybody. The broker keeps room for administrators, so that they can connect when it takes nobody else any more.
"""


def _jobs(parsed: argparse.Namespace) -> int:
    with client_of(parsed) as client:
        jobs = client.jobs()
    headings = ("job", "uid", "pid", "client", "since", "connections", "requests", "spaces", "frames", "domains")
    rows = [
        (
            job.job, job.uid, job.pid, job.client or "-", output.since(job.age_s), job.connections,
            job.requests, job.spaces, job.frames,
            ",".join(map(str, job.doms)) or "-",
        )
        for job in jobs
    ]  # fmt: skip
    text = output.table(headings, rows, left=("job", "client", "since", "domains")) if rows else "no jobs"
    show(parsed, {"jobs": [dataclasses.asdict(job) for job in jobs]}, text)
    return 0


def _evict(parsed: argparse.Namespace) -> int:
    if parsed.connection is None and parsed.whose is None and parsed.uid is None:
        return wrong("nothing to evict: expected --connection, --name or --uid", as_json=parsed.json)
    if parsed.connection is not None and (parsed.whose is not None or parsed.uid is not None):
        return wrong("--connection says all: leave out --name and --uid", as_json=parsed.json)
    with client_of(parsed) as client:
        done = client.evict(connection=parsed.connection, job=parsed.whose, uid=parsed.uid)
    doms = ",".join(map(str, done["doms"])) or "none"
    show(parsed, done, f"connections: {done['connections']}, jobs: {done['jobs']}, domains: {doms}")
    return 0


def add_evict(commands: Commands) -> None:
    """Add the command."""
    evict = commands.add("evict", _evict, "end a connection, a job or all of a uid, and what was made for it", _EVICT)
    evict.add_argument("--connection", metavar="N", type=number, help="the connection of this number")
    evict.add_argument("--name", dest="whose", metavar="NAME", type=utf8, help="the job of this name")
    evict.add_argument("--uid", metavar="UID", type=number, help="whose job it is, or all that this uid has connected")


def add(commands: Commands) -> None:
    """Add the command."""
    commands.add("jobs", _jobs, "list jobs, and what each has", _ABOUT, examples="  privcmdctl jobs --json\n")
