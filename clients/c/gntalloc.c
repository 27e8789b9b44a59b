// SPDX-License-Identifier: Apache-2.0
#include "gntalloc.h"

#include <errno.h>

#include "client.h"
#include "mapping.h"
#include "pages.h"
#include "syscalls.h"
#include "usermem.h"

#define GNTALLOC_IOCTL(number, size) (('G' << 8) | (number) | ((uint32_t)(size) << 16))

struct alloc_gref {
    uint16_t dom;
    uint16_t flags;
    uint32_t count;
    uint64_t index;      /* answered */
    uint32_t gref_ids[1]; /* answered */
};

struct dealloc_gref {
    uint64_t index;
    uint32_t count;
    uint32_t pad;
};

struct unmap_notify {
    uint64_t index;
    uint32_t action;
    uint32_t port;
};

#define ALLOC_GREF GNTALLOC_IOCTL(5, sizeof(struct alloc_gref))
#define DEALLOC_GREF GNTALLOC_IOCTL(6, sizeof(struct dealloc_gref))
#define SET_UNMAP_NOTIFY GNTALLOC_IOCTL(7, sizeof(struct unmap_notify))
#define FLAG_WRITABLE 1

/* Pages that were made for a file, in one go. Each lies in memory of its own, with its refs; 0 for one that is freed. */
struct shares {
    struct shares *next;
    uint64_t file;
    uint64_t index;
    uint32_t count;
    uint32_t n_left;
    uint32_t refs[];
};

static struct shares *all;
static uint32_t chunk[SHARES_MOST];

static uint64_t size_of(uint32_t count)
{
    return sizeof(struct shares) + (uint64_t)count * sizeof(uint32_t);
}

/* Where the ref of the page at an offset is kept, or NULL. */
static uint32_t *find(uint64_t file, uint64_t index, struct shares **in)
{
    for (struct shares *shares = all; shares; shares = shares->next)
        if (shares->file == file && index >= shares->index && index < shares->index + shares->count * PAGE_SIZE) {
            uint32_t *ref = &shares->refs[(index - shares->index) / PAGE_SIZE];
            *in = shares;
            return *ref ? ref : NULL;
        }
    return NULL;
}

static uint64_t next_index(uint64_t file)
{
    uint64_t index = 0;
    for (const struct shares *shares = all; shares; shares = shares->next)
        if (shares->file == file && shares->index + shares->count * PAGE_SIZE > index)
            index = shares->index + shares->count * PAGE_SIZE;
    return index;
}

static void put_refs(struct mp_out *out, const uint32_t *refs, uint32_t n)
{
    mp_str(out, "refs"), mp_array(out, n);
    for (uint32_t i = 0; i < n; i++)
        mp_uint(out, refs[i]);
}

static int tell_free(const uint32_t *refs, uint32_t n)
{
    struct client_answer answer;
    put_refs(client_begin("gntalloc.free", 1), refs, n);
    return client_call(&answer);
}

static int64_t alloc_gref(uint64_t file, uint64_t argument)
{
    struct alloc_gref asked;
    struct client_answer answer;
    size_t head = offsetof(struct alloc_gref, gref_ids);
    if (user_read(&asked, argument, head) < head)
        return -EFAULT;
    if (asked.count > SHARES_MOST)
        return -ENOSPC;
    int error = client_connect();
    if (error)
        return -error;
    struct shares *made = sys_mmap_anonymous(size_of(asked.count));
    if (made == MAP_FAILED)
        return -ENOMEM;
    struct mp_out *out = client_begin("gntalloc.alloc", 3);
    mp_str(out, "dom"), mp_uint(out, asked.dom);
    mp_str(out, "num"), mp_uint(out, asked.count);
    mp_str(out, "writable"), mp_bool(out, asked.flags & FLAG_WRITABLE);
    error = client_call(&answer);
    if (!error) {
        struct mp_in refs = answer.result;
        client_drop_fds(&answer);
        if (!mp_find(answer.result, "refs", &refs) || mp_next(&refs).size != asked.count)
            error = client_fail(EIO, "the broker did not say which pages it has made");
        for (uint32_t i = 0; !error && i < asked.count; i++)
            made->refs[i] = (uint32_t)mp_next(&refs).number;
    }
    uint64_t size = asked.count * sizeof *made->refs;
    asked.index = next_index(file);
    if (!error && (user_write(argument, &asked, head) < head || user_write(argument + head, made->refs, size) < size)) {
        tell_free(made->refs, asked.count);
        error = EFAULT;
    }
    if (error) {
        sys_munmap(made, size_of(asked.count));
        return -error;
    }
    made->file = file;
    made->index = asked.index;
    made->count = made->n_left = asked.count;
    made->next = all;
    all = made;
    return 0;
}

