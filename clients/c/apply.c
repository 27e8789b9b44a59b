// SPDX-License-Identifier: Apache-2.0
#include "apply.h"

#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "files.h"
#include "pages.h"
#include "say.h"
#include "syscalls.h"
#include "tell.h"

static uint32_t word(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static long max_map_count(void)
{
    char text[32] = "";
    int fd = sys_open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        if (syscall(SYS_read, fd, text, sizeof text - 1) < 0)
            text[0] = 0;
        sys_close(fd);
    }
    return strtol(text, NULL, 10);
}

/* Undoes a batch when the kernel refused to map one of its runs. Returns the errno that is the answer. */
static int undo(struct area *area, uint64_t start, uint64_t end, uint32_t run, uint32_t n_runs, int error)
{
    if (error == ENOMEM)
        say_line("mapping %u runs of frames at %#llx failed at run %u: a process may have vm.max_map_count = %ld "
                 "mappings; raise it with sysctl, or map fewer scattered frames",
                 n_runs, (unsigned long long)start, run, max_map_count());
    if (!area) {
        sys_munmap((void *)start, end - start);
        return error;
    }
    if (!pages_blank(area, start, end)) {
        /* At vm.max_map_count the kernel refuses even to replace; for a moment nothing is mapped in the range. */
        sys_munmap((void *)start, end - start);
        pages_blank(area, start, end);
    }
    if (start == area->start && end == area->end && !tell_munmap(start, end - start)) {
        tell_mmap(area, NULL);
        area->used = false;
    }
    return error;
}

static int apply_voids(uint64_t base, int prot, struct mp_value runs)
{
    int error = 0;
    for (uint32_t i = 0; !error && i < runs.size / 8; i++) {
        const uint8_t *run = runs.data + 8 * (size_t)i;
        error = pages_ones(base + word(run) * PAGE_SIZE, word(run + 4), prot);
    }
    return error;
}

int apply_extents(uint64_t base, uint64_t n_pages, int dom, struct mp_in result)
{
    struct mp_value runs = mp_find_bin(result, "extents");
    uint32_t n = runs.size / 12;
    base &= ~PAGE_MASK;
    struct area *area = areas_first(base, base + 1);
    int prot = (int)mp_find_int(result, "prot", area ? area->prot : PROT_READ | PROT_WRITE);
    int error = apply_voids(base, prot, mp_find_bin(result, "voids"));
    if (error || !n)
        return error;
    if (area)
        area->used = true;
    int64_t generation = mp_find_int(result, "generation", -1);
    bool shared = !area || !area->is_private;
    /* In a PVH dom0 mprotect works on foreign frames: they may become writable later. */
    bool write = shared && (prot & PROT_WRITE || (client_host()->pvh && area && area->may_write));
    uint64_t end = base + n_pages * PAGE_SIZE;
    /* The runs lie in the buffer of answers. Asking for the memory file overwrites it. */
    const uint8_t *data = files_have(dom, write, generation) ? runs.data : NULL;
    void *copy = NULL;
    if (!data) {
        copy = sys_mmap_anonymous(runs.size);
        if (copy == MAP_FAILED)
            return undo(area, base, end, 0, n, ENOMEM);
        data = memcpy(copy, runs.data, runs.size);
    }
    int fd = files_memory(dom, write, generation, &error);
    if (error == EPERM && !(prot & PROT_WRITE)) {
        error = 0;
        fd = files_memory(dom, false, generation, &error);
    }
    uint32_t i = 0;
    for (; !error && i < n; i++) {
        const uint8_t *run = data + 12 * (size_t)i;
        void *at = (void *)(base + word(run) * PAGE_SIZE);
        int flags = (area ? pages_sharing(area) : MAP_SHARED) | MAP_FIXED;
        if (sys_mmap(at, word(run + 8) * PAGE_SIZE, prot, flags, fd, (off_t)(word(run + 4) * PAGE_SIZE)) == MAP_FAILED)
            error = errno;
    }
    if (copy)
        sys_munmap(copy, runs.size);
    if (error)
        return undo(area, base, end, i, n, error);
    if (area)
        pages_settle(area);
    return 0;
}
