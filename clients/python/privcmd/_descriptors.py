# SPDX-License-Identifier: Apache-2.0
# Made by clients/protocol/generate.py from the table of methods.
"""Which answers bring descriptors."""

DESCRIPTORS = {
    "hand_over": 1,
    "space.buffers": 1,
    "gntalloc.alloc": 1,
    "gntalloc.map": 1,
    "evtchn.alloc_unbound": 2,
    "evtchn.bind_interdomain": 2,
    "evtchn.bind_virq": 2,
    "evtchn.attach": 2,
    "domain.memory": 1,
}
"""Methods whose good answer carries descriptors, and how many."""
