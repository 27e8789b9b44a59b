// SPDX-License-Identifier: Apache-2.0
#include "fds.h"

#include <stdatomic.h>
#include <sys/resource.h>

#include "syscalls.h"

/* The usual limit is 1024; the kernel's table need not grow for ours. */
#define FLOOR 896
#define MOST 256

static _Atomic int kept[MOST]; /* number + 1; 0 is free */

int fds_keep(int fd)
{
    struct rlimit limit;
    if (fd < 0)
        return fd;
    int floor = FLOOR;
    if (!getrlimit(RLIMIT_NOFILE, &limit) && limit.rlim_cur < FLOOR + MOST)
        floor = limit.rlim_cur > 2 * MOST ? (int)limit.rlim_cur - MOST : 3;
    int high = sys_fcntl(fd, F_DUPFD_CLOEXEC, floor);
    if (high >= 0) {
        sys_close(fd);
        fd = high;
    }
    for (int i = 0; i < MOST; i++) {
        int empty = 0;
        if (atomic_compare_exchange_strong(&kept[i], &empty, fd + 1))
            break;
    }
    return fd;
}

void fds_drop(int fd)
{
    if (fd < 0)
        return;
    for (int i = 0; i < MOST; i++) {
        int mine = fd + 1;
        if (atomic_compare_exchange_strong(&kept[i], &mine, 0))
            break;
    }
    sys_close(fd);
}

bool fds_is_kept(int fd)
{
    for (int i = 0; i < MOST; i++)
        if (fd >= 0 && atomic_load_explicit(&kept[i], memory_order_relaxed) == fd + 1)
            return true;
    return false;
}

bool fds_kept_between(unsigned first, unsigned last, unsigned *which)
{
    bool found = false;
    for (int i = 0; i < MOST; i++) {
        unsigned fd = (unsigned)atomic_load_explicit(&kept[i], memory_order_relaxed) - 1;
        if (fd + 1 && fd >= first && fd <= last && (!found || fd < *which)) {
            *which = fd;
            found = true;
        }
    }
    return found;
}
