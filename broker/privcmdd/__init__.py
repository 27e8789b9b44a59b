# SPDX-License-Identifier: Apache-2.0
"""privcmdd: a privcmd in user space."""

__version__ = "0.1.0"
