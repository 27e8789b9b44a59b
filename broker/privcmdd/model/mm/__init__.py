# SPDX-License-Identifier: Apache-2.0
"""One address space: map entries, uvm objects, page tables, and the system calls on them."""
