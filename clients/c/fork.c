// SPDX-License-Identifier: Apache-2.0
/*
 * What fork(2) means to the client: no request is under way while it happens, the child has its own of everything, and
 * no foreign mapping. The handlers of signals have their own part (preload/signals.c).
 */
#include <pthread.h>

#include "areas.h"
#include "client.h"
#include "evtchn.h"
#include "process.h"

static struct client_hold hold;

static void before(void)
{
    struct client_hold mine;
    client_lock(&mine);
    hold = mine;
    if (client_was_connected()) {
        evtchn_before_fork();
        client_before_fork();
    }
}

static void in_parent(void)
{
    struct client_hold mine = hold;
    client_after_fork(false);
    client_unlock(&mine);
}

/* What is mapped is not inherited. */
static void forget(void)
{
    areas_forget(DEVICE_PRIVCMD);
    areas_forget(DEVICE_GNTDEV);
    areas_forget(DEVICE_GNTALLOC);
}

static void in_child(void)
{
    struct client_hold mine = hold;
    process_adopt();
    client_after_fork(true);
    forget();
    client_unlock(&mine);
}

static void in_copy(void)
{
    forget();
    evtchn_forget();
}

__attribute__((constructor)) static void prepare(void)
{
    pthread_atfork(before, in_parent, in_child);
    client_when_copied(in_copy);
}
