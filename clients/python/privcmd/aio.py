# SPDX-License-Identifier: Apache-2.0
"""The face for trio under its former name, which goes on working: `privcmd.trio`."""

from privcmd.trio import *  # noqa: F403 - the same names, whichever they are
from privcmd.trio import __all__ as __all__  # noqa: PLC0414 - a re-export, as type checkers know one
