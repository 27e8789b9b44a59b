# SPDX-License-Identifier: Apache-2.0
"""State kept in a dictionary, which fails when it is told to; and a broker that crashes and starts again."""

from __future__ import annotations

import errno
from copy import deepcopy
from typing import TYPE_CHECKING

from privcmdd.model.errors import ModelError
from support.desk import SMALL, Desk

if TYPE_CHECKING:
    from collections.abc import Mapping

    from privcmdd.service.keeping import Records
    from privcmdd.service.settings import Settings


class MemoryStore:
    """Records in a dictionary.

    Attributes:
        records: By domid and name.
        n_commits: Commits so far, refused ones included.
        refused: Numbers of commits that are refused, counted from 1, each with the errno.
        n_bytes: Bytes of the records that were written.
    """

    def __init__(self) -> None:
        self.records: Records = {}
        self.n_commits = 0
        self.refused: dict[int, int] = {}
        self.n_bytes = 0

    def load(self) -> Records:
        """All records."""
        return deepcopy(self.records)

    def commit(self, changed: Mapping[tuple[int, str], bytes | None]) -> None:
        """Keep records, all or none."""
        self.n_commits += 1
        if (number := self.refused.get(self.n_commits)) is not None:
            raise ModelError(number, f"commit {self.n_commits} is refused ({errno.errorcode[number]})")
        for (dom, name), data in changed.items():
            group = self.records.setdefault(dom, {})
            if data is None:
                del group[name]
            else:
                group[name] = data
                self.n_bytes += len(data)
        self.records = {dom: group for dom, group in self.records.items() if group}


def after_crash(desk: Desk, store: MemoryStore, settings: Settings = SMALL) -> Desk:
    """The broker that is started after another one was killed: all that it has is records and files of domains."""
    return Desk(settings, desk.backing.left(), store)
