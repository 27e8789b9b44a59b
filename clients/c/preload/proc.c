// SPDX-License-Identifier: Apache-2.0
/* /proc/self/mem and /proc/self/pagemap: foreign frames have no struct page, so neither shows them. */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "../mapping.h"
#include "../syscalls.h"
#include "preload.h"

/* An entry that says nothing but that the page was written to: what the kernel shows for such a page. */
#define NOT_PRESENT ((uint64_t)1 << 55)
#define MARKS 4096

static _Atomic uint64_t marks[MARKS / 64];

int preload_open_proc(const char *path, int flags)
{
    int fd = sys_open(path, flags & ~O_CREAT);
    if (fd >= 0 && fd < MARKS)
        atomic_fetch_or_explicit(&marks[fd / 64], (uint64_t)1 << fd % 64, memory_order_relaxed);
    return fd;
}

enum preload_proc preload_proc_of(int fd)
{
    char path[32], target[64];
    if (fd < 0 || fd >= MARKS || !(atomic_load_explicit(&marks[fd / 64], memory_order_relaxed) >> fd % 64 & 1))
        return PROC_OTHER;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    long n = syscall(SYS_readlinkat, AT_FDCWD, path, target, sizeof target - 1);
    target[n > 0 ? n : 0] = 0;
    const char *name = strrchr(target, '/');
    if (strncmp(target, "/proc/", 6) || !name)
        return PROC_OTHER;
    return !strcmp(name, "/mem") ? PROC_MEM : !strcmp(name, "/pagemap") ? PROC_PAGEMAP : PROC_OTHER;
}

void preload_hide_pages(uint64_t *entries, ssize_t size, off_t offset)
{
    for (ssize_t i = 0; i < size / 8; i++) {
        uint64_t at = ((uint64_t)offset / 8 + (uint64_t)i) * PAGE_SIZE;
        if (areas_near(at, at + PAGE_SIZE) && mapping_concerned(at, at + PAGE_SIZE))
            entries[i] = NOT_PRESENT;
    }
}
