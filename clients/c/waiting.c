// SPDX-License-Identifier: Apache-2.0
#include "waiting.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/signalfd.h>

#include "client.h"
#include "syscalls.h"
#include "usermem.h"

#define SIGNALS 64
/* Signals that an instruction raises: when such a signal is blocked, the kernel ends the process. */
#define SYNCHRONOUS                                                                                                    \
    (SYS_SIGNAL(SIGSEGV) | SYS_SIGNAL(SIGBUS) | SYS_SIGNAL(SIGILL) | SYS_SIGNAL(SIGFPE) | SYS_SIGNAL(SIGTRAP) |        \
     SYS_SIGNAL(SIGSYS))
#define NEVER_CAUGHT (SYS_SIGNAL(SIGKILL) | SYS_SIGNAL(SIGSTOP))

/* Signals with a handler: after which a read is restarted, and which it ends. Asked for once, and when they change. */
static uint64_t restarting, interrupting;
static _Atomic bool known;

void waiting_handlers_changed(void)
{
    atomic_store(&known, false);
}

static void look_at_handlers(void)
{
    restarting = interrupting = 0;
    for (int number = 1; number <= SIGNALS; number++) {
        struct sys_handler action = sys_handler(number);
        if (SYS_SIGNAL(number) & (SYNCHRONOUS | NEVER_CAUGHT) || action.handler == (uint64_t)SIG_DFL ||
            action.handler == (uint64_t)SIG_IGN)
            continue;
        *(action.flags & SA_RESTART ? &restarting : &interrupting) |= SYS_SIGNAL(number);
    }
}

/* The signals to be kept back, and whether any other would interrupt. */
static uint64_t to_keep_back(bool *any_interrupts)
{
    struct client_hold hold;
    client_lock(&hold);
    if (!atomic_exchange(&known, true))
        look_at_handlers();
    uint64_t result = restarting;
    *any_interrupts = interrupting;
    client_unlock(&hold);
    return result;
}

static void close_it(void *fd)
{
    if (*(int *)fd >= 0)
        sys_close(*(int *)fd);
}

/* libc's ppoll, because a read is a place where a thread may be cancelled. */
static int poll_both(struct pollfd wanted[2], const uint64_t *mask)
{
    sigset_t signals;
    if (!mask)
        return ppoll(wanted, 2, NULL, NULL) < 0;
    sigemptyset(&signals);
    memcpy(&signals, mask, sizeof *mask);
    return ppoll(wanted, 2, NULL, &signals) < 0;
}

int waiting_for(int fd)
{
    bool any_interrupts;
    uint64_t before = 0, kept_back = to_keep_back(&any_interrupts);
    syscall(SYS_rt_sigprocmask, (long)SIG_BLOCK, NULL, &before, sizeof before);
    /* Signals that the program itself blocks are left out: they may be pending for ever. */
    kept_back &= ~before;
    struct pollfd wanted[] = {{fd, POLLIN, 0}, {-1, POLLIN, 0}};
    if (kept_back)
        wanted[1].fd = (int)syscall(SYS_signalfd4, -1L, &kept_back, sizeof kept_back, (long)SFD_CLOEXEC);
    uint64_t during = wanted[1].fd < 0 ? before : before | kept_back;
    /*
     * The mask is ppoll's, so that a handler which leaves by longjmp leaves none of it behind. But valgrind 3.19 begins a
     * ppoll anew, after a signal that came just before it, with a pointer to a mask of valgrind's own: EFAULT.
     */
    bool apart = user_is_checked();
    if (apart)
        syscall(SYS_rt_sigprocmask, (long)SIG_SETMASK, &during, NULL, sizeof during);
    int error = 0;
    pthread_cleanup_push(close_it, &wanted[1].fd);
    if (poll_both(wanted, apart ? NULL : &during))
        error = errno;
    pthread_cleanup_pop(true);
    if (apart)
        syscall(SYS_rt_sigprocmask, (long)SIG_SETMASK, &before, NULL, sizeof before);
    if (error != EINTR)
        return error;
    /* The signal's handler may be unknown to us: the program can set handlers by a system call of its own. */
    waiting_handlers_changed();
    to_keep_back(&any_interrupts);
    return any_interrupts ? EINTR : 0;
}
