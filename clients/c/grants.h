// SPDX-License-Identifier: Apache-2.0
/*
 * What gntdev and gntalloc share: a file is asked for grants first, and mmap maps them afterwards, at the offset that
 * the first call answered. The layouts are the kernel's (include/uapi/xen), written anew. All functions need the
 * client's lock.
 */
#ifndef PRIVCMDD_GRANTS_H
#define PRIVCMDD_GRANTS_H

#include <stdbool.h>
#include <stdint.h>

#include "device.h"

#define GRANTS_IOCTL(number, size) (('G' << 8) | (number) | ((uint32_t)(size) << 16))

/* The argument of UNMAP_GRANT_REF and of DEALLOC_GREF: grants that a file is to forget, by their offset. */
struct grants_range {
    uint64_t index;
    uint32_t count;
    uint32_t pad;
};

/* What happens when a page is unmapped: a byte is cleared, an event is sent, or both. */
struct grants_notify {
    uint64_t index;
    uint32_t action;
    uint32_t port;
};

#define GRANTS_SET_UNMAP_NOTIFY GRANTS_IOCTL(7, sizeof(struct grants_notify))

/* Checks what SET_UNMAP_NOTIFY asks for. Returns 0 or EINVAL. */
int grants_check_notify(const struct grants_notify *notify);

/* The most grants in one request to the broker. */
#define GRANTS_MOST 1024

/*
 * Maps pages that a process of domain 0 has shared into an area; own: this process made them. Returns 0 or an errno;
 * after an errno the caller unmaps.
 */
int grants_map_shared(uint64_t addr, const uint32_t *refs, uint32_t n, int prot, bool own);

/* Maps grants of a file at an address. Returns 0 or an errno. */
typedef int grants_fill(void *grants, uint64_t addr, int prot);

/* mmap of one of the devices: maps an area and fills it. Returns the address, or a negative errno with no mapping. */
int64_t grants_mmap(enum device device, int fd, uint64_t addr, uint64_t size, int prot, int flags, grants_fill *fill,
                    void *grants);

#endif
