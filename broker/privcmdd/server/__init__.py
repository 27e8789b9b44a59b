# SPDX-License-Identifier: Apache-2.0
"""trio and the kernel: sockets, memory files, signals."""
