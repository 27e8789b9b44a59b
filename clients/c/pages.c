// SPDX-License-Identifier: Apache-2.0
#include "pages.h"

#include "client.h"
#include "files.h"

/* Tells the broker of a new mapping. */
int tell_mmap(const struct area *area, uint64_t *page)
{
    static const char *const names[] = {[DEVICE_NONE] = "anon",
                                        [DEVICE_PRIVCMD] = "privcmd",
                                        [DEVICE_HYPERCALL] = "hypercall",
                                        [DEVICE_GNTDEV] = "gntdev",
                                        [DEVICE_GNTALLOC] = "gntdev"};
    struct answer answer;
    struct request *request = client_begin("mmap");
    request_uint(request, "addr", area->start);
    request_uint(request, "len", area->end - area->start);
    request_uint(request, "prot", (uint64_t)(area->prot & (PROT_READ | PROT_WRITE | PROT_EXEC)));
    request_bool(request, "fixed", true);
    request_bool(request, "private", area->is_private);
    request_str(request, "file", names[area->device]);
    request_uint(request, "opened", area->file);
    int error = client_call(&answer);
    if (!error && page)
        *page = (uint64_t)mp_find_int(answer.result, "page", 0);
    return error;
}

int tell_munmap(uint64_t addr, uint64_t size)
{
    struct answer answer;
    struct request *request = client_begin("munmap");
    request_uint(request, "addr", addr);
    request_uint(request, "len", size);
    return client_call(&answer);
}

int tell_mprotect(uint64_t addr, uint64_t size, int prot)
{
    struct answer answer;
    struct request *request = client_begin("mprotect");
    request_uint(request, "addr", addr);
    request_uint(request, "len", size);
    request_uint(request, "prot", (uint64_t)(prot & (PROT_READ | PROT_WRITE | PROT_EXEC)));
    return client_call(&answer);
}

/* Pages looked at: who asks for more is told by the first of them. */
#define OWN_MOST 64

/* The first part of a range that no area covers; false when there is none. */
static bool gap(uint64_t *start, uint64_t *end)
{
    const struct area *area;
    while (*start < *end && (area = areas_first(*start, *end)) && area->start <= *start)
        *start = area->end;
    if (*start >= *end)
        return false;
    if ((area = areas_first(*start, *end)))
        *end = area->start;
    return true;
}

static bool is_mapped(uint64_t page)
{
    unsigned char core;
    return !syscall(SYS_mincore, page, PAGE_SIZE, &core);
}

bool tell_own(uint64_t start, uint64_t end)
{
    bool told = false;
    for (uint64_t at = start, stop = end; gap(&at, &stop); at = stop, stop = end) {
        uint64_t limit = stop - at < OWN_MOST * PAGE_SIZE ? stop : at + OWN_MOST * PAGE_SIZE;
        for (uint64_t page = at; page < limit; page += PAGE_SIZE) {
            struct area own = {.start = page, .prot = PROT_READ | PROT_WRITE};
            while (page < limit && is_mapped(page))
                page += PAGE_SIZE;
            own.end = page;
            told |= own.start < own.end && !tell_mmap(&own, NULL);
        }
    }
    return told;
}

void untell_own(uint64_t start, uint64_t end)
{
    for (uint64_t at = start, stop = end; gap(&at, &stop); at = stop, stop = end)
        tell_munmap(at, stop - at);
}

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

bool pages_found_is_ours(uint64_t addr)
{
    if (areas_touch(addr, addr + 1))
        return true;
    uint64_t start = start_of_found(addr);
    const struct area *area = start < USER_END ? areas_first(start, start + 1) : NULL;
    return area && area->device == DEVICE_PRIVCMD;
}

int pages_sharing(const struct area *area)
{
    return area->is_private ? MAP_PRIVATE | MAP_NORESERVE : MAP_SHARED;
}

void pages_settle(struct area *area)
{
    if (area->device == DEVICE_HYPERCALL)
        return;
    sys_madvise((void *)area->start, area->end - area->start, MADV_DONTFORK);
    sys_madvise((void *)area->start, area->end - area->start, MADV_DONTDUMP);
    area->settled = true;
}

bool pages_blank(const struct area *area, uint64_t start, uint64_t end)
{
    int fd = files_blank();
    return fd >= 0 &&
           sys_mmap((void *)start, end - start, area->prot, pages_sharing(area) | MAP_FIXED, fd, 0) != MAP_FAILED;
}

int pages_ones(uint64_t at, uint64_t n_pages, int prot)
{
    int fd = files_ones();
    for (uint64_t part; n_pages; n_pages -= part, at += part * PAGE_SIZE) {
        part = n_pages < ONES_PAGES ? n_pages : ONES_PAGES;
        int flags = MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED;
        if (fd < 0 || sys_mmap((void *)at, part * PAGE_SIZE, prot, flags, fd, 0) == MAP_FAILED)
            return ENOMEM;
    }
    return 0;
}
