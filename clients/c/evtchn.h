// SPDX-License-Identifier: Apache-2.0
/*
 * /dev/xen/evtchn: an open file is an epoll(7) instance that holds one eventfd for each port that was bound.
 *
 * An event is pending while the eventfd's count is not 0, and masked by EPOLLONESHOT: read(2) reports a port and masks
 * it, write(2) unmasks it, poll(2) works as it is. To notify is to write to the other end's eventfd. The broker hands
 * out both eventfds when a port is bound, and takes no part in events. Ports belong to the file: it asks for them on a
 * connection of its own, which a fork's child shares. They are closed with the last descriptor of the file.
 */
#ifndef PRIVCMDD_EVTCHN_H
#define PRIVCMDD_EVTCHN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Opens the device, with the flags O_CLOEXEC and O_NONBLOCK of open(2). Returns a descriptor, or -1 with errno. */
int evtchn_open(int flags);
/* Whether a descriptor is such a file. */
bool evtchn_is(int fd);
/* Whether a descriptor should be such a file, by the program's calls so far. Cheap; evtchn_is asks the kernel. */
bool evtchn_expected(int fd);
/* Returns a port, 0, or a negative errno. */
int64_t evtchn_ioctl(int fd, uint32_t number, uint64_t argument);
/* Reads the ports that have an event, as many as fit. Waits for one unless the file is O_NONBLOCK. */
ssize_t evtchn_read(int fd, void *data, size_t size);
/* Unmasks ports. */
ssize_t evtchn_write(int fd, const void *data, size_t size);

/* For fork.c, which has the lock: a child is going to have the open files too; or must not use their connections. */
void evtchn_before_fork(void);
void evtchn_forget(void);

/* Note that the program copied or closed descriptors: a file is closed with the last of its descriptors. */
void evtchn_copied(int from, int to);
void evtchn_closed(unsigned first, unsigned last);

#endif
