// SPDX-License-Identifier: Apache-2.0
#include "proc.h"

#include <stdio.h>
#include <string.h>

#include "../areas.h"
#include "../mapping.h"
#include "../syscalls.h"
#include "marks.h"

/* An entry with the soft-dirty bit alone: what the kernel shows for a page of the device. */
#define NOT_PRESENT ((uint64_t)1 << 55)

int proc_open(const char *path, int flags)
{
    int fd = sys_open(path, flags & ~O_CREAT);
    marks_add_proc(fd);
    return fd;
}

enum proc proc_of(int fd)
{
    char path[32], target[64];
    if (!marks_has_proc(fd))
        return PROC_OTHER;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    long n = syscall(SYS_readlinkat, AT_FDCWD, path, target, sizeof target - 1);
    target[n > 0 ? n : 0] = 0;
    const char *name = strrchr(target, '/');
    if (strncmp(target, "/proc/", 6) || !name)
        return PROC_OTHER;
    return !strcmp(name, "/mem") ? PROC_MEM : !strcmp(name, "/pagemap") ? PROC_PAGEMAP : PROC_OTHER;
}

void proc_hide_pages(uint64_t *entries, ssize_t size, off_t offset)
{
    for (ssize_t i = 0; i < size / 8; i++) {
        uint64_t at = ((uint64_t)offset / 8 + (uint64_t)i) * PAGE_SIZE;
        if (areas_near(at, at + PAGE_SIZE) && mapping_concerned(at, at + PAGE_SIZE))
            entries[i] = NOT_PRESENT;
    }
}
