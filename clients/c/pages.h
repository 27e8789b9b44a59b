// SPDX-License-Identifier: Apache-2.0
/* Pages of the process: which are mapped, and changes of mappings. All functions need the client's lock. */
#ifndef PRIVCMDD_PAGES_H
#define PRIVCMDD_PAGES_H

#include "areas.h"

/* Whether a mapping begins at an address. */
bool pages_begin(uint64_t addr);
/*
 * The area that a driver finds for an address, or NULL: the kernel's find_vma finds the mapping that holds the address,
 * or else the next one above it.
 */
const struct area *pages_found(uint64_t addr);
/* How an area's pages are mapped: MAP_SHARED or MAP_PRIVATE. */
int pages_sharing(const struct area *area);
/* Keeps an area out of children of fork and out of core dumps, except hypercall buffers, which children inherit. */
void pages_settle(const struct area *area);
/* Unmaps the frames of a range: an access raises SIGBUS, as at pages without a frame. False on failure. */
bool pages_blank(const struct area *area, uint64_t start, uint64_t end);
/*
 * Maps memory that reads as ones, as a PVH dom0 does where a frame failed. Only this process sees what is written
 * there. Returns 0 or ENOMEM.
 */
int pages_ones(uint64_t at, uint64_t n_pages, int prot);

#endif
