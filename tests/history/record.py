# SPDX-License-Identifier: Apache-2.0
"""What clients saw, in a form that can be kept and checked: one record for each request.

Sending and receiving are events, numbered in the order in which the recorder saw them; nothing else is known of
time. A history that clients recorded by themselves knows the broker's order from the feature ``seq`` alone.

A file has a line of JSON for the setting, then one for each record. Bins are written as ``{"$bin": "hex"}``.
"""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

END: Final = "(end)"
"""The method of a record that says that a client has gone: its connection ended."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a checker has to know of the broker beforehand.

    Attributes:
        n_frames: Of the machine.
        max_gfns: Guest frames that a domain may have (``machine.gfns_per_domain``).
        max_domains: Domains that there may be (``machine.domains``).
        slice_frames: Frames looked up in one step (``limits.slice_frames``).
        personality: Of a space whose client does not say (``space.personality``).
        probe: Likewise.
        merge: Likewise.
        frames_per_batch: Most frames of one request (``limits.frames_per_batch``).
        anytime: Errnos of refusals that may come for reasons which the checker does not look into, and change nothing:
            EDQUOT where quotas are small, EPERM where clients lack rights, ENOMEM where memory files cannot be had.
    """

    n_frames: int
    max_gfns: int
    max_domains: int = 1024
    slice_frames: int = 16_384
    personality: str = "uvm"
    probe: str = "load"
    merge: bool = False
    frames_per_batch: int = 1 << 20
    anytime: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One request and its answer.

    Attributes:
        client: Whose; a connection of the history, never used again after its end.
        sent: Event of sending.
        received: Event of receiving; None when no answer came.
        method: Its name, or ``END``.
        params: As sent.
        result: What the answer holds; None for a refusal, and when there is none.
        error: ``[errno, text, details]`` of a refusal.
        known: What a recorder inside the broker's process knows of a request that was given up or never begun: the
            numbers of its steps. Where it knows the answer that nobody heard, that is in ``result`` or ``error``.
    """

    client: int
    sent: int
    received: int | None
    method: str
    params: Mapping[str, Any]
    result: Mapping[str, Any] | None = None
    error: tuple[int, str, Mapping[str, Any]] | None = None
    known: Mapping[str, Any] | None = None

    @property
    def stamp(self) -> Mapping[str, Any]:
        """Where the numbers of its steps are."""
        if self.result is not None:
            return self.result
        return (self.known or {}) if self.error is None else self.error[2]

    @property
    def is_silent(self) -> bool:
        """Whether nothing at all is known of what the broker did for it."""
        return self.result is None and self.error is None and self.known is None

    @property
    def seq(self) -> int | None:
        """The number of its last step; None when nobody was told."""
        return self.stamp.get("seq")

    @property
    def slices(self) -> list[int]:
        """Numbers of the steps before that looked frames up."""
        return list(self.stamp.get("slices", ()))

    @property
    def queued(self) -> int | None:
        """Number of the step in which it began to wait for its turn; None when it did not."""
        return self.stamp.get("queued")

    @property
    def steps(self) -> list[int]:
        """All numbers, in order."""
        return [n for n in (self.queued, *self.slices, self.seq) if n is not None]

    def __str__(self) -> str:
        """For messages: who, what, when."""
        number = "no seq" if self.seq is None else f"seq {self.seq}"
        return f"{self.method} of client {self.client} ({number}, sent at {self.sent}, received at {self.received})"


@dataclass(frozen=True, slots=True)
class History:
    """All requests of all clients with the feature, in the order of sending."""

    setting: Setting
    records: list[Record]

    def save(self, path: Path) -> None:
        """Write it as lines of JSON."""
        rows = [asdict(self.setting), *(asdict(record) for record in self.records)]
        path.write_text("".join(json.dumps(_to_json(row)) + "\n" for row in rows), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> History:
        """Read what ``save`` wrote."""
        first, *rows = [_from_json(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
        for row in rows:
            row["error"] = row["error"] and tuple(row["error"])
        first["anytime"] = tuple(first["anytime"])
        return cls(Setting(**first), [Record(**row) for row in rows])


class Recorder:
    """Writes down what clients say and hear; from any thread."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._lock = threading.Lock()
        self._records: list[Record] = []
        self._n_events = 0

    def send(self, client: int, method: str, params: Mapping[str, Any]) -> int:
        """A request is about to be sent; call it before. Returns what ``receive`` wants."""
        with self._lock:
            self._records.append(Record(client, self._event(), None, method, dict(params)))
            return len(self._records) - 1

    def receive(self, index: int, error: Any, result: Any) -> None:
        """Its answer has been received; call it after."""
        with self._lock:
            self._records[index] = replace(with_answer(self._records[index], error, result), received=self._event())

    def know(self, index: int, known: Mapping[str, Any]) -> None:
        """What only the broker's process knows of a request that was given up: ``slices`` and ``queued`` so far."""
        with self._lock:
            self._records[index] = replace(self._records[index], known=known)

    def overhear(self, index: int, error: Any, result: Any) -> None:
        """An answer that nobody received."""
        with self._lock:
            self._records[index] = with_answer(self._records[index], error, result)

    def end(self, client: int, seq: int | None = None) -> None:
        """A client goes; call it before it does, or after with the number of its end when that is known."""
        with self._lock:
            known = None if seq is None else {"seq": seq}
            self._records.append(Record(client, self._event(), None, END, {}, known=known))

    def history(self) -> History:
        """What has been written down so far."""
        with self._lock:
            return History(self._setting, list(self._records))

    def _event(self) -> int:
        self._n_events += 1
        return self._n_events


def with_answer(record: Record, error: Any, result: Any) -> Record:
    """A record with its answer, as it is decoded."""
    return replace(record, result=result) if error is None else replace(record, error=tuple(error))


def _to_json(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$bin": bytes(value).hex()}
    if isinstance(value, dict):
        return {key: _to_json(item) for key, item in value.items()}
    return [_to_json(item) for item in value] if isinstance(value, (list, tuple)) else value


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"$bin"}:
            return bytes.fromhex(value["$bin"])
        return {key: _from_json(item) for key, item in value.items()}
    return [_from_json(item) for item in value] if isinstance(value, list) else value
