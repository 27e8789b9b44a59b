// SPDX-License-Identifier: Apache-2.0
#include "client.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "connection.h"
#include "fds.h"
#include "patience.h"
#include "process.h"
#include "say.h"
#include "syscalls.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct connection here = {-1, 0};
static struct connection of_child = {-1, 0};
static int64_t space_of_child;
/* The space of a child that still uses the connection which its parent made for it; -1 otherwise. */
static int64_t inherited_space = -1;
static void (*forget)(void);
/* The broker has gone away, and with it what it knew of this process. */
static bool dead;
/* Why the process has no connection though its parent had one, until that is said; else empty. */
static char orphaned[256];
static struct client_host host = {false, "4.17"};
/* For $PRIVCMDD_SAY, "times". */
static uint64_t began_ns, waited_ns, n_calls;

void client_when_copied(void (*what)(void))
{
    forget = what;
}

/* In a process that was made by clone(2): the connection is its parent's. */
static void part(void)
{
    static const pthread_mutex_t unlocked = PTHREAD_MUTEX_INITIALIZER;
    lock = unlocked;
    process_adopt();
    pthread_mutex_lock(&lock);
    if (here.fd >= 0)
        snprintf(orphaned, sizeof orphaned,
                 "this process was made by clone(2) without fork(3), its parent's connection is not its own");
    fds_drop(here.fd);
    here.fd = -1;
    if (forget)
        forget();
}

void client_lock(struct client_hold *hold)
{
    /* Not by pthread_sigmask, which leaves out the signals of libc's own. */
    static const uint64_t all = ~(uint64_t)0;
    syscall(SYS_rt_sigprocmask, (long)SIG_SETMASK, &all, &hold->signals, sizeof all);
    if (process_is_copy())
        part();
    else
        pthread_mutex_lock(&lock);
    patience_kept_back(hold->signals);
}

void client_unlock(const struct client_hold *hold)
{
    pthread_mutex_unlock(&lock);
    syscall(SYS_rt_sigprocmask, (long)SIG_SETMASK, &hold->signals, NULL, sizeof hold->signals);
}

