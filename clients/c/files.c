// SPDX-License-Identifier: Apache-2.0
#include "files.h"

#include "client.h"
#include "fds.h"
#include "say.h"
#include "syscalls.h"

/* Domains whose file is kept open; a device model has one, a toolstack a few. */
#define DOMAINS 16

struct memory {
    int dom;
    bool write;
    int64_t generation;
    int fd;
};

static struct memory kept[DOMAINS];
static unsigned n_kept, oldest;
static int buffers = -1, nothing = -1, ones = -1;

static struct memory *find(int dom, bool write)
{
    for (unsigned i = 0; i < n_kept; i++)
        if (kept[i].dom == dom && kept[i].write == write)
            return &kept[i];
    return NULL;
}

static bool holds(const struct memory *memory, int64_t generation)
{
    return generation < 0 || memory->generation == generation;
}

bool files_have(int dom, bool write, int64_t generation)
{
    struct memory *memory = find(dom, write);
    return memory && holds(memory, generation);
}

static struct memory *place(int dom, bool write)
{
    struct memory *memory = find(dom, write);
    if (!memory && n_kept < DOMAINS) {
        memory = &kept[n_kept++];
        memory->fd = -1;
    }
    if (!memory)
        memory = &kept[oldest++ % DOMAINS];
    fds_drop(memory->fd);
    *memory = (struct memory){.dom = -1, .fd = -1};
    return memory;
}

int files_memory(int dom, bool write, int64_t generation, int *error)
{
    struct memory *memory = find(dom, write);
    if (memory && holds(memory, generation))
        return memory->fd;
    struct answer answer;
    struct request *request = client_begin("domain.memory");
    request_uint(request, "dom", (uint64_t)dom);
    request_bool(request, "write", write);
    *error = client_call(&answer);
    if (*error)
        return -1;
    if (answer.fds[0] < 0) {
        *error = say_error(EIO, "the broker sent no descriptor for the memory of domain %d", dom);
        return -1;
    }
    memory = place(dom, write);
    *memory = (struct memory){dom, write, mp_find_int(answer.result, "generation", -1), fds_keep(answer.fds[0])};
    if (!holds(memory, generation)) {
        *error = say_error(EIO, "domain %d went away while it was being mapped", dom);
        return -1;
    }
    return memory->fd;
}

int files_buffers(void)
{
    struct answer answer;
    if (buffers >= 0)
        return buffers;
    client_begin("space.buffers");
    if (!client_call(&answer))
        buffers = fds_keep(answer.fds[0]);
    return buffers;
}

int files_blank(void)
{
    if (nothing < 0)
        nothing = fds_keep(sys_memfd("privcmdd.nothing", MFD_CLOEXEC));
    return nothing;
}

int files_ones(void)
{
    static const uint8_t page[PAGE_SIZE] = {[0 ... PAGE_SIZE - 1] = 0xff};
    if (ones >= 0)
        return ones;
    int fd = sys_memfd("privcmdd.ones", MFD_CLOEXEC);
    for (unsigned i = 0; fd >= 0 && i < ONES_PAGES; i++)
        if (syscall(SYS_write, fd, page, sizeof page) != (long)sizeof page) {
            sys_close(fd);
            return -1;
        }
    return ones = fds_keep(fd);
}
