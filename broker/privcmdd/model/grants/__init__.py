# SPDX-License-Identifier: Apache-2.0
"""Grants: what the entry of a grant table allows, which are in use, copies from and to them."""
