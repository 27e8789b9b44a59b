# SPDX-License-Identifier: Apache-2.0
"""What a connection has said of itself, so that it can be said again to the broker that follows.

A connection has features, topics, an address space with settings, and perhaps a domain that it is restricted to. All of
these end with it. The guests may not: ``hello`` names the line of brokers that pass them on.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in _connection.py
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

CLOSING = "closing"
KEPT = ("hello", "subscribe", "space.attach", "privcmd.restrict", "evtchn.restrict")
"""Methods that change what a connection is."""


class Standing:
    """What a connection is to its broker.

    Args:
        job: The job that it belongs to; empty for none.

    Attributes:
        hello: What it says first.
        lineage: The line of brokers that its broker belongs to; None before the first ``hello``.
        epoch: The broker's number in it.
        lasting: The guests outlive a broker that crashes.
        closing: Why the broker has said that it ends the stream; None: it has not.
    """

    def __init__(self, job: str = "") -> None:
        self.hello: tuple[str, dict[str, Any]] = ("hello", {"features": [CLOSING], **({"job": job} if job else {})})
        self.lineage: str | None = None
        self.epoch = 0
        self.lasting = False
        self.closing: str | None = None
        self._said: list[tuple[str, dict[str, Any]]] = [self.hello]

    def saying(self, method: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """The parameters to send: in ``hello`` we ask for the feature that we need ourselves, and name our job."""
        if method != "hello":
            return params
        features = params.get("features") or []
        own = self.hello[1]
        return {**own, **params, "features": features if CLOSING in features else [*features, CLOSING]}

    def said(self, method: str, params: Mapping[str, Any], result: Any) -> None:
        """Note what was said, and what the broker answered."""
        if method not in KEPT:
            return
        if method == "hello":
            self.greeted(result)
            self._said = [one for one in self._said if one[0] != "hello"]
            self._said.insert(0, (method, dict(params)))
        elif method == "space.attach":
            # The space of another connection has ended as well: what follows has settings, and no number.
            settings = {key: result[key] for key in ("personality", "probe", "merge")}
            self._said.append((method, settings))
        else:
            self._said.append((method, dict(params)))

    def greeted(self, result: Any) -> None:
        """Note which broker it is."""
        self.lineage = result.get("lineage")
        self.epoch = result.get("epoch", 0)
        self.lasting = result.get("lasting", False)

    def again(self) -> list[tuple[str, dict[str, Any]]]:
        """All that is to be said to the next broker, ``hello`` first."""
        self.closing = None
        return list(self._said)
