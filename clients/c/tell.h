// SPDX-License-Identifier: Apache-2.0
/*
 * Requests that tell the broker about the process' memory: mappings that are made and unmapped, and accesses. All
 * functions need the client's lock.
 */
#ifndef PRIVCMDD_TELL_H
#define PRIVCMDD_TELL_H

#include "areas.h"

/*
 * Tell of a system call on an area. Return 0, or the broker's errno: then the call is not made. *page is the page of
 * the file of hypercall buffers at which the mapping begins; page may be NULL.
 */
int tell_mmap(const struct area *area, uint64_t *page);
int tell_munmap(uint64_t addr, uint64_t size);
int tell_mprotect(uint64_t addr, uint64_t size, int prot);

/* Tells of an access that raised a signal. Returns 0, or the broker's errno. */
int tell_access(uint64_t addr, bool write);

/*
 * Tells of memory in a range that is not a device's, before a request that a real kernel would carry out there. Returns
 * whether there is such memory. After the request, untell_own takes back what is left of it.
 */
bool tell_own(uint64_t start, uint64_t end);
void untell_own(uint64_t start, uint64_t end);

#endif
