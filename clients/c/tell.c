// SPDX-License-Identifier: Apache-2.0
#include "tell.h"

#include "client.h"
#include "syscalls.h"

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

int tell_access(uint64_t addr, bool write)
{
    struct answer answer;
    struct request *request = client_begin("fault");
    request_uint(request, "addr", addr);
    request_str(request, "access", write ? "write" : "read");
    return client_call(&answer);
}

/* The most pages that are looked at in a range; the broker is told of memory among the first of them. */
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
