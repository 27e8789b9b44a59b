// SPDX-License-Identifier: Apache-2.0
/* Pages of the process: which are mapped, and changing what is mapped there. With the client's lock held. */
#ifndef PRIVCMDD_PAGES_H
#define PRIVCMDD_PAGES_H

#include "areas.h"

/* Whether a mapping begins at an address. */
bool pages_begin(uint64_t addr);
/*
 * Whether the mapping that holds an address, or else the next one above it (the kernel's find_vma), is a mapping of
 * privcmd.
 */
bool pages_found_is_ours(uint64_t addr);
/* How an area's pages are mapped: MAP_SHARED or MAP_PRIVATE. */
int pages_sharing(const struct area *area);
/* Keeps an area out of children of fork and out of core dumps, but for hypercall buffers, which children inherit. */
void pages_settle(struct area *area);
/* Unmaps what a range shows: an access raises SIGBUS, as on pages of the device without a frame. False on failure. */
bool pages_blank(const struct area *area, uint64_t start, uint64_t end);
/*
 * Maps memory that reads as ones, as a PVH dom0 does where a frame failed. Only this process sees what is written
 * there. Returns 0 or ENOMEM.
 */
int pages_ones(uint64_t at, uint64_t n_pages, int prot);

#endif
