// SPDX-License-Identifier: Apache-2.0
/*
 * wait(2) and its relatives. On a real host, what a process held is given back before its parent's wait returns. The
 * broker ends all clients that have hung up before it answers anybody, so one question after each wait is enough.
 */
#include <sys/resource.h>
#include <sys/wait.h>

#include "../client.h"
#include "next.h"

DECLARE_NEXT(wait);
DECLARE_NEXT(waitpid);
DECLARE_NEXT(wait3);
DECLARE_NEXT(wait4);
DECLARE_NEXT(waitid);

/* Waits until the broker has ended what was a client of it, if it knows this process. Leaves errno alone. */
static void catch_up(void)
{
    struct client_hold hold;
    struct answer answer;
    int before = errno;
    if (!client_was_connected())
        return;
    client_lock(&hold);
    if (!client_connect()) {
        client_begin("ping");
        client_call(&answer);
    }
    client_unlock(&hold);
    errno = before;
}

static pid_t after(pid_t pid)
{
    if (pid > 0)
        catch_up();
    return pid;
}

EXPORT pid_t wait(int *status)
{
    return after(NEXT(wait)(status));
}

EXPORT pid_t waitpid(pid_t pid, int *status, int options)
{
    return after(NEXT(waitpid)(pid, status, options));
}

EXPORT pid_t wait3(int *status, int options, struct rusage *usage)
{
    return after(NEXT(wait3)(status, options, usage));
}

EXPORT pid_t wait4(pid_t pid, int *status, int options, struct rusage *usage)
{
    return after(NEXT(wait4)(pid, status, options, usage));
}

EXPORT int waitid(idtype_t type, id_t id, siginfo_t *info, int options)
{
    int result = NEXT(waitid)(type, id, info, options);
    if (!result && (!info || info->si_pid))
        catch_up();
    return result;
}