/* Collects the refs of a range of the file's pages; false when one is not there. */
static bool collect(uint64_t file, uint64_t index, uint32_t count)
{
    struct shares *in;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t *ref = find(file, index + i * PAGE_SIZE, &in);
        if (!ref)
            return false;
        chunk[i] = *ref;
    }
    return true;
}

static void forget(uint64_t file, uint64_t index, uint32_t count)
{
    struct shares *in;
    for (uint32_t i = 0; i < count; i++) {
        *find(file, index + i * PAGE_SIZE, &in) = 0;
        if (--in->n_left)
            continue;
        struct shares **link = &all;
        while (*link != in)
            link = &(*link)->next;
        *link = in->next;
        sys_munmap(in, size_of(in->count));
    }
}

static int64_t dealloc_gref(uint64_t file, uint64_t argument)
{
    struct dealloc_gref asked;
    if (user_read(&asked, argument, sizeof asked) < sizeof asked)
        return -EFAULT;
    if (!asked.count || asked.count > SHARES_MOST || !collect(file, asked.index, asked.count))
        return -EINVAL;
    int error = tell_free(chunk, asked.count);
    if (!error)
        forget(file, asked.index, asked.count);
    return -error;
}

static int64_t set_unmap_notify(uint64_t file, uint64_t argument)
{
    struct unmap_notify asked;
    struct client_answer answer;
    struct shares *in;
    if (user_read(&asked, argument, sizeof asked) < sizeof asked)
        return -EFAULT;
    if (asked.action & ~3u)
        return -EINVAL;
    const uint32_t *ref = find(file, asked.index, &in);
    if (!ref)
        return -ENOENT;
    struct mp_out *out = client_begin("gntalloc.notify", 4);
    mp_str(out, "ref"), mp_uint(out, *ref);
    mp_str(out, "action"), mp_uint(out, asked.action);
    mp_str(out, "offset"), mp_uint(out, asked.index & PAGE_MASK);
    mp_str(out, "port"), mp_uint(out, asked.port);
    return -client_call(&answer);
}

int64_t gntalloc_ioctl(uint64_t file, uint32_t command, uint64_t argument)
{
    struct client_hold hold;
    int64_t result = -ENOTTY;
    client_lock(&hold);
    if (command == ALLOC_GREF)
        result = alloc_gref(file, argument);
    else if (command == DEALLOC_GREF)
        result = dealloc_gref(file, argument);
    else if (command == SET_UNMAP_NOTIFY)
        result = set_unmap_notify(file, argument);
    client_unlock(&hold);
    return result;
}

int gntalloc_map(uint64_t addr, const uint32_t *refs, uint32_t n, int prot, bool own)
{
    struct client_answer answer;
    for (uint32_t done = 0, num; done < n; done += num) {
        uint64_t at = addr + done * PAGE_SIZE;
        struct mp_out *out = client_begin("gntalloc.map", 3);
        put_refs(out, refs + done, n - done < SHARES_MOST ? n - done : SHARES_MOST);
        mp_str(out, "addr"), mp_uint(out, at);
        mp_str(out, "own"), mp_bool(out, own);
        int error = client_call(&answer);
        if (error)
            return error;
        num = (uint32_t)mp_find_int(answer.result, "num", 0);
        off_t offset = (off_t)mp_find_int(answer.result, "page", 0) * (off_t)PAGE_SIZE;
        if (answer.fds[0] < 0 || !num || num > n - done)
            error = client_fail(EIO, "the broker sent no pages");
        else if (sys_mmap((void *)at, num * PAGE_SIZE, prot, MAP_SHARED | MAP_FIXED, answer.fds[0], offset) ==
                 MAP_FAILED)
            error = errno;
        client_drop_fds(&answer);
        if (error)
            return error;
    }
    struct area *area = areas_first(addr, addr + 1);
    area->used = true;
    pages_settle(area);
    return 0;
}

int64_t gntalloc_mmap(int fd, uint64_t file, uint64_t addr, uint64_t size, int prot, int flags, off_t offset)
{
    uint64_t count = (size + PAGE_MASK) / PAGE_SIZE;
    struct client_hold hold;
    if ((flags & MAP_TYPE) == MAP_PRIVATE)
        return -EINVAL;
    client_lock(&hold);
    int64_t result = -ENOENT;
    if (count <= SHARES_MOST && collect(file, (uint64_t)offset, (uint32_t)count))
        result = mapping_mmap_held(DEVICE_GNTALLOC, fd, addr, size, prot, flags & ~(MAP_LOCKED | MAP_POPULATE), 0);
    if (result >= 0) {
        int error = gntalloc_map((uint64_t)result, chunk, (uint32_t)count, prot, true);
        if (error) {
            mapping_munmap_held((uint64_t)result, count * PAGE_SIZE);
            result = -error;
        }
    }
    client_unlock(&hold);
    return result;
}
