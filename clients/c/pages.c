// SPDX-License-Identifier: Apache-2.0
#include "pages.h"

#include "client.h"
#include "files.h"

/* Tells the broker of a new mapping at an address. */
int tell_mmap(enum device device, uint64_t addr, uint64_t size, int prot, bool is_private, uint64_t *page)
{
    static const char *const names[] = {[DEVICE_PRIVCMD] = "privcmd", [DEVICE_HYPERCALL] = "hypercall",
                                        [DEVICE_GNTDEV] = "gntdev"};
    struct client_answer answer;
    struct mp_out *out = client_begin("mmap", 6);
    mp_str(out, "addr"), mp_uint(out, addr);
    mp_str(out, "len"), mp_uint(out, size);
    mp_str(out, "prot"), mp_uint(out, (uint64_t)(prot & (PROT_READ | PROT_WRITE | PROT_EXEC)));
    mp_str(out, "fixed"), mp_bool(out, true);
    mp_str(out, "private"), mp_bool(out, is_private);
    mp_str(out, "file"), mp_str(out, names[device]);
    int error = client_call(&answer);
    if (!error && page)
        *page = (uint64_t)mp_find_int(answer.result, "page", 0);
    return error;
}

int tell_munmap(uint64_t addr, uint64_t size)
{
    struct client_answer answer;
    struct mp_out *out = client_begin("munmap", 2);
    mp_str(out, "addr"), mp_uint(out, addr);
    mp_str(out, "len"), mp_uint(out, size);
    return client_call(&answer);
}

int tell_mprotect(uint64_t addr, uint64_t size, int prot)
{
    struct client_answer answer;
    struct mp_out *out = client_begin("mprotect", 3);
    mp_str(out, "addr"), mp_uint(out, addr);
    mp_str(out, "len"), mp_uint(out, size);
    mp_str(out, "prot"), mp_uint(out, (uint64_t)(prot & (PROT_READ | PROT_WRITE | PROT_EXEC)));
    return client_call(&answer);
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
    return fd >= 0 && sys_mmap((void *)start, end - start, area->prot, pages_sharing(area) | MAP_FIXED, fd, 0) != MAP_FAILED;
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
