# SPDX-License-Identifier: Apache-2.0
"""``privcmdctl jobs``: the jobs of a broker, and what each has."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from privcmdd.cli import output
from privcmdd.cli.asking import client_of, show

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


def _jobs(parsed: argparse.Namespace) -> int:
    with client_of(parsed) as client:
        jobs = client.jobs()
    headings = ("job", "uid", "pid", "client", "since", "connections", "requests", "domains")
    rows = [
        (
            job.job, job.uid, job.pid, job.client or "-", output.since(job.age_s), job.connections, job.requests,
            ",".join(map(str, job.doms)) or "-",
        )
        for job in jobs
    ]  # fmt: skip
    text = output.table(headings, rows, left=("job", "client", "since", "domains")) if rows else "no jobs"
    show(parsed, {"jobs": [dataclasses.asdict(job) for job in jobs]}, text)
    return 0


def add(commands: Commands) -> None:
    """Add the command."""
    commands.add("jobs", _jobs, "list jobs, and what each has", _ABOUT, examples="  privcmdctl jobs --json\n")
