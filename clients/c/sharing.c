// SPDX-License-Identifier: Apache-2.0
#include "sharing.h"

#include <stdatomic.h>
#include <time.h>

#include "fds.h"
#include "patience.h"
#include "say.h"
#include "syscalls.h"

#define PORTS 4095
#define PAUSE_NS 1000000
#define PAUSES_PER_TICK 100

struct sharing_page {
    _Atomic uint8_t busy; /* a process has its turn; or it ended in it, when nobody has the lock */
    _Atomic uint8_t times_unbound[PORTS];
};

bool sharing_begin(struct sharing *sharing)
{
    if (sharing->page)
        return true;
    int fd = fds_keep(sys_memfd("privcmdd.sharing", MFD_CLOEXEC));
    void *page = MAP_FAILED;
    if (fd >= 0 && !syscall(SYS_ftruncate, fd, sizeof *sharing->page))
        page = sys_mmap(NULL, sizeof *sharing->page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED) {
        fds_drop(fd);
        return false;
    }
    *sharing = (struct sharing){fd, page};
    return true;
}

void sharing_end(struct sharing *sharing)
{
    if (!sharing->page)
        return;
    sys_munmap(sharing->page, sizeof *sharing->page);
    fds_drop(sharing->fd);
    *sharing = (struct sharing){0, NULL};
}

/* The lock belongs to the process, and the kernel takes it from one that ends. */
static bool lock(const struct sharing *sharing, short type)
{
    struct flock whole = {.l_type = type, .l_whence = SEEK_SET};
    return !sys_fcntl(sharing->fd, F_SETLK, (long)&whole);
}

int sharing_enter(const struct sharing *sharing)
{
    static const struct timespec pause = {0, PAUSE_NS};
    if (!sharing->page)
        return 0;
    patience_begin();
    for (unsigned n = 1; !lock(sharing, F_WRLCK); n++) {
        int error = n % PAUSES_PER_TICK ? 0 : patience_spent();
        if (error)
            return error;
        syscall(SYS_nanosleep, &pause, NULL);
    }
    if (!atomic_exchange(&sharing->page->busy, 1))
        return 0;
    lock(sharing, F_UNLCK);
    return say_error(ENXIO, "a process that shares this file of event channels ended in the middle of a call");
}

void sharing_leave(const struct sharing *sharing)
{
    if (!sharing->page)
        return;
    atomic_store(&sharing->page->busy, 0);
    lock(sharing, F_UNLCK);
}

uint8_t sharing_times_unbound(const struct sharing *sharing, uint32_t port)
{
    return sharing->page ? atomic_load(&sharing->page->times_unbound[port % PORTS]) : 0;
}

void sharing_unbound(const struct sharing *sharing, uint32_t port)
{
    if (sharing->page)
        atomic_fetch_add(&sharing->page->times_unbound[port % PORTS], 1);
}
