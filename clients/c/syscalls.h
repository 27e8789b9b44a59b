// SPDX-License-Identifier: Apache-2.0
/*
 * System calls, without libc's functions of the same names, because the preload library replaces these. Errors are as
 * libc's: -1 and errno.
 *
 * Arguments that the kernel reads from a whole register are passed to syscall(2) as a long: the upper half of an int
 * among variable arguments is undefined, and clang leaves other bits there.
 */
#ifndef PRIVCMDD_SYSCALLS_H
#define PRIVCMDD_SYSCALLS_H

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE_SIZE ((uint64_t)4096)
#define PAGE_MASK (PAGE_SIZE - 1)
/* Where the addresses of a process end: the broker's VM_MAX_ADDRESS. */
#ifdef __aarch64__
#define USER_END ((uint64_t)1 << 48)
#else
#define USER_END ((uint64_t)0x7ffffffff000)
#endif

static inline void *sys_mmap(void *addr, size_t size, int prot, int flags, int fd, off_t offset)
{
    return (void *)syscall(SYS_mmap, addr, size, (long)prot, (long)flags, (long)fd, offset);
}

static inline void *sys_mmap_anonymous(size_t size)
{
    return sys_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static inline void *sys_mremap(void *addr, size_t from, size_t to)
{
    return (void *)syscall(SYS_mremap, addr, from, to, (long)MREMAP_MAYMOVE, NULL);
}

static inline int sys_munmap(void *addr, size_t size)
{
    return (int)syscall(SYS_munmap, addr, size);
}

static inline int sys_mprotect(void *addr, size_t size, int prot)
{
    return (int)syscall(SYS_mprotect, addr, size, (long)prot);
}

static inline int sys_madvise(void *addr, size_t size, int advice)
{
    return (int)syscall(SYS_madvise, addr, size, advice);
}

static inline int sys_open(const char *path, int flags)
{
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, 0);
}

static inline int sys_close(int fd)
{
    return (int)syscall(SYS_close, fd);
}

static inline int sys_fcntl(int fd, int command, long argument)
{
    return (int)syscall(SYS_fcntl, fd, command, argument);
}

/* A signal's bit in the kernel's masks. */
#define SYS_SIGNAL(number) ((uint64_t)1 << ((number) - 1))

/* The beginning of the kernel's struct sigaction, and room for the rest. */
struct sys_handler {
    uint64_t handler, flags, rest[6];
};

/* A signal's handler; all zero, which is the default, when there is no such signal. */
static inline struct sys_handler sys_handler(int number)
{
    struct sys_handler found = {0};
    syscall(SYS_rt_sigaction, (long)number, NULL, &found, sizeof(uint64_t));
    return found;
}

static inline int sys_memfd(const char *name, unsigned flags)
{
    return (int)syscall(SYS_memfd_create, name, flags);
}

#endif
