// SPDX-License-Identifier: Apache-2.0
/* The program cannot close our own descriptors, nor read, write or seek descriptors that stand for devices. */
#include <stdarg.h>
#include <sys/uio.h>

#include "../areas.h"
#include "../evtchn.h"
#include "../fds.h"
#include "../mapping.h"
#include "../syscalls.h"
#include "marks.h"
#include "next.h"
#include "proc.h"

DECLARE_NEXT(close);
DECLARE_NEXT(fcntl);
DECLARE_NEXT(fcntl64);
DECLARE_NEXT(read);
DECLARE_NEXT(write);
DECLARE_NEXT(pread);
DECLARE_NEXT(pwrite);
DECLARE_NEXT(readv);
DECLARE_NEXT(writev);
DECLARE_NEXT(preadv);
DECLARE_NEXT(pwritev);
DECLARE_NEXT(preadv2);
DECLARE_NEXT(pwritev2);
DECLARE_NEXT(__read_chk);
DECLARE_NEXT(__pread_chk);

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
    marks_copy(fd, copy);
    return copy;
}

/* The number of one of our own descriptors cannot be the target: EBUSY. */
EXPORT int dup3(int from, int to, int flags)
{
    if (fds_is_kept(to)) {
        errno = EBUSY;
        return -1;
    }
    int copy = (int)syscall(SYS_dup3, from, to, flags);
    if (copy >= 0)
        evtchn_closed((unsigned)to, (unsigned)to);
    marks_copy(from, copy);
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
            marks_copy(fd, result);                                                                                    \
        return result;                                                                                                 \
    }

int fcntl64(int, int, ...);
FCNTL(fcntl)
FCNTL(fcntl64)

/* Closes all descriptors of the range except our own. */
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
    enum device device = marks_device(fd);
    if (device == DEVICE_EVTCHN)
        return next_result(evtchn_read(fd, data, size));
    return device ? next_result(-EINVAL) : NEXT(read)(fd, data, size);
}

EXPORT ssize_t write(int fd, const void *data, size_t size)
{
    enum device device = marks_device(fd);
    if (device == DEVICE_EVTCHN)
        return next_result(evtchn_write(fd, data, size));
    return device ? next_result(-EINVAL) : NEXT(write)(fd, data, size);
}

/* What programs call that were compiled with _FORTIFY_SOURCE; libc's own end the program when there is no room. */
ssize_t __read_chk(int, void *, size_t, size_t);
ssize_t __pread_chk(int, void *, size_t, off_t, size_t);

EXPORT ssize_t __read_chk(int fd, void *data, size_t size, size_t room)
{
    return size > room ? NEXT(__read_chk)(fd, data, size, room) : read(fd, data, size);
}

EXPORT ssize_t __pread_chk(int fd, void *data, size_t size, off_t offset, size_t room)
{
    return size > room ? NEXT(__pread_chk)(fd, data, size, offset, room) : pread(fd, data, size, offset);
}

EXPORT ssize_t __pread64_chk(int, void *, size_t, off_t, size_t) __attribute__((alias("__pread_chk")));

/* A range after the other, as the kernel does for a driver that has no read of several: up to one that is not filled. */
static ssize_t each(int fd, const struct iovec *ranges, int n, bool writes)
{
    ssize_t done = 0;
    for (int i = 0; i < n; i++) {
        ssize_t part = writes ? evtchn_write(fd, ranges[i].iov_base, ranges[i].iov_len)
                              : evtchn_read(fd, ranges[i].iov_base, ranges[i].iov_len);
        if (part < 0)
            return done ? done : part;
        done += part;
        if ((size_t)part < ranges[i].iov_len)
            break;
    }
    return done;
}

EXPORT ssize_t readv(int fd, const struct iovec *ranges, int n)
{
    enum device device = marks_device(fd);
    if (device == DEVICE_EVTCHN)
        return next_result(each(fd, ranges, n, false));
    return device ? next_result(-EINVAL) : NEXT(readv)(fd, ranges, n);
}

EXPORT ssize_t writev(int fd, const struct iovec *ranges, int n)
{
    enum device device = marks_device(fd);
    if (device == DEVICE_EVTCHN)
        return next_result(each(fd, ranges, n, true));
    return device ? next_result(-EINVAL) : NEXT(writev)(fd, ranges, n);
}

EXPORT ssize_t preadv(int fd, const struct iovec *ranges, int n, off_t offset)
{
    return marks_device(fd) ? next_result(-ESPIPE) : NEXT(preadv)(fd, ranges, n, offset);
}

EXPORT ssize_t preadv64(int, const struct iovec *, int, off_t) __attribute__((alias("preadv")));

EXPORT ssize_t pwritev(int fd, const struct iovec *ranges, int n, off_t offset)
{
    return marks_device(fd) ? next_result(-ESPIPE) : NEXT(pwritev)(fd, ranges, n, offset);
}

EXPORT ssize_t pwritev64(int, const struct iovec *, int, off_t) __attribute__((alias("pwritev")));

/* Offset -1: as readv, or writev. The drivers know none of the flags. */

static ssize_t flagged(off_t offset, int flags)
{
    return next_result(offset != -1 ? -ESPIPE : flags ? -EOPNOTSUPP : 0);
}

EXPORT ssize_t preadv2(int fd, const struct iovec *ranges, int n, off_t offset, int flags)
{
    if (!marks_device(fd))
        return NEXT(preadv2)(fd, ranges, n, offset, flags);
    return flagged(offset, flags) ? -1 : readv(fd, ranges, n);
}

EXPORT ssize_t preadv64v2(int, const struct iovec *, int, off_t, int) __attribute__((alias("preadv2")));

EXPORT ssize_t pwritev2(int fd, const struct iovec *ranges, int n, off_t offset, int flags)
{
    if (!marks_device(fd))
        return NEXT(pwritev2)(fd, ranges, n, offset, flags);
    return flagged(offset, flags) ? -1 : writev(fd, ranges, n);
}

EXPORT ssize_t pwritev64v2(int, const struct iovec *, int, off_t, int) __attribute__((alias("pwritev2")));

EXPORT ssize_t pread(int fd, void *data, size_t size, off_t offset)
{
    enum proc proc = proc_of(fd);
    if (marks_device(fd))
        return next_result(-ESPIPE);
    uint64_t at = (uint64_t)offset;
    if (proc == PROC_MEM && areas_near(at, at + size) && mapping_concerned(at, at + size))
        return next_result(-EIO);
    ssize_t n = NEXT(pread)(fd, data, size, offset);
    if (proc == PROC_PAGEMAP)
        proc_hide_pages(data, n, offset);
    return n;
}

EXPORT ssize_t pread64(int fd, void *data, size_t size, off_t offset) __attribute__((alias("pread")));

EXPORT ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return marks_device(fd) ? next_result(-ESPIPE) : NEXT(pwrite)(fd, data, size, offset);
}

EXPORT ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset) __attribute__((alias("pwrite")));

EXPORT off_t lseek(int fd, off_t offset, int whence)
{
    return marks_device(fd) ? next_result(-ESPIPE) : syscall(SYS_lseek, fd, offset, whence);
}

EXPORT off_t lseek64(int fd, off_t offset, int whence) __attribute__((alias("lseek")));

EXPORT int ftruncate(int fd, off_t size)
{
    return marks_device(fd) ? (int)next_result(-EINVAL) : (int)syscall(SYS_ftruncate, fd, size);
}

EXPORT int ftruncate64(int fd, off_t size) __attribute__((alias("ftruncate")));
