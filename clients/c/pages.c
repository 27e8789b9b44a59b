// SPDX-License-Identifier: Apache-2.0
#include "pages.h"

#include "files.h"
#include "syscalls.h"

/* The first byte of the mapping that holds an address or is the next above it; USER_END when there is none. */
static uint64_t start_of_found(uint64_t addr)
{
    char text[4096];
    long n;
    uint64_t start = 0, number = 0, found = USER_END;
    enum { START, END, REST } part = START;
    int fd = sys_open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    while (found == USER_END && fd >= 0 && (n = syscall(SYS_read, fd, text, sizeof text)) > 0)
        for (long i = 0; i < n && found == USER_END; i++) {
            char c = text[i];
            if (part == REST) {
                part = c == '\n' ? START : REST;
            } else if (c == '-') {
                start = number;
                number = 0;
                part = END;
            } else if (c == ' ') {
                if (number > addr)
                    found = start;
                number = 0;
                part = REST;
            } else {
                number = number * 16 + (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
            }
        }
    if (fd >= 0)
        sys_close(fd);
    return found;
}

bool pages_begin(uint64_t addr)
{
    return start_of_found(addr) == addr;
}

const struct area *pages_found(uint64_t addr)
{
    if (addr >= USER_END)
        return NULL;
    if (areas_touch(addr, addr + 1))
        return areas_first(addr, addr + 1);
    uint64_t start = start_of_found(addr);
    return start < USER_END ? areas_first(start, start + 1) : NULL;
}

int pages_sharing(const struct area *area)
{
    return area->is_private ? MAP_PRIVATE | MAP_NORESERVE : MAP_SHARED;
}

static void keep_out(uint64_t start, uint64_t end)
{
    sys_madvise((void *)start, end - start, MADV_DONTFORK);
    sys_madvise((void *)start, end - start, MADV_DONTDUMP);
}

void pages_settle(const struct area *area)
{
    if (area->device != DEVICE_HYPERCALL)
        keep_out(area->start, area->end);
}

bool pages_blank(const struct area *area, uint64_t start, uint64_t end)
{
    int fd = files_blank();
    if (fd < 0 ||
        sys_mmap((void *)start, end - start, area->prot, pages_sharing(area) | MAP_FIXED, fd, 0) == MAP_FAILED)
        return false;
    keep_out(start, end);
    return true;
}

int pages_ones(uint64_t at, uint64_t n_pages, int prot)
{
    int fd = files_ones();
    for (uint64_t part; n_pages; n_pages -= part, at += part * PAGE_SIZE) {
        part = n_pages < ONES_PAGES ? n_pages : ONES_PAGES;
        int flags = MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED;
        if (fd < 0 || sys_mmap((void *)at, part * PAGE_SIZE, prot, flags, fd, 0) == MAP_FAILED)
            return ENOMEM;
        keep_out(at, at + part * PAGE_SIZE);
    }
    return 0;
}
