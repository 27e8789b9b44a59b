// SPDX-License-Identifier: Apache-2.0
/*
 * The ioctls of /dev/xen/privcmd. The broker decides everything except what only the process can know: whether one of
 * its pointers is good. The layouts are the kernel's (include/uapi/xen/privcmd.h), written anew.
 */
#ifndef PRIVCMDD_PRIVCMD_H
#define PRIVCMDD_PRIVCMD_H

#include <stdbool.h>
#include <stdint.h>

#define PRIVCMD_IOCTL(number, size) (('P' << 8) | (number) | ((uint32_t)(size) << 16))

struct privcmd_hypercall {
    uint64_t op;
    uint64_t arg[5];
};

struct privcmd_mmap_entry {
    uint64_t va;
    uint64_t mfn;
    uint64_t npages;
};

struct privcmd_mmap {
    uint32_t num;
    uint16_t dom;
    uint64_t entry;
};

struct privcmd_mmapbatch {
    uint32_t num;
    uint16_t dom;
    uint64_t addr;
    uint64_t arr;
};

struct privcmd_mmapbatch_v2 {
    uint32_t num;
    uint16_t dom;
    uint64_t addr;
    uint64_t arr;
    uint64_t err;
};

struct privcmd_dm_op {
    uint16_t dom;
    uint16_t num;
    uint64_t bufs;
};

struct privcmd_dm_op_buf {
    uint64_t data;
    uint64_t size;
};

struct privcmd_mmap_resource {
    uint16_t dom;
    uint32_t type;
    uint32_t id;
    uint32_t idx;
    uint64_t num;
    uint64_t addr;
};

#define PRIVCMD_HYPERCALL PRIVCMD_IOCTL(0, sizeof(struct privcmd_hypercall))
#define PRIVCMD_MMAP PRIVCMD_IOCTL(2, sizeof(struct privcmd_mmap))
#define PRIVCMD_MMAPBATCH PRIVCMD_IOCTL(3, sizeof(struct privcmd_mmapbatch))
#define PRIVCMD_MMAPBATCH_V2 PRIVCMD_IOCTL(4, sizeof(struct privcmd_mmapbatch_v2))
#define PRIVCMD_DM_OP PRIVCMD_IOCTL(5, sizeof(struct privcmd_dm_op))
#define PRIVCMD_RESTRICT PRIVCMD_IOCTL(6, sizeof(uint16_t))
#define PRIVCMD_MMAP_RESOURCE PRIVCMD_IOCTL(7, sizeof(struct privcmd_mmap_resource))
#define PRIVCMD_UNIMPLEMENTED PRIVCMD_IOCTL(0xff, 0)

/*
 * Does what the ioctl does. file is the inode of the device's open file that the ioctl is called on, or 0.
 * argument is the address of the structure. Returns what the ioctl returns, or a negative errno; ENOTTY for an ioctl
 * that the device does not have.
 */
int64_t privcmd_ioctl(uint64_t file, uint32_t number, uint64_t argument);

#endif
