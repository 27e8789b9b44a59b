// SPDX-License-Identifier: Apache-2.0
/* Descriptors of our own are kept from the program; the device's cannot be read, written or moved in. */
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include "../evtchn.h"
#include "../fds.h"
#include "../mapping.h"
#include "../syscalls.h"
#include "preload.h"

#define MARKS 4096

static _Atomic uint64_t marks[MARKS / 64];

void preload_mark(int fd)
{
    if (fd >= 0 && fd < MARKS)
        atomic_fetch_or_explicit(&marks[fd / 64], (uint64_t)1 << fd % 64, memory_order_relaxed);
}

enum device preload_marked(int fd)
{
    uint64_t file;
    if (fd < 0 || fd >= MARKS || !(atomic_load_explicit(&marks[fd / 64], memory_order_relaxed) >> fd % 64 & 1))
        return DEVICE_NONE;
    enum device device = device_of(fd, &file);
    if (device == DEVICE_NONE)
        atomic_fetch_and_explicit(&marks[fd / 64], ~((uint64_t)1 << fd % 64), memory_order_relaxed);
    return device;
}

/* Whether read and write of a descriptor are refused: only the event channel device has them. */
static bool silent(int fd)
{
    enum device device = preload_marked(fd);
    return device != DEVICE_NONE && device != DEVICE_EVTCHN;
}

void preload_mark_copy(int from, int to)
{
    if (to >= 0 && preload_marked(from) != DEVICE_NONE)
        preload_mark(to);
    evtchn_copied(from, to);
}

DECLARE_NEXT(close);
DECLARE_NEXT(fcntl);
DECLARE_NEXT(fcntl64);
DECLARE_NEXT(read);
DECLARE_NEXT(write);
DECLARE_NEXT(pread);
DECLARE_NEXT(pwrite);
DECLARE_NEXT(readv);
DECLARE_NEXT(writev);

EXPORT int close(int fd)
{
    if (!fds_is_kept(fd)) {
        if (fd >= 0)
            evtchn_closed((unsigned)fd, (unsigned)fd);
        return NEXT(close)(fd);
    }
    errno = EBADF;
    return -1;
}

EXPORT int dup(int fd)
{
    int copy = (int)syscall(SYS_dup, fd);
    preload_mark_copy(fd, copy);
    return copy;
}

/* A number that is one of ours is taken, as far as the program can tell. */
EXPORT int dup3(int from, int to, int flags)
{
    if (fds_is_kept(to)) {
        errno = EBUSY;
        return -1;
    }
    int copy = (int)syscall(SYS_dup3, from, to, flags);
    if (copy >= 0)
        evtchn_closed((unsigned)to, (unsigned)to);
    preload_mark_copy(from, copy);
    return copy;
}

EXPORT int dup2(int from, int to)
{
    if (from == to)
        return fcntl(from, F_GETFD) < 0 ? -1 : to;
    return dup3(from, to, 0);
}

#define FCNTL(name)                                                                                                    \
    EXPORT int name(int fd, int command, ...)                                                                          \
    {                                                                                                                  \
        va_list arguments;                                                                                             \
        va_start(arguments, command);                                                                                  \
        void *argument = va_arg(arguments, void *);                                                                    \
        va_end(arguments);                                                                                             \
        int result = NEXT(name)(fd, command, argument);                                                                \
        if (command == F_DUPFD || command == F_DUPFD_CLOEXEC)                                                          \
            preload_mark_copy(fd, result);                                                                             \
        return result;                                                                                                 \
    }

int fcntl64(int, int, ...);
FCNTL(fcntl)
FCNTL(fcntl64)

/* Closes all but ours. */
EXPORT int close_range(unsigned first, unsigned last, int flags)
{
    unsigned ours;
    if (!flags)
        evtchn_closed(first, last);
    while (first <= last && fds_kept_between(first, last, &ours)) {
        if (ours > first && syscall(SYS_close_range, first, ours - 1, flags))
            return -1;
        first = ours + 1;
    }
    return first > last ? 0 : (int)syscall(SYS_close_range, first, last, flags);
}

EXPORT void closefrom(int first)
{
    close_range(first < 0 ? 0 : (unsigned)first, ~0U, 0);
}

EXPORT ssize_t read(int fd, void *data, size_t size)
{
    enum device device = preload_marked(fd);
    if (device == DEVICE_EVTCHN)
        return preload_result(evtchn_read(fd, data, size));
    return device ? preload_result(-EINVAL) : NEXT(read)(fd, data, size);
}

EXPORT ssize_t write(int fd, const void *data, size_t size)
{
    enum device device = preload_marked(fd);
    if (device == DEVICE_EVTCHN)
        return preload_result(evtchn_write(fd, data, size));
    return device ? preload_result(-EINVAL) : NEXT(write)(fd, data, size);
}

EXPORT ssize_t readv(int fd, const struct iovec *ranges, int n)
{
    return silent(fd) ? preload_result(-EINVAL) : NEXT(readv)(fd, ranges, n);
}

EXPORT ssize_t writev(int fd, const struct iovec *ranges, int n)
{
    return silent(fd) ? preload_result(-EINVAL) : NEXT(writev)(fd, ranges, n);
}

EXPORT ssize_t pread(int fd, void *data, size_t size, off_t offset)
{
    enum preload_proc proc = preload_proc_of(fd);
    if (preload_marked(fd))
        return preload_result(-ESPIPE);
    uint64_t at = (uint64_t)offset;
    if (proc == PROC_MEM && areas_near(at, at + size) && mapping_concerned(at, at + size))
        return preload_result(-EIO);
    ssize_t n = NEXT(pread)(fd, data, size, offset);
    if (proc == PROC_PAGEMAP)
        preload_hide_pages(data, n, offset);
    return n;
}

EXPORT ssize_t pread64(int fd, void *data, size_t size, off_t offset) __attribute__((alias("pread")));

EXPORT ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return preload_marked(fd) ? preload_result(-ESPIPE) : NEXT(pwrite)(fd, data, size, offset);
}

EXPORT ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset) __attribute__((alias("pwrite")));

EXPORT off_t lseek(int fd, off_t offset, int whence)
{
    return preload_marked(fd) ? preload_result(-ESPIPE) : syscall(SYS_lseek, fd, offset, whence);
}

EXPORT off_t lseek64(int fd, off_t offset, int whence) __attribute__((alias("lseek")));

EXPORT int ftruncate(int fd, off_t size)
{
    return preload_marked(fd) ? (int)preload_result(-EINVAL) : (int)syscall(SYS_ftruncate, fd, size);
}

EXPORT int ftruncate64(int fd, off_t size) __attribute__((alias("ftruncate")));
