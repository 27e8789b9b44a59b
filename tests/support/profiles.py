# SPDX-License-Identifier: Apache-2.0
"""How hard hypothesis looks, chosen by ``PRIVCMDD_PROFILE``: ``default`` (seconds) or ``long`` (minutes).

``default`` looks at the same examples each time, so that a red run is about the change at hand. ``long`` takes
new ones each time and prints what reproduces a failure.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, settings


@dataclass(frozen=True)
class Profile:
    """What the environment asks for."""

    name: str
    n_parts: int  # runs of the state machine with each ``Focus``, none long enough to look hung
    n_steps_at_least: int  # that each of them must have made
    machine: settings
    law: settings


_PHASES = [Phase.explicit, Phase.generate, Phase.shrink]
_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

_PROFILES = {
    "default": Profile(
        "default",
        n_parts=1,
        n_steps_at_least=500,
        machine=settings(
            derandomize=True,
            database=None,
            deadline=None,
            max_examples=40,
            stateful_step_count=40,
            suppress_health_check=_SLOW,
            phases=_PHASES,
            report_multiple_bugs=False,
        ),
        law=settings(derandomize=True, database=None, deadline=None, max_examples=50),
    ),
    "long": Profile(
        "long",
        n_parts=2,
        n_steps_at_least=13_000,
        machine=settings(
            database=None,
            deadline=None,
            max_examples=230,
            stateful_step_count=80,
            suppress_health_check=_SLOW,
            phases=_PHASES,
            report_multiple_bugs=False,
            print_blob=True,
        ),
        law=settings(database=None, deadline=None, max_examples=2_000, print_blob=True),
    ),
}

PROFILE = _PROFILES[os.environ.get("PRIVCMDD_PROFILE", "default")]
