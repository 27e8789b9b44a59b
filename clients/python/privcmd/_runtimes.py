# SPDX-License-Identifier: Apache-2.0
"""Runtimes of sanitizers among preloaded libraries: a program may want one, what is started beside it does not."""

from __future__ import annotations

import os

_RUNTIMES = ("libasan.so", "libhwasan.so", "liblsan.so", "libtsan.so", "libubsan.so", "libclang_rt.")


def is_runtime(library: str) -> bool:
    """Whether a library, by path or by name, is the runtime of a sanitizer of gcc's or clang's."""
    return library.rpartition("/")[2].startswith(_RUNTIMES)


def named_in_preload() -> list[str]:
    """The runtimes that are in our own LD_PRELOAD."""
    return [one for one in _preloaded() if is_runtime(one)]


def preload_without_them() -> str:
    """Our own LD_PRELOAD without runtimes."""
    return ":".join(one for one in _preloaded() if not is_runtime(one))


def _preloaded() -> list[str]:
    return os.environ.get("LD_PRELOAD", "").replace(":", " ").split()
