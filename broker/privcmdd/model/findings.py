# SPDX-License-Identifier: Apache-2.0
"""Findings: a request does harm on a real host, and the host reports no error.

A finding does not change the answer: the request is answered as the real host answers it. The code that does the
harm leaves the finding among the effects, and the service adds who asked and with which request. Each kind of
finding is described in docs/reference/findings.md, under its id.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self


class FindingKind(StrEnum):
    """The kinds of findings. The values are ids: they do not change. The table in findings.md is made from these rows.

    Attributes:
        summary: The kind in one line.
    """

    summary: str

    def __new__(cls, name: str, summary: str) -> Self:
        """Make a kind of an id and a summary."""
        kind = str.__new__(cls, name)
        kind._value_ = name
        kind.summary = summary
        return kind

    FRAME_BITS_LOST = "frame-bits-lost", "another frame is mapped than the one asked for"
    FRAMES_UNCHECKED = "frames-unchecked", 'frames "mapped" without access are not looked at'
    ENOENT_LOST = "enoent-lost", "a paged-out frame, and a call that returns 0"
    ERROR_HIDDEN = "error-hidden", "a failed frame that MMAPBATCH cannot report"
    DOMAIN_CRASHED = "domain-crashed", "a look at a frame crashes its domain"
    STALE_MAPPING = "stale-mapping", "memory is taken from a domain while it is mapped"
    RESOURCE_SIZE_BOGUS = "resource-size-bogus", "the size of a resource that does not exist"
    RESOURCE_PAST_VMA = "resource-past-vma", "pages of a resource outside the mapping"
    OTHER_MEMORY_REPLACED = "other-memory-replaced", "guest pages over memory that is not the device's"
    UNRESTRICTED_FILL = "unrestricted-fill", "a restricted file's mapping shows another domain"
    MPROTECT_WITHOUT_EFFECT = "mprotect-without-effect", "frames stay as writable as they were"
    MAPPING_LOST = "mapping-lost", "frames that no access will reach again"
    ENDLESS_REFAULT = "endless-refault", "an access that hangs for ever"
    FAILED_FRAME_TOUCHED = "failed-frame-touched", "an access to a frame that failed"
    KERNEL_OOPS = "kernel-oops", "a request that stops a real kernel"
    ZOMBIE_DOMAIN = "zombie-domain", "a destroyed domain that somebody keeps"
    MAPPING_LEAKED = "mapping-leaked", "mappings that a process left behind"


@dataclass(frozen=True, slots=True)
class Found:
    """One finding.

    Attributes:
        kind: The kind of the finding.
        text: One sentence for people, with the offending values.
        dom: The domain concerned; None when there is none.
        addr: The address concerned; None when there is none.
        request: The request that caused the finding, when it is an earlier one than the request that runs now.
    """

    kind: FindingKind
    text: str
    dom: int | None = None
    addr: int | None = None
    request: tuple[str, int] | None = None


def pages_of(n_pages: int) -> str:
    """Return a number of pages in words, such as ``1 page`` or ``2 pages``."""
    return f"{n_pages} page{'s' * (n_pages != 1)}"
