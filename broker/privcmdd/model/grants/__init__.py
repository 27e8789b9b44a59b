# SPDX-License-Identifier: Apache-2.0
"""Grants: what an entry of a grant table allows, which grants are in use, copies from and to grants."""
