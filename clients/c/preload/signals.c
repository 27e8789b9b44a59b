// SPDX-License-Identifier: Apache-2.0
#include "signals.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <ucontext.h>

#include "../areas.h"
#include "../client.h"
#include "../syscalls.h"
#include "../tell.h"
#include "../waiting.h"
#include "next.h"

DECLARE_NEXT(sigaction);
DECLARE_NEXT(signal);

#define WATCHED 2
static const int watched[WATCHED] = {SIGBUS, SIGSEGV};
static struct sigaction theirs[WATCHED];
/* The process that the handlers are set in. A child of vfork shares this memory, but not the handlers. */
static _Atomic pid_t owner;

static int slot_of(int number)
{
    return number == SIGBUS ? 0 : number == SIGSEGV ? 1 : -1;
}

static bool is_write(const void *context)
{
#ifdef __x86_64__
    return ((const ucontext_t *)context)->uc_mcontext.gregs[REG_ERR] & 2;
#else
    (void)context;
    return false;
#endif
}

static void tell(uint64_t addr, bool write)
{
    struct client_hold hold;
    client_lock(&hold);
    const struct area *area = areas_first(addr, addr + 1);
    if (area && area->device == DEVICE_PRIVCMD)
        tell_access(addr, write);
    client_unlock(&hold);
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    int before = errno;
    bool sent = info->si_code <= 0; /* by kill, not by an access */
    uint64_t addr = (uint64_t)info->si_addr;
    if (!sent && areas_near(addr, addr + 1))
        tell(addr, is_write(context));
    struct sigaction *known = &theirs[slot_of(number)], action = *known;
    if ((unsigned)action.sa_flags & SA_RESETHAND)
        known->sa_handler = SIG_DFL;
    errno = before;
    if (action.sa_handler == SIG_DFL || (action.sa_handler == SIG_IGN && !sent)) {
        struct sigaction by_default = {.sa_handler = SIG_DFL};
        NEXT(sigaction)(number, &by_default, NULL);
        if (sent)
            syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), number);
    } else if (action.sa_handler != SIG_IGN) {
        if (action.sa_flags & SA_SIGINFO)
            action.sa_sigaction(number, info, context);
        else
            action.sa_handler(number);
    }
    errno = before;
}

static int install(int slot, const struct sigaction *action)
{
    struct sigaction ours = *action;
    ours.sa_sigaction = on_signal;
    ours.sa_flags |= SA_SIGINFO;
    return NEXT(sigaction)(watched[slot], &ours, NULL);
}

/* The child of a fork inherits the handlers. */
static void own(void)
{
    if (owner)
        owner = getpid();
}

void signals_watch(void)
{
    static _Atomic bool follows;
    if (owner == getpid())
        return;
    for (int i = 0; i < WATCHED; i++) {
        struct sigaction now;
        if (!NEXT(sigaction)(watched[i], NULL, &now) && now.sa_sigaction != on_signal)
            theirs[i] = now;
        install(i, &theirs[i]);
    }
    if (!atomic_exchange(&follows, true))
        pthread_atfork(NULL, NULL, own);
    owner = getpid();
}

static int set(int number, const struct sigaction *action, struct sigaction *before)
{
    int slot = slot_of(number);
    if (slot < 0 || owner != getpid())
        return NEXT(sigaction)(number, action, before);
    struct sigaction was = theirs[slot];
    if (action) {
        theirs[slot] = *action;
        if (install(slot, action)) {
            theirs[slot] = was;
            return -1;
        }
    }
    if (before)
        *before = was;
    return 0;
}

EXPORT int sigaction(int number, const struct sigaction *restrict action, struct sigaction *restrict before)
{
    int result = set(number, action, before);
    if (action)
        waiting_handlers_changed();
    return result;
}

EXPORT sighandler_t signal(int number, sighandler_t handler)
{
    if (slot_of(number) < 0 || owner != getpid()) {
        sighandler_t was = NEXT(signal)(number, handler);
        waiting_handlers_changed();
        return was;
    }
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART}, before;
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, number);
    return set(number, &action, &before) ? SIG_ERR : before.sa_handler;
}
