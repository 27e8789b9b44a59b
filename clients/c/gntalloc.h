// SPDX-License-Identifier: Apache-2.0
/*
 * /dev/xen/gntalloc: pages that another domain may map. A file is asked for them first, and mmap maps them afterwards,
 * at the offset that the first call answered. The layouts are the kernel's (include/uapi/xen/gntalloc.h), written anew.
 */
#ifndef PRIVCMDD_GNTALLOC_H
#define PRIVCMDD_GNTALLOC_H

#include <stdint.h>
#include <sys/types.h>

/* As privcmd_ioctl. */
int64_t gntalloc_ioctl(uint64_t file, uint32_t number, uint64_t argument);
/* As mapping_mmap. */
int64_t gntalloc_mmap(int fd, uint64_t file, uint64_t addr, uint64_t size, int prot, int flags, off_t offset);

#endif
