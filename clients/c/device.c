// SPDX-License-Identifier: Apache-2.0
#include "device.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "evtchn.h"
#include "syscalls.h"

#define SLOTS 1024

static const char *const names[] = {
    [DEVICE_PRIVCMD] = "privcmdd.privcmd",
    [DEVICE_HYPERCALL] = "privcmdd.hypercall",
    [DEVICE_GNTDEV] = "privcmdd.gntdev",
    [DEVICE_GNTALLOC] = "privcmdd.gntalloc",
};
#define DEVICES (sizeof names / sizeof *names)

/*
 * A cache of the devices that memfds stand for: inode number * 8 + device; DEVICE_NONE for memfds that are not ours.
 * The kernel uses no inode number of a memfd twice.
 */
static _Atomic uint64_t seen[SLOTS];
/* The file system that memfds live in; 0 until one was made. */
static _Atomic dev_t memfds;

static dev_t memfd_device(void)
{
    dev_t device = atomic_load_explicit(&memfds, memory_order_relaxed);
    struct stat status;
    if (device)
        return device;
    int fd = sys_memfd("privcmdd.nothing", MFD_CLOEXEC);
    if (fd < 0)
        return 0;
    if (!fstat(fd, &status)) {
        device = status.st_dev;
        atomic_store(&memfds, device);
    }
    sys_close(fd);
    return device;
}

/* The device by the name of the memfd. */
static enum device named(int fd)
{
    char path[32], target[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    long n = syscall(SYS_readlinkat, AT_FDCWD, path, target, sizeof target);
    for (unsigned i = DEVICE_PRIVCMD; i < DEVICES; i++) {
        char wanted[64];
        int size = snprintf(wanted, sizeof wanted, "/memfd:%s (deleted)", names[i]);
        if (n == size && !memcmp(target, wanted, (size_t)size))
            return (enum device)i;
    }
    return DEVICE_NONE;
}

enum device device_of(int fd, uint64_t *file)
{
    int before = errno;
    struct stat status;
    enum device device = DEVICE_NONE;
    if (evtchn_expected(fd) && evtchn_is(fd)) /* saves an fstat for each request of a guest */
        return DEVICE_EVTCHN;
    if (fd < 0 || fstat(fd, &status)) {
        errno = before;
        return DEVICE_NONE;
    }
    if (!(status.st_mode & S_IFMT)) { /* an epoll instance, perhaps */
        device = evtchn_is(fd) ? DEVICE_EVTCHN : DEVICE_NONE;
    } else if (S_ISREG(status.st_mode) && !status.st_nlink && status.st_dev == memfd_device()) {
        _Atomic uint64_t *slot = &seen[status.st_ino % SLOTS];
        uint64_t known = atomic_load_explicit(slot, memory_order_relaxed);
        *file = status.st_ino;
        if (known >> 3 == status.st_ino) {
            device = (enum device)(known & 7);
        } else {
            device = named(fd);
            atomic_store_explicit(slot, (uint64_t)status.st_ino << 3 | device, memory_order_relaxed);
        }
    }
    errno = before;
    return device;
}

int device_open(enum device device, int flags)
{
    if (device == DEVICE_EVTCHN)
        return evtchn_open(flags);
    int made = sys_memfd(names[device], MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (made < 0)
        return -1;
    sys_fcntl(made, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW);
    /* Opened again, by its path in /proc, it has the access mode and the flags of the caller. */
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", made);
    int fd = sys_open(path, flags & (O_ACCMODE | O_CLOEXEC | O_NONBLOCK | O_APPEND));
    int error = errno;
    sys_close(made);
    errno = error;
    return fd;
}
