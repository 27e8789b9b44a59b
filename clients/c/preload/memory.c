// SPDX-License-Identifier: Apache-2.0
/* mmap and its relatives. */
#include <stdarg.h>
#include <string.h>
#include <sys/uio.h>

#include "../areas.h"
#include "../gntalloc.h"
#include "../gntdev.h"
#include "../mapping.h"
#include "../say.h"
#include "../syscalls.h"
#include "next.h"
#include "signals.h"

#undef mmap

/* Advice that a mapping of the device refuses (VM_IO and VM_PFNMAP forbid it). Other advice does nothing. */
static const int refused[] = {
    MADV_DONTNEED,
    MADV_FREE,
    MADV_DOFORK,
    MADV_DODUMP,
    MADV_WIPEONFORK,
    MADV_COLD,
    MADV_PAGEOUT,
    22 /* MADV_POPULATE_READ */,
    23 /* MADV_POPULATE_WRITE */,
    24 /* MADV_DONTNEED_LOCKED */,
    25 /* MADV_COLLAPSE */,
};

/* Whether a range is wholly or partly memory of a device: a call that concerns one begins. Does not change errno. */
static bool concerned(uint64_t start, size_t size)
{
    uint64_t end = start + size;
    if (end <= start || !areas_near(start, end) || !mapping_concerned(start, end))
        return false;
    say_begin();
    return true;
}

/* Ends a call that concerns a device: a refusal is said to people who asked for that, and returned as libc does. */
static int64_t ended(const char *call, int64_t result)
{
    if (result < 0 && result >= -4095)
        say_refused("a device's memory", call, (int)-result);
    return next_result(result);
}

EXPORT void *mmap(void *addr, size_t size, int prot, int flags, int fd, off_t offset)
{
    uint64_t file;
    enum device device = flags & MAP_ANONYMOUS ? DEVICE_NONE : device_of(fd, &file);
    if (device == DEVICE_PRIVCMD)
        signals_watch();
    say_begin();
    if (device == DEVICE_PRIVCMD || device == DEVICE_HYPERCALL)
        return (void *)ended("mmap", mapping_mmap(device, fd, (uint64_t)addr, size, prot, flags, offset));
    if (device == DEVICE_GNTDEV)
        return (void *)ended("mmap", gntdev_mmap(fd, file, (uint64_t)addr, size, prot, flags, offset));
    if (device == DEVICE_GNTALLOC)
        return (void *)ended("mmap", gntalloc_mmap(fd, file, (uint64_t)addr, size, prot, flags, offset));
    bool fixed = flags & MAP_FIXED && (flags & MAP_FIXED_NOREPLACE) != MAP_FIXED_NOREPLACE;
    if (fixed && !((uint64_t)addr & PAGE_MASK) && concerned((uint64_t)addr, size))
        return (void *)ended("mmap", mapping_replace((uint64_t)addr, size, prot, flags, fd, offset));
    return sys_mmap(addr, size, prot, flags, fd, offset);
}

EXPORT void *mmap64(void *addr, size_t size, int prot, int flags, int fd, off_t offset) __attribute__((alias("mmap")));

EXPORT int munmap(void *addr, size_t size)
{
    return concerned((uint64_t)addr, size) ? (int)ended("munmap", mapping_munmap((uint64_t)addr, size))
                                           : sys_munmap(addr, size);
}

EXPORT int mprotect(void *addr, size_t size, int prot)
{
    if (!concerned((uint64_t)addr, size))
        return sys_mprotect(addr, size, prot);
    return (int)ended("mprotect", mapping_mprotect((uint64_t)addr, size, prot));
}

EXPORT void *mremap(void *addr, size_t from, size_t to, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    void *target = va_arg(arguments, void *);
    va_end(arguments);
    if (concerned((uint64_t)addr, from ? from : 1))
        return (void *)ended("mremap", mapping_mremap((uint64_t)addr, from, to, flags, (uint64_t)target));
    if (flags & MREMAP_FIXED && concerned((uint64_t)target, to)) {
        int result = mapping_munmap((uint64_t)target, to);
        if (result)
            return (void *)ended("mremap", result);
    }
    return (void *)syscall(SYS_mremap, addr, from, to, (long)flags, target);
}

EXPORT int madvise(void *addr, size_t size, int advice)
{
    if (!concerned((uint64_t)addr, size))
        return sys_madvise(addr, size, advice);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (advice == refused[i])
            return (int)ended("madvise", -EINVAL);
    return advice == MADV_REMOVE ? (int)ended("madvise", -ENODEV) : 0;
}

/* The device's pages are not locked, not written back, and in no cache. */

EXPORT int mlock(const void *addr, size_t size)
{
    return concerned((uint64_t)addr, size) ? 0 : (int)syscall(SYS_mlock, addr, size);
}

EXPORT int mlock2(const void *addr, size_t size, unsigned flags)
{
    return concerned((uint64_t)addr, size) ? 0 : (int)syscall(SYS_mlock2, addr, size, flags);
}

EXPORT int munlock(const void *addr, size_t size)
{
    return concerned((uint64_t)addr, size) ? 0 : (int)syscall(SYS_munlock, addr, size);
}

EXPORT int msync(void *addr, size_t size, int flags)
{
    if (!concerned((uint64_t)addr, size))
        return (int)syscall(SYS_msync, addr, size, flags);
    return flags & MS_SYNC ? (int)ended("msync", -EINVAL) : 0;
}

EXPORT int mincore(void *addr, size_t size, unsigned char *pages)
{
    if (!concerned((uint64_t)addr, size))
        return (int)syscall(SYS_mincore, addr, size, pages);
    memset(pages, 0, (size + PAGE_MASK) / PAGE_SIZE);
    return 0;
}

/* Foreign frames have no struct page: a system call that takes references to pages fails on them. */

static bool any_concerned(const struct iovec *ranges, unsigned long n)
{
    for (unsigned long i = 0; i < n; i++)
        if (concerned((uint64_t)ranges[i].iov_base, ranges[i].iov_len))
            return true;
    return false;
}

EXPORT ssize_t process_vm_readv(pid_t pid, const struct iovec *local, unsigned long n_local, const struct iovec *remote,
                                unsigned long n_remote, unsigned long flags)
{
    if (pid == getpid() && any_concerned(remote, n_remote))
        return ended("process_vm_readv", -EFAULT);
    return syscall(SYS_process_vm_readv, pid, local, n_local, remote, n_remote, flags);
}

EXPORT ssize_t process_vm_writev(pid_t pid, const struct iovec *local, unsigned long n_local,
                                 const struct iovec *remote, unsigned long n_remote, unsigned long flags)
{
    if (pid == getpid() && any_concerned(remote, n_remote))
        return ended("process_vm_writev", -EFAULT);
    return syscall(SYS_process_vm_writev, pid, local, n_local, remote, n_remote, flags);
}

EXPORT ssize_t vmsplice(int fd, const struct iovec *ranges, size_t n, unsigned flags)
{
    return any_concerned(ranges, n) ? ended("vmsplice", -EFAULT) : syscall(SYS_vmsplice, fd, ranges, n, flags);
}
