# SPDX-License-Identifier: Apache-2.0
"""Hypercalls: Xen's own interface, as far as tools and device models ask for it."""
