# SPDX-License-Identifier: Apache-2.0
"""A bug of the broker ends the connection that met it, is a line with a traceback, and leaves the others alone."""

from __future__ import annotations

import io
import json
import os
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from privcmdd.server import config, listen
from privcmdd.server.host_files import HostFiles
from privcmdd.server.logs import Log
from privcmdd.server.notify import Notifier
from privcmdd.server.supervise import DRAINED, Supervisor
from privcmdd.service.broker import Broker
from support.rawclient import Ended, RawClient

if TYPE_CHECKING:
    from collections.abc import Generator

    from privcmdd.service.reply import Reply
    from privcmdd.service.session import Session
    from privcmdd.service.steps import Pause
    from privcmdd.wire.messages import BadRequest, Request

GUARD_S = 30


class Faulty(Broker):
    """A broker with two bugs, at places where none is expected."""

    def perform(self, session: Session, request: Request | BadRequest) -> Generator[Pause, None, Reply]:
        """Break at ``hello``."""
        if request.method == "hello":
            raise RuntimeError("perform is broken")
        return super().perform(session, request)

    def leave(self, session: Session) -> Generator[Pause, None, None]:
        """Break after the second connection's end."""
        yield from super().leave(session)
        if session.number == 2:
            raise RuntimeError("disconnect is broken")


def talk(path: str) -> list[Any]:
    """One client meets each bug, another one neither."""
    seen: list[Any] = []
    with RawClient(path) as bystander:
        seen.append(bystander.call("ping") is not None)
        with RawClient(path) as second:
            second.call("ping")
        with RawClient(path) as third:
            try:
                third.call("hello")
            except Ended:
                seen.append("ended")
        seen.append(bystander.call("ping") is not None)
        while bystander.call("stats")["broker"]["connections"] > 1:
            pass
    return seen


async def test_an_unexpected_exception_ends_one_connection() -> None:
    """Wherever it comes from: the accept loop, the other peers and the stop go on."""
    stream = io.StringIO()
    with tempfile.TemporaryDirectory(prefix="pv") as folder, trio.fail_after(GUARD_S):
        path = str(Path(folder) / "b")
        configuration = config.load(environ={}, flags=[("server.report_dir", folder)])
        listener = listen.bind(path, mode=0o600, backlog=8)
        supervisor = Supervisor(configuration, lambda: configuration, [listener], Log(stream=stream), Notifier({}))
        supervisor._broker = Faulty(
            configuration.settings,
            HostFiles(),
            "x",
            lambda _session, _data: None,
            trio.current_time,
            supervisor._reports,
        )
        codes = []

        async def run() -> None:
            codes.append(await supervisor.run())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            seen = await trio.to_thread.run_sync(talk, path)
            os.kill(os.getpid(), signal.SIGTERM)

    faults = [line for line in map(json.loads, stream.getvalue().splitlines()) if line["level"] == "error"]
    assert seen == [True, "ended", True]
    assert codes == [DRAINED]
    assert sorted(line["exception"].strip().splitlines()[-1] for line in faults) == [
        "RuntimeError: disconnect is broken",
        "RuntimeError: perform is broken",
    ]
    assert {line["connection"] for line in faults} == {2, 3}
