# SPDX-License-Identifier: Apache-2.0
"""privcmd: map the memory of simulated Xen guests from Python."""
