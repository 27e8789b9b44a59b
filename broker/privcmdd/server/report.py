# SPDX-License-Identifier: Apache-2.0
"""Reports of incidents (bugs of the broker): a line in the log, and a file that helps to find the cause.

The first incident of each kind is written down whole, as JSON. Later ones of the kind are counted, and a line tells
of them, once for each uid. So no client can fill a disk or a log when it meets a bug again and again. When the
directory cannot be written, the report is lost and nothing else.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from privcmdd.service.incident import describe

if TYPE_CHECKING:
    from privcmdd.server.logs import Log
    from privcmdd.service.incident import Incident

# Reports of one run. Further kinds of incidents are only lines in the log.
MOST_REPORTS: Final = 16


class Reports:
    """The reports of one run of the broker.

    Attributes:
        directory: Where reports go; made when the first one is written.
    """

    def __init__(self, directory: str, log: Log) -> None:
        self.directory = directory
        self._log = log
        self._written: dict[str, str] = {}

    def __call__(self, incident: Incident) -> str | None:
        """Report an incident. Never fails.

        Returns:
            The name of the report about this incident or the first one of its kind; None when there is no report.
        """
        about: dict[str, Any] = {"kind": incident.kind, "session_closed": True}
        if incident.request is not None:
            about |= {"request": incident.request.msgid, "method": incident.request.method}
        if (name := self._written.get(incident.kind)) is not None:
            self._log.once(
                incident.session.identity.uid, f"incident: {incident.kind}", "incident again", report=name, **about
            )
            return name
        try:
            name = self._write(incident)
            about["report"] = str(Path(self.directory) / f"{name}.json")
        except Exception as problem:  # noqa: BLE001 - a report that cannot be made must not make things worse
            about["no_report"] = str(problem)
        self._log.error("incident", exc_info=incident.exception, **about)
        return name

    def _write(self, incident: Incident) -> str:
        import json  # noqa: PLC0415 - only when something is wrong
        from datetime import UTC, datetime  # noqa: PLC0415

        if len(self._written) >= MOST_REPORTS:
            raise OSError(f"{MOST_REPORTS} reports have been written, no more are in one run")
        name = f"incident-{incident.instance}-{len(self._written) + 1}"
        when = datetime.now(UTC).isoformat(timespec="seconds")
        text = json.dumps({"report": name, "time": when, **describe(incident)}, indent=1, default=str)
        Path(self.directory).mkdir(mode=0o700, parents=True, exist_ok=True)
        target = Path(self.directory) / f"{name}.json"
        draft = target.with_suffix(".new")
        with contextlib.ExitStack() as undo:
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            undo.callback(draft.unlink, missing_ok=True)
            with open(fd, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor, not a path
                file.write(text + "\n")
            draft.rename(target)
            undo.pop_all()
        self._written[incident.kind] = name
        return name
