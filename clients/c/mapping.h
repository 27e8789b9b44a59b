// SPDX-License-Identifier: Apache-2.0
/*
 * The system calls on addresses that concern a device of Xen: the broker decides, then the process' own mappings are
 * changed in the same way. The functions take the client's lock, unless they say otherwise, and return what the system
 * call returns, or a negative errno.
 */
#ifndef PRIVCMDD_MAPPING_H
#define PRIVCMDD_MAPPING_H

#include <stdbool.h>
#include <sys/types.h>

#include "device.h"

/* Whether a range touches memory of a device. Does not change errno. */
bool mapping_concerned(uint64_t start, uint64_t end);

/* mmap of a device's descriptor. Returns the address, or a negative errno. */
int64_t mapping_mmap(enum device device, int fd, uint64_t addr, uint64_t size, int prot, int flags, off_t offset);
/* mmap of a device's descriptor, and munmap of whole pages of an area, for callers that hold the lock. */
int64_t mapping_mmap_held(enum device device, int fd, uint64_t addr, uint64_t size, int prot, int flags, off_t offset);
int mapping_munmap_held(uint64_t addr, uint64_t size);
/* mmap with MAP_FIXED of something that is no device, over an area. */
int64_t mapping_replace(uint64_t addr, uint64_t size, int prot, int flags, int fd, off_t offset);
int mapping_munmap(uint64_t addr, uint64_t size);
int mapping_mprotect(uint64_t addr, uint64_t size, int prot);
int64_t mapping_mremap(uint64_t addr, uint64_t from, uint64_t to, int flags, uint64_t target);

#endif
