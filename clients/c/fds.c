// SPDX-License-Identifier: Apache-2.0
#include "fds.h"

#include <stdatomic.h>
#include <sys/resource.h>

#include "syscalls.h"

/* The usual limit is 1024; the kernel's table need not grow for ours. */
#define FLOOR 896

/* One bit for each number. Pages of it that are never used take no memory. */
static _Atomic uint64_t kept[FDS_MOST / 64];
/* One more than the highest number that was ever kept. */
static _Atomic unsigned top;

static uint64_t bit(int fd)
{
    return (uint64_t)1 << fd % 64;
}

/*
 * A copy with a number from floor on, or -1. Above the limit of the process when there is no room below it: a descriptor
 * that is open may lie there, and then the program has as many of its own as on a host.
 */
static int copied_up(int fd, int floor)
{
    struct rlimit limit, more;
    int high = sys_fcntl(fd, F_DUPFD_CLOEXEC, floor);
    if (high >= 0 || getrlimit(RLIMIT_NOFILE, &limit))
        return high;
    more = (struct rlimit){limit.rlim_max, limit.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &more))
        return -1;
    high = sys_fcntl(fd, F_DUPFD_CLOEXEC, floor);
    setrlimit(RLIMIT_NOFILE, &limit);
    return high;
}

int fds_keep(int fd)
{
    return fds_keep_from(fd, FLOOR);
}

int fds_keep_from(int fd, int floor)
{
    if (fd < 0)
        return fd;
    int high = copied_up(fd, floor);
    if (high >= 0) {
        sys_close(fd);
        fd = high;
    }
    if (fd >= FDS_MOST)
        return fd;
    unsigned before = atomic_load(&top);
    while (before <= (unsigned)fd && !atomic_compare_exchange_weak(&top, &before, (unsigned)fd + 1))
        ;
    atomic_fetch_or(&kept[fd / 64], bit(fd));
    return fd;
}

void fds_drop(int fd)
{
    if (fd < 0)
        return;
    if (fd < FDS_MOST)
        atomic_fetch_and(&kept[fd / 64], ~bit(fd));
    sys_close(fd);
}

bool fds_is_kept(int fd)
{
    return fd >= 0 && fd < FDS_MOST && atomic_load_explicit(&kept[fd / 64], memory_order_relaxed) & bit(fd);
}

bool fds_kept_between(unsigned first, unsigned last, unsigned *which)
{
    unsigned end = atomic_load_explicit(&top, memory_order_relaxed);
    for (unsigned fd = first; fd < end && fd <= last; fd++) {
        uint64_t rest = atomic_load_explicit(&kept[fd / 64], memory_order_relaxed) >> fd % 64;
        if (!rest) {
            fd |= 63;
        } else if (rest & 1) {
            *which = fd;
            return true;
        }
    }
    return false;
}
