# SPDX-License-Identifier: Apache-2.0
"""The simulated machine: frames, domains, and Xen's own operations on them."""
