// SPDX-License-Identifier: Apache-2.0
/*
 * What mapping.c and apply.c share: telling the broker of a change, and changing pages of the process. With the client's
 * lock held.
 */
#ifndef PRIVCMDD_PAGES_H
#define PRIVCMDD_PAGES_H

#include "areas.h"
#include "syscalls.h"

/* Each returns 0, or the broker's errno. */
int tell_mmap(const struct area *area, uint64_t *page);
int tell_munmap(uint64_t addr, uint64_t size);
int tell_mprotect(uint64_t addr, uint64_t size, int prot);

/*
 * Tells the broker of memory of the process' own in a range, before a request that a real kernel would let have it;
 * returns whether there is any. Afterwards what the request has left of it is taken back.
 */
bool tell_own(uint64_t start, uint64_t end);
void untell_own(uint64_t start, uint64_t end);

/* Whether a mapping begins at an address. */
bool pages_begin(uint64_t addr);
/* Whether the mapping that holds an address, or else the next one above it, is memory of a device (the kernel's find_vma). */
bool pages_found_is_ours(uint64_t addr);
/* How an area's pages are mapped: MAP_SHARED or MAP_PRIVATE. */
int pages_sharing(const struct area *area);
/* The child of a fork has no foreign mapping, a core dump no guest's memory. Hypercall buffers are inherited. */
void pages_settle(struct area *area);
/* Lets a range be touched with SIGBUS, as pages of the device without a frame. */
bool pages_blank(const struct area *area, uint64_t start, uint64_t end);
/* Memory that reads as ones: what a PVH dom0 has where a frame failed. What is written there only this process sees. */
int pages_ones(uint64_t at, uint64_t n_pages, int prot);

#endif
