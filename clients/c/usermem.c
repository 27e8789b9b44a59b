// SPDX-License-Identifier: Apache-2.0
#include "usermem.h"

#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "say.h"
#include "syscalls.h"

/* Pages that one system call looks at. */
#define PAGES 256
#define SCRATCH 4096

/*
 * A container may forbid the system call that all of this needs: then every pointer looks bad, and
 * the program would not learn why.
 */
static void refused(int error)
{
    static bool said;
    if (!said)
        say_line("process_vm_readv on the process itself: %s; allow it (seccomp), else every ioctl of Xen's "
                 "devices is EFAULT",
                 strerror(error));
    said = true;
}

/*
 * Copies by process_vm_readv, whichever way: the kernel checks both sides, and a bad pointer is EFAULT. What is written
 * is its local side, so that a checker that knows the system call (memcheck) sees that it has been set;
 * process_vm_writev into the caller's memory would be a write that no checker sees.
 */
static bool copy(uint64_t to, uint64_t from, uint64_t size)
{
    size_t done = 0;
    pid_t self = getpid();
    while (done < size) {
        struct iovec local = {(void *)(to + done), size - done}, remote = {(void *)(from + done), size - done};
        long n = syscall(SYS_process_vm_readv, self, &local, 1L, &remote, 1L, 0L);
        if (n < 0 && errno != EFAULT)
            refused(errno);
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    return done == size;
}

bool user_read(void *to, uint64_t from, uint64_t size)
{
    return copy((uint64_t)to, from, size);
}

bool user_write(uint64_t to, const void *from, uint64_t size)
{
    return copy(to, (uint64_t)from, size);
}

/* Valgrind preloads a library of its own into the program that it runs. */
bool user_is_checked(void)
{
    static int known;
    const char *preloaded = known ? NULL : getenv("LD_PRELOAD");
    if (!known)
        known = preloaded && strstr(preloaded, "vgpreload_") ? 1 : -1;
    return known > 0;
}

void user_written(uint64_t at, uint64_t size)
{
    copy(at, at, size);
}

void user_clear(uint64_t to, uint64_t size)
{
    static const char zeros[SCRATCH];
    while (size) {
        uint64_t n = size < sizeof zeros ? size : sizeof zeros;
        if (!user_write(to, zeros, n))
            return;
        to += n;
        size -= n;
    }
}

bool user_writable(uint64_t at, uint64_t n_ints)
{
    uint64_t end = at + n_ints * sizeof(int);
    pid_t self = getpid();
    while (at < end) {
        /* One byte of each page is read and written back. */
        char bytes[PAGES];
        struct iovec there[PAGES], here = {bytes, 0};
        while (here.iov_len < PAGES && at < end) {
            there[here.iov_len++] = (struct iovec){(void *)at, 1};
            at = (at | PAGE_MASK) + 1;
        }
        long n = (long)here.iov_len;
        if (syscall(SYS_process_vm_readv, self, &here, 1L, there, n, 0L) != n ||
            syscall(SYS_process_vm_writev, self, &here, 1L, there, n, 0L) != n)
            return false;
    }
    return true;
}

bool user_readable(uint64_t at, uint64_t size)
{
    char scratch[SCRATCH];
    while (size) {
        uint64_t n = size < sizeof scratch ? size : sizeof scratch;
        if (!user_read(scratch, at, n))
            return false;
        at += n;
        size -= n;
    }
    return true;
}

bool user_range(uint64_t at, uint64_t size)
{
    return size <= USER_END && at <= USER_END - size;
}
