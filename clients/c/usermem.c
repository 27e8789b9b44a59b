// SPDX-License-Identifier: Apache-2.0
#include "usermem.h"

#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "syscalls.h"

/* Pages that one system call looks at. */
#define PAGES 256
#define SCRATCH 4096

/* Whether process_vm_readv is not to be had: a container may forbid it (EPERM), an emulator may lack it (ENOSYS). */
static bool by_pipe;

/* Whether a call of it failed for that reason, and will again. */
static bool for_good(long n)
{
    if (n < 0 && errno != EFAULT)
        by_pipe = true;
    return by_pipe;
}

/*
 * Copies by process_vm_readv, whichever way: the kernel checks both sides, and a bad pointer is EFAULT. What is written
 * is its local side, so that a checker that knows the system call (memcheck) sees that it has been set;
 * process_vm_writev into the caller's memory would be a write that no checker sees.
 */
static long copy_at_once(uint64_t to, uint64_t from, uint64_t size)
{
    struct iovec local = {(void *)to, size}, remote = {(void *)from, size};
    return syscall(SYS_process_vm_readv, getpid(), &local, 1L, &remote, 1L, 0L);
}

/* The same through a pipe, in pieces that lie in one page on both sides: each is copied whole, or not at all. */
static long copy_through_pipe(uint64_t to, uint64_t from, uint64_t size)
{
    int ends[2];
    uint64_t done = 0;
    if (syscall(SYS_pipe2, ends, (long)O_CLOEXEC) < 0)
        return -1;
    while (done < size) {
        uint64_t n = size - done, from_page = PAGE_SIZE - ((from + done) & PAGE_MASK),
                 to_page = PAGE_SIZE - ((to + done) & PAGE_MASK);
        n = n < from_page ? n : from_page;
        n = n < to_page ? n : to_page;
        if (syscall(SYS_write, (long)ends[1], from + done, n) != (long)n ||
            syscall(SYS_read, (long)ends[0], to + done, n) != (long)n)
            break;
        done += n;
    }
    sys_close(ends[0]);
    sys_close(ends[1]);
    return (long)done;
}

static bool copy(uint64_t to, uint64_t from, uint64_t size)
{
    uint64_t done = 0;
    while (done < size) {
        long n = by_pipe ? -1 : copy_at_once(to + done, from + done, size - done);
        if (by_pipe || for_good(n))
            n = copy_through_pipe(to + done, from + done, size - done);
        if (n <= 0)
            break;
        done += (uint64_t)n;
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
    uint64_t start = at, end = at + n_ints * sizeof(int);
    pid_t self = getpid();
    /* One byte of each page is read and written back. */
    for (; by_pipe && at < end; at = (at | PAGE_MASK) + 1)
        if (!copy(at, at, 1))
            return false;
    while (at < end) {
        char bytes[PAGES];
        struct iovec there[PAGES], here = {bytes, 0};
        while (here.iov_len < PAGES && at < end) {
            there[here.iov_len++] = (struct iovec){(void *)at, 1};
            at = (at | PAGE_MASK) + 1;
        }
        long n = (long)here.iov_len, got = syscall(SYS_process_vm_readv, self, &here, 1L, there, n, 0L);
        if (got == n)
            got = syscall(SYS_process_vm_writev, self, &here, 1L, there, n, 0L);
        if (got != n)
            return for_good(got) && user_writable(start, n_ints);
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
