# SPDX-License-Identifier: Apache-2.0
"""Hypercalls: the part of Xen's interface that tools and device models use."""
