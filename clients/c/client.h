// SPDX-License-Identifier: Apache-2.0
/*
 * The connection of the process to the broker. Its threads share it.
 *
 * What it promises:
 * - One lock. It is held during a request and until its answer is carried out, so that no other thread sees a mapping
 *   that the broker has and the process has not, or the other way round. Signals are blocked meanwhile, those by which
 *   libc cancels threads too: a handler may call anything that a program may call, and leave with longjmp.
 * - No thread, no malloc, no signal of its own, and no SIGPIPE.
 * - A fork's child has a connection and an address space of its own, the broker's copy of its parent's. The connection
 *   is made before the fork, so that the child has it also when the parent exits at once.
 * - A child of bare clone(2), without fork(3), has none: its calls fail with ENXIO. If the lock was held when it was
 *   made, it is free in the child, which never waits for a thread that it does not have.
 * - When the broker goes away, every later call fails with ENXIO, for as long as the process lives: a new broker knows
 *   nothing of what is mapped, and a restricted file must not become unrestricted. Nothing waits for a new broker.
 * - Nothing waits for ever (patience.h). A broker that does not answer has gone away as well: its answer, when it comes
 *   after all, must not be taken for another one.
 *
 * All functions need the lock, except client_lock.
 */
#ifndef PRIVCMDD_CLIENT_H
#define PRIVCMDD_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "connection.h"

struct client_hold {
    uint64_t signals; /* the kernel's mask, as it was */
};

/* Takes the lock and blocks signals, until client_unlock. */
void client_lock(struct client_hold *hold);
void client_unlock(const struct client_hold *hold);

/*
 * Connects if the process is not connected yet (where.h), and gets an address space of personality linux. Returns 0;
 * ENXIO; or ETIMEDOUT or EINTR of a broker that does not answer.
 */
int client_connect(void);
/* Whether there is or was a connection: only then can a broker know anything of this process. */
bool client_was_connected(void);
/* Whether there was a connection that is of no use any more: what is mapped is known to this process only. */
bool client_is_alone(void);

/* The host that the broker simulates; known once connected. */
struct client_host {
    bool pvh;     /* dom0 is PVH */
    char xen[16]; /* Xen's version, as 4.17 */
};

const struct client_host *client_host(void);

/* Begins a request. Returns it; the caller writes its parameters into it. */
struct request *client_begin(const char *method);

/*
 * Sends the request that was begun and waits for its answer. Returns 0, or the errno of the broker's error: ENXIO when
 * there is no broker (any more), ETIMEDOUT or EINTR when it does not answer, ENOMEM when the request is too long.
 */
int client_call(struct answer *answer);
/* Says why something in an answer was refused, if the answer has it and people asked for it (say.h). */
void client_say_why(const struct answer *answer);

/*
 * Opens one more connection of this process and tells the broker which program it is. The connection has no address
 * space. Returns as client_connect.
 */
int client_dial(struct connection *connection);

/* fork.c calls these. */
void client_before_fork(void);
void client_after_fork(bool in_child);
/* Has a function called, with the lock held, in a process that turns out to be a copy (process.h). */
void client_when_copied(void (*forget)(void));

#endif
