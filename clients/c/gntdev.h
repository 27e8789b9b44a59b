// SPDX-License-Identifier: Apache-2.0
/*
 * /dev/xen/gntdev: a file is asked for grants first, and mmap maps them afterwards, at the offset that the first call
 * answered. The broker knows what is granted; this file only knows which offset stands for which grants. The layouts
 * are the kernel's (include/uapi/xen/gntdev.h), written anew.
 */
#ifndef PRIVCMDD_GNTDEV_H
#define PRIVCMDD_GNTDEV_H

#include <stdint.h>
#include <sys/types.h>

/* As privcmd_ioctl. */
int64_t gntdev_ioctl(uint64_t file, uint32_t number, uint64_t argument);
/* As mapping_mmap. */
int64_t gntdev_mmap(int fd, uint64_t file, uint64_t addr, uint64_t size, int prot, int flags, off_t offset);

#endif
