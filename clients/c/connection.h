// SPDX-License-Identifier: Apache-2.0
/*
 * One stream to the broker: requests out, answers in. All connections of the process share the buffers, and only one
 * makes a request at a time. All functions need the client's lock.
 */
#ifndef PRIVCMDD_CONNECTION_H
#define PRIVCMDD_CONNECTION_H

#include "request.h"

struct connection {
    int fd;
    uint32_t msgid;
};

/* The most descriptors that an answer brings. */
#define ANSWER_FDS 2

struct answer {
    struct mp_in result; /* a map: the result, or the details of an error; valid until the next request */
    int fds[ANSWER_FDS]; /* the descriptors that came, close-on-exec, closed by the caller; or -1 */
};

#define ANSWER_NONE ((struct answer){.fds = {-1, -1}})

/* Closes the descriptors of an answer. */
void answer_drop_fds(struct answer *answer);

/* Connects to the broker's socket. Returns a descriptor, kept (fds.h), or a negative errno with an error text. */
int connection_dial(void);
/* Begins a request. Returns it; the caller writes its parameters into it. */
struct request *connection_begin(struct connection *connection, const char *method);
/*
 * Sends the request that was begun and waits for its answer. Returns 0, the errno of the broker's error, or a negative
 * errno with an error text when the connection cannot be used any more: -ENXIO when the broker has gone, -ETIMEDOUT or
 * -EINTR when it does not answer (patience.h), as a late answer would be taken for that of the next request.
 */
int connection_call(struct connection *connection, struct answer *answer);
/* Says the error that answered the last request, to people who asked for that (say.h). */
void connection_say_error(void);

#endif
