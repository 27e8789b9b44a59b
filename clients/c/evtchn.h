// SPDX-License-Identifier: Apache-2.0
/*
 * /dev/xen/evtchn: an open file is an epoll(7) instance that holds one eventfd for each port that was bound.
 *
 * That an event is pending is the eventfd's count, that it is masked is EPOLLONESHOT: read(2) reports a port and masks
 * it, write(2) unmasks it, poll(2) works as it is. Notifying is a write to the other end's eventfd: neither passes the
 * broker, which only hands both out when a port is bound. Ports are the file's: they are asked for on a connection of its
 * own, which a fork's child shares, and closed when the last process that has the file closes it.
 */
#ifndef PRIVCMDD_EVTCHN_H
#define PRIVCMDD_EVTCHN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Opens the device: a descriptor, or -1 with errno. Flags are O_CLOEXEC and O_NONBLOCK. */
int evtchn_open(int flags);
/* Whether a descriptor is such a file. */
bool evtchn_is(int fd);
/* Whether it should be, going by what the program did: costs nothing, and the kernel is to be asked. */
bool evtchn_expected(int fd);
/* A port, 0, or a negative errno. */
int64_t evtchn_ioctl(int fd, uint32_t command, uint64_t argument);
/* Ports that have an event, as many as fit; waits for one unless the file is O_NONBLOCK. */
ssize_t evtchn_read(int fd, void *data, size_t size);
/* Ports that are to be told of again. */
ssize_t evtchn_write(int fd, const void *data, size_t size);

/* The program's descriptors are followed, so that a file is given up with the last of them. */
void evtchn_copied(int from, int to);
void evtchn_closed(unsigned first, unsigned last);

#endif
