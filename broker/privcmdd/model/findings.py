# SPDX-License-Identifier: Apache-2.0
"""Findings: harm that a real host does without a word.

The answer to the request is what the real host's is, whether something was found or not. A finding is left among
the effects at the place where the harm is done; who asked, and what for, is added by the service. Each kind is
described in docs/reference/findings.md, under its id.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What was found. The values are ids: they do not change."""

    FRAME_BITS_LOST = "frame-bits-lost"
    FRAMES_UNCHECKED = "frames-unchecked"
    ENOENT_LOST = "enoent-lost"
    ERROR_HIDDEN = "error-hidden"
    DOMAIN_CRASHED = "domain-crashed"
    STALE_MAPPING = "stale-mapping"
    RESOURCE_SIZE_BOGUS = "resource-size-bogus"
    RESOURCE_PAST_VMA = "resource-past-vma"
    OTHER_MEMORY_REPLACED = "other-memory-replaced"
    UNRESTRICTED_FILL = "unrestricted-fill"
    MPROTECT_WITHOUT_EFFECT = "mprotect-without-effect"
    MAPPING_LOST = "mapping-lost"
    ENDLESS_REFAULT = "endless-refault"
    FAILED_FRAME_TOUCHED = "failed-frame-touched"
    KERNEL_OOPS = "kernel-oops"
    ZOMBIE_DOMAIN = "zombie-domain"
    MAPPING_LEAKED = "mapping-leaked"


@dataclass(frozen=True, slots=True)
class Found:
    """Something was found.

    Attributes:
        kind: What.
        text: One sentence for people, with the offending values.
        dom: The domain concerned, if any.
        addr: Where in the address space, in bytes, if anywhere.
        request: The request that made what was found, when it is not the one that is being performed.
    """

    kind: Kind
    text: str
    dom: int | None = None
    addr: int | None = None
    request: tuple[str, int] | None = None


def pages_of(n_pages: int) -> str:
    """A number of pages, in words."""
    return f"{n_pages} page{'s' * (n_pages != 1)}"
