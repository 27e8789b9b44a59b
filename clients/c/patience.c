// SPDX-License-Identifier: Apache-2.0
#include "patience.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "say.h"
#include "syscalls.h"

#define TICKS_PER_S 10
#define TIMEOUT_S 30
/* A year, so that a number of ticks always fits. */
#define TIMEOUT_MOST_S (366 * 24 * 3600)
/* What a broker that is only slow may still take when the program is asked to end. */
#define GRACE_TICKS TICKS_PER_S

static const struct {
    int number;
    const char *name;
} ending[] = {{SIGHUP, "SIGHUP"}, {SIGINT, "SIGINT"}, {SIGQUIT, "SIGQUIT"}, {SIGTERM, "SIGTERM"}};

/* The ticks that a wait may have; 0 for any number. */
static uint32_t most = TIMEOUT_S * TICKS_PER_S;
/* What $PRIVCMDD_BROKER_TIMEOUT is when it is no number of seconds; else empty. */
static char unknown[32];
static uint64_t kept_back;
static uint32_t n_ticks, n_asked_to_end;

__attribute__((constructor)) static void note_timeout(void)
{
    const char *text = getenv("PRIVCMDD_BROKER_TIMEOUT");
    char *end;
    if (!text || !*text)
        return;
    double seconds = strtod(text, &end);
    if (*end || !(seconds >= 0 && seconds <= TIMEOUT_MOST_S)) {
        snprintf(unknown, sizeof unknown, "%s", text);
        return;
    }
    most = (uint32_t)(seconds * TICKS_PER_S);
    most += most < seconds * TICKS_PER_S;
}

void patience_say_unknown(void)
{
    if (unknown[0])
        say_line("PRIVCMDD_BROKER_TIMEOUT is '%s', expected seconds, at most %d, or 0 to wait for ever; it is %d",
                 unknown, TIMEOUT_MOST_S, TIMEOUT_S);
    unknown[0] = 0;
}

void patience_set(int fd)
{
    static const struct timeval tick = {0, 1000000 / TICKS_PER_S};
    syscall(SYS_setsockopt, (long)fd, (long)SOL_SOCKET, (long)SO_RCVTIMEO, &tick, sizeof tick);
    syscall(SYS_setsockopt, (long)fd, (long)SOL_SOCKET, (long)SO_SNDTIMEO, &tick, sizeof tick);
}

void patience_kept_back(uint64_t signals)
{
    kept_back = signals;
}

void patience_begin(void)
{
    n_ticks = n_asked_to_end = 0;
}

/* The name of the signal that asks the program to end and that it would take; NULL for none. */
static const char *asked_to_end(void)
{
    uint64_t pending = 0;
    syscall(SYS_rt_sigpending, &pending, sizeof pending);
    for (unsigned i = 0; i < sizeof ending / sizeof *ending; i++)
        if (pending & ~kept_back & SYS_SIGNAL(ending[i].number) &&
            sys_handler(ending[i].number).handler != (uint64_t)SIG_IGN)
            return ending[i].name;
    return NULL;
}

int patience_spent(void)
{
    n_ticks++;
    if (most && n_ticks >= most)
        return say_error(ETIMEDOUT, "the broker has not answered within %g s", (double)most / TICKS_PER_S);
    const char *signal = asked_to_end();
    n_asked_to_end = signal ? n_asked_to_end + 1 : 0;
    if (n_asked_to_end > GRACE_TICKS)
        return say_error(EINTR, "the broker does not answer, and %s asks the program to end", signal);
    return 0;
}
