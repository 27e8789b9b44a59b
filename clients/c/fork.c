// SPDX-License-Identifier: Apache-2.0
/* What fork(2) means to the client: no request is under way while it happens, and the child has its own of everything. */
#include <pthread.h>

#include "client.h"
#include "mapping.h"

static struct client_hold hold;

static void before(void)
{
    struct client_hold mine;
    client_lock(&mine);
    hold = mine;
    if (client_was_connected()) {
        mapping_before_fork();
        client_before_fork();
    }
}

static void in_parent(void)
{
    struct client_hold mine = hold;
    client_after_fork(false);
    client_unlock(&mine);
}

static void in_child(void)
{
    struct client_hold mine = hold;
    client_after_fork(true);
    mapping_in_child();
    client_unlock(&mine);
}

__attribute__((constructor)) static void prepare(void)
{
    pthread_atfork(before, in_parent, in_child);
}
