# SPDX-License-Identifier: Apache-2.0
"""Which descriptors this process has open: the check around every test that none is left behind."""

from __future__ import annotations

import gc
from pathlib import Path

OWN = Path("/proc/self/fd")


def open_now() -> dict[int, str]:
    """Every open descriptor and what it refers to."""
    found = {}
    for link in OWN.iterdir():
        try:
            found[int(link.name)] = str(link.readlink())
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
    return found


def left_since(before: dict[int, str]) -> dict[int, str]:
    """Descriptors that are open now and were not then; garbage is given its chance first."""
    if left := new_in(before):
        gc.collect()
        left = new_in(before)
    return left


def new_in(before: dict[int, str]) -> dict[int, str]:
    """Descriptors that are open now and were not then."""
    return {number: target for number, target in open_now().items() if before.get(number) != target}
