# SPDX-License-Identifier: Apache-2.0
"""The ground floor: the simulated machine, pure and synchronous."""
