# SPDX-License-Identifier: Apache-2.0
"""Methods about findings: listing and forgetting them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from privcmdd.service.session import Session
    from privcmdd.service.world import World

    Params = dict[str, Any]


def listed(world: World, session: Session, _: Params) -> Params:
    """``findings.list``: the findings that the client may see."""
    findings = [finding.row() for finding in world.findings.seen_by(session)]
    return {"findings": findings, "dropped": world.findings.dropped_of(session)}


def clear(world: World, session: Session, _: Params) -> Params:
    """``findings.clear``: forget the findings that the client may see."""
    return {"cleared": world.findings.clear(session)}


HANDLERS: Final = {"findings.list": listed, "findings.clear": clear}
