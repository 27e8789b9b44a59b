// SPDX-License-Identifier: Apache-2.0
/*
 * The ioctls of a device: a table of them, and one function that performs one. It holds the client's lock meanwhile,
 * says each refusal to people who asked for that (say.h), and tells the broker of an ioctl that is not in the table.
 */
#ifndef PRIVCMDD_IOCTLS_H
#define PRIVCMDD_IOCTLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ioctls_row {
    uint32_t number;
    const char *name; /* for people */
    /* Takes the open file and the ioctl's argument. Returns what the ioctl returns, or a negative errno. */
    int64_t (*perform)(uint64_t file, uint64_t argument);
};

struct ioctls {
    const char *device; /* the name behind /dev/xen/ */
    bool connects;      /* every ioctl needs the process to be connected */
    int unknown;        /* the errno of an ioctl that is not in the table */
    const struct ioctls_row *rows;
    size_t n_rows;
};

/* Performs an ioctl that no kernel has: Xen's libraries try it, to hear what a refusal is. Returns -ENOTTY. */
int64_t ioctls_in_no_kernel(uint64_t file, uint64_t argument);

/* Returns what the ioctl returns, or a negative errno. */
int64_t ioctls_perform(const struct ioctls *device, uint64_t file, uint32_t number, uint64_t argument);

#endif
