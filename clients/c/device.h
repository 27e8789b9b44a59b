// SPDX-License-Identifier: Apache-2.0
/*
 * Descriptors that stand for Xen's devices.
 *
 * Each is a memfd of length zero with a name of ours: an access to a page mapped from it raises SIGBUS, as on a page of
 * the device without a frame. The descriptor itself says which device it stands for; a table could not, because dup,
 * fcntl, fork, exec and SCM_RIGHTS copy it where we do not see it, and dup2 replaces it. Its inode number says which
 * open file of the device it is. The event channel device is no memfd, but an epoll instance (evtchn.h).
 */
#ifndef PRIVCMDD_DEVICE_H
#define PRIVCMDD_DEVICE_H

#include <stdint.h>

enum device { DEVICE_NONE, DEVICE_PRIVCMD, DEVICE_HYPERCALL, DEVICE_GNTDEV, DEVICE_GNTALLOC, DEVICE_EVTCHN };

/* Opens a device with the flags of open(2): the access mode, O_CLOEXEC, O_NONBLOCK. -1 with errno. */
int device_open(enum device device, int flags);
/* The device that a descriptor stands for; *file is the inode number. Does not change errno. */
enum device device_of(int fd, uint64_t *file);

#endif