/* Closes the connection for as long as the process lives; the error's text says why. Returns the error. */
static int gone(int error)
{
    fds_drop(here.fd);
    here.fd = -1;
    if (!dead)
        say_line("%s; every call to Xen fails with ENXIO from now on, what is mapped stays", say_error_text());
    dead = true;
    return error;
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Whether the process can have a connection; ENXIO with an error text when it can have none any more. */
static int usable(void)
{
    if (orphaned[0])
        gone(say_error(ENXIO, "%s", orphaned));
    orphaned[0] = 0;
    return dead ? say_error(ENXIO, "the broker is gone, and with it all that this process knew of Xen") : 0;
}

int client_call(struct answer *answer)
{
    *answer = ANSWER_NONE;
    if (usable())
        return ENXIO;
    uint64_t begin = say_wishes(SAY_TIMES) ? now_ns() : 0;
    int error = connection_call(&here, answer);
    if (begin) {
        waited_ns += now_ns() - begin;
        n_calls++;
    }
    if (error > 0)
        connection_say_error();
    return error < 0 ? gone(-error) : error;
}

void client_say_why(const struct answer *answer)
{
    struct mp_in at;
    if (!say_wishes(SAY_ERRORS) || !mp_find(answer->result, "why", &at))
        return;
    struct mp_value why = mp_next(&at);
    if (why.type == MP_STR)
        say_line("%.*s", (int)why.size, (const char *)why.data);
}

__attribute__((constructor)) static void note_beginning(void)
{
    began_ns = now_ns();
}

__attribute__((destructor)) static void report_times(void)
{
    if (n_calls)
        say_line("%llu calls of the broker took %llu us of %llu us", (unsigned long long)n_calls,
                 (unsigned long long)waited_ns / 1000, (unsigned long long)(now_ns() - began_ns) / 1000);
}

static int attach(struct connection *connection, int64_t space)
{
    struct answer answer;
    struct request *request = connection_begin(connection, "space.attach");
    if (space < 0) {
        request_str(request, "personality", "linux");
    } else {
        request_uint(request, "space", (uint64_t)space);
    }
    return connection_call(connection, &answer);
}

const struct client_host *client_host(void)
{
    return &host;
}

static void note_host(struct mp_in result)
{
    struct mp_in map, at;
    if (!mp_find(result, "host", &map))
        return;
    if (mp_find(map, "dom0", &at)) {
        struct mp_value dom0 = mp_next(&at);
        host.pvh = dom0.type == MP_STR && dom0.size == 3 && !memcmp(dom0.data, "pvh", 3);
    }
    if (mp_find(map, "xen", &at)) {
        struct mp_value xen = mp_next(&at);
        if (xen.type == MP_STR)
            snprintf(host.xen, sizeof host.xen, "%.*s", (int)xen.size, (const char *)xen.data);
    }
}

/* Tells the broker the client's name, for logs and reports: the program's name, and the text of $PRIVCMDD_CLIENT; and
 * the job that it belongs to, if $PRIVCMDD_JOB names one. */
static int hello(struct connection *connection)
{
    char name[64];
    const char *more = getenv("PRIVCMDD_CLIENT"), *job = getenv("PRIVCMDD_JOB");
    struct answer answer;
    snprintf(name, sizeof name, "%s%s%s", program_invocation_short_name, more ? " " : "", more ? more : "");
    for (char *c = name; *c; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
    struct request *request = connection_begin(connection, "hello");
    request_str(request, "client", name);
    if (job && *job)
        request_str(request, "job", job);
    int error = connection_call(connection, &answer);
    if (!error)
        note_host(answer.result);
    return error;
}

int client_dial(struct connection *connection)
{
    *connection = (struct connection){connection_dial(), 0};
    int error = connection->fd < 0 ? connection->fd : hello(connection);
    if (!error)
        return 0;
    fds_drop(connection->fd);
    connection->fd = -1;
    return error < 0 ? -error : ENXIO;
}

/* A child that uses Xen makes a connection of its own, so that the broker knows which process it is. */
static void introduce(void)
{
    struct connection own = {connection_dial(), 0};
    int64_t space = inherited_space;
    inherited_space = -1;
    if (own.fd >= 0 && !hello(&own) && !attach(&own, space)) {
        fds_drop(here.fd);
        here = own;
    } else {
        fds_drop(own.fd);
    }
}

struct request *client_begin(const char *method)
{
    if (inherited_space >= 0 && here.fd >= 0)
        introduce();
    return connection_begin(&here, method);
}

int client_connect(void)
{
    if (usable())
        return ENXIO;
    if (here.fd >= 0)
        return 0;
    say_unknown_wish();
    patience_say_unknown();
    here.fd = connection_dial();
    if (here.fd == -ENXIO) {
        say_line("%s; start one with `privcmdd serve`, or run the program with `privcmdctl run`", say_error_text());
        return ENXIO;
    }
    int error = here.fd < 0 ? here.fd : hello(&here);
    if (!error)
        error = attach(&here, -1);
    if (!error)
        return 0;
    say_line("cannot use the broker: %s", say_error_text());
    fds_drop(here.fd);
    here.fd = -1;
    return error < 0 ? -error : ENXIO;
}

bool client_is_alone(void)
{
    return orphaned[0] || dead;
}

bool client_was_connected(void)
{
    return here.fd >= 0 || client_is_alone();
}

void client_before_fork(void)
{
    struct answer answer;
    of_child = (struct connection){-1, 0};
    if (here.fd < 0)
        return;
    client_begin("space.fork");
    if (!client_call(&answer)) {
        int64_t space = space_of_child = mp_find_int(answer.result, "space", -1);
        of_child.fd = connection_dial();
        if (space < 0 || (of_child.fd >= 0 && (hello(&of_child) || attach(&of_child, space)))) {
            fds_drop(of_child.fd);
            of_child.fd = -1;
        }
    }
    if (of_child.fd < 0 && !dead)
        snprintf(orphaned, sizeof orphaned, "no connection could be made for this child of a fork: %s",
                 say_error_text());
}

void client_after_fork(bool in_child)
{
    if (!in_child) {
        fds_drop(of_child.fd);
        of_child.fd = -1;
        orphaned[0] = 0;
        return;
    }
    if (here.fd < 0)
        return;
    fds_drop(here.fd);
    here = of_child;
    of_child.fd = -1;
    inherited_space = space_of_child;
    dead = here.fd < 0 && !orphaned[0];
}
