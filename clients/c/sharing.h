// SPDX-License-Identifier: Apache-2.0
/*
 * An open file of event channels that several processes have, after fork(2): they take turns with its connection to the
 * broker, and tell each other which ports have been unbound. All functions need the client's lock.
 */
#ifndef PRIVCMDD_SHARING_H
#define PRIVCMDD_SHARING_H

#include <stdbool.h>
#include <stdint.h>

struct sharing {
    int fd; /* a file of one page, which is locked by turns; 0 while no other process has the open file */
    struct sharing_page *page;
};

/* Note that the open file is about to be shared. False: it cannot be. */
bool sharing_begin(struct sharing *sharing);
void sharing_end(struct sharing *sharing);

/*
 * Takes the turn; at once when nothing is shared. Returns 0, ETIMEDOUT or EINTR (patience.h), or ENXIO: a process ended
 * in the middle of its turn, and nobody knows what comes next on the connection.
 */
int sharing_enter(const struct sharing *sharing);
void sharing_leave(const struct sharing *sharing);

/* How often a port has been unbound. */
uint8_t sharing_times_unbound(const struct sharing *sharing, uint32_t port);
void sharing_unbound(const struct sharing *sharing, uint32_t port);

#endif
