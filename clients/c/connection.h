// SPDX-License-Identifier: Apache-2.0
/*
 * One stream to the broker: a request out, its answer in. The buffers are shared by all connections of the process,
 * which has two only while it forks. Under the client's lock.
 */
#ifndef PRIVCMDD_CONNECTION_H
#define PRIVCMDD_CONNECTION_H

#include "client.h"

struct connection {
    int fd;
    uint32_t msgid;
};

/* A connected descriptor, kept (fds.h), or -1 with an error text. */
int connection_dial(void);
/* One more connection of this process, which has said who it is; it has no address space. 0, or ENXIO. */
int client_dial(struct connection *connection);
struct mp_out *connection_begin(struct connection *connection, const char *method, uint32_t n_params);
/* 0, the errno of the broker's error, or -1: the connection is of no use any more. */
int connection_call(struct connection *connection, struct client_answer *answer);

#endif
