// SPDX-License-Identifier: Apache-2.0
/*
 * How long the client waits for its broker: one that is stopped, or stuck, must not stop the program for ever.
 *
 * A connection's descriptor waits one tick inside the kernel and then answers EAGAIN; here it is decided whether to wait
 * on. So whoever is answered pays nothing, and the time for which the program itself is stopped does not count.
 *
 * A wait is over after $PRIVCMDD_BROKER_TIMEOUT seconds: 30 when it is not set, never when it is 0. It is over sooner
 * when a signal has come that asks the program to end: the client's lock keeps signals back, and so the call has to end
 * before the signal can be delivered. All functions need the client's lock.
 */
#ifndef PRIVCMDD_PATIENCE_H
#define PRIVCMDD_PATIENCE_H

#include <stdint.h>

/* Gives a socket its tick. */
void patience_set(int fd);
/* Notes which signals the program itself keeps back, as the kernel's mask: these cut no wait short. */
void patience_kept_back(uint64_t signals);
/* A wait begins. */
void patience_begin(void);
/* A tick has passed: 0 to wait on; or ETIMEDOUT, or EINTR because of a signal, with an error text. */
int patience_spent(void);
/* Says, once, that $PRIVCMDD_BROKER_TIMEOUT is no number of seconds. */
void patience_say_unknown(void);

#endif
