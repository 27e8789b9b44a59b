// SPDX-License-Identifier: Apache-2.0
/*
 * The system calls on addresses, where a device of Xen is concerned: the broker decides, then the process' own map is
 * changed alike. They take the client's lock, unless they say otherwise, and return what the system call returns, or a
 * negative errno.
 */
#ifndef PRIVCMDD_MAPPING_H
#define PRIVCMDD_MAPPING_H

#include <stdbool.h>
#include <sys/types.h>

#include "device.h"

/* Whether a range touches memory of a device. Leaves errno alone. */
bool mapping_concerned(uint64_t start, uint64_t end);

/* mmap of a device's descriptor. The address, or a negative errno. */
int64_t mapping_mmap(enum device device, int fd, uint64_t addr, uint64_t size, int prot, int flags, off_t offset);
/* The same, and munmap of whole pages of an area, with the lock held. */
int64_t mapping_mmap_held(enum device device, int fd, uint64_t addr, uint64_t size, int prot, int flags, off_t offset);
int mapping_munmap_held(uint64_t addr, uint64_t size);
/* mmap of something else, MAP_FIXED, over an area. */
int64_t mapping_replace(uint64_t addr, uint64_t size, int prot, int flags, int fd, off_t offset);
int mapping_munmap(uint64_t addr, uint64_t size);
int mapping_mprotect(uint64_t addr, uint64_t size, int prot);
int64_t mapping_mremap(uint64_t addr, uint64_t from, uint64_t to, int flags, uint64_t target);

#endif
