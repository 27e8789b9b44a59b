// SPDX-License-Identifier: Apache-2.0
/*
 * Which addresses of this process are mapped from a device of Xen.
 *
 * The broker knows what is mapped there and decides; this table says whether a range concerns the broker at all, and
 * how the process' own page tables are to be filled. All functions but areas_near need the client's lock.
 */
#ifndef PRIVCMDD_AREAS_H
#define PRIVCMDD_AREAS_H

#include <stdbool.h>
#include <stdint.h>

#include "device.h"

struct area {
    uint64_t start, end;
    uint64_t file;     /* which open file of the device is mapped: its inode number */
    uint64_t offset;   /* gntdev: which grants of the file, by their offset, */
    uint32_t n_grants; /* and how many they are; the area may map a part of them */
    int prot;
    uint8_t device;  /* enum device */
    bool is_private; /* MAP_PRIVATE */
    bool may_write;  /* may become writable: the descriptor is writable, or the mapping is private */
    bool used;       /* frames have been mapped here */
};

/* Whether a range could touch an area. Needs no lock, and is false for nearly all memory of a program. */
bool areas_near(uint64_t start, uint64_t end);
/* Whether a range touches an area. */
bool areas_touch(uint64_t start, uint64_t end);
/* The lowest area that touches the range, or NULL; valid until the next change. */
struct area *areas_first(uint64_t start, uint64_t end);
/* Adds an area at addresses where none is. False when there is no memory. */
bool areas_add(struct area area);
/* Removes all areas of a range; an area that lies in it in part is clipped. False when there is no memory to clip. */
bool areas_remove(uint64_t start, uint64_t end);
/* Removes all areas of a device. */
void areas_forget(enum device device);

#endif
