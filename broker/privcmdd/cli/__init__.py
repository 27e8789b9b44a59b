# SPDX-License-Identifier: Apache-2.0
"""The commands ``privcmdd`` and ``privcmdctl``: arguments in, text or JSON out."""
