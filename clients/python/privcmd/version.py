# SPDX-License-Identifier: Apache-2.0
"""The version of this package, as its build has written it."""

from __future__ import annotations

__all__ = ["__version__"]

try:
    from privcmd._version import VERSION as _BUILT
except ImportError:  # a tree that nothing was installed from; clients/c/Makefile says the same
    _BUILT = "0+unknown"

__version__: str = _BUILT
