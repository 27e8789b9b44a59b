// SPDX-License-Identifier: Apache-2.0
#include "gntalloc.h"

#include <errno.h>

#include "client.h"
#include "grants.h"
#include "ioctls.h"
#include "say.h"
#include "syscalls.h"
#include "usermem.h"

struct alloc_gref {
    uint16_t dom;
    uint16_t flags;
    uint32_t count;
    uint64_t index;       /* answered */
    uint32_t gref_ids[1]; /* answered */
};

#define ALLOC_GREF GRANTS_IOCTL(5, sizeof(struct alloc_gref))
#define DEALLOC_GREF GRANTS_IOCTL(6, sizeof(struct grants_range))
#define FLAG_WRITABLE 1

/*
 * Pages that a file was given in one go. Each struct lies in pages of its own, with the refs; that of a freed page is
 * 0.
 */
struct shares {
    struct shares *next;
    uint64_t file;
    uint64_t index;
    uint32_t count;
    uint32_t n_left;
    uint32_t refs[];
};

static struct shares *all;
static uint32_t chunk[GRANTS_MOST];

static uint64_t size_of(uint32_t count)
{
    return sizeof(struct shares) + (uint64_t)count * sizeof(uint32_t);
}

/* Where the ref of the page that begins at an offset is kept, or NULL. */
static uint32_t *find(uint64_t file, uint64_t index, struct shares **in)
{
    for (struct shares *shares = all; shares; shares = shares->next)
        if (shares->file == file && !(index & PAGE_MASK) && index >= shares->index &&
            index < shares->index + shares->count * PAGE_SIZE) {
            uint32_t *ref = &shares->refs[(index - shares->index) / PAGE_SIZE];
            *in = shares;
            return *ref ? ref : NULL;
        }
    return NULL;
}

/* Offsets grow, and none is given out twice. */
static uint64_t next_index(uint64_t file)
{
    uint64_t index = 0;
    for (const struct shares *shares = all; shares; shares = shares->next)
        if (shares->file == file && shares->index + shares->count * PAGE_SIZE > index)
            index = shares->index + shares->count * PAGE_SIZE;
    return index;
}

/* Forgets what a file has given back whole, except what its next offset is known by. */
static void drop_empty(uint64_t file)
{
    uint64_t next = next_index(file);
    for (struct shares **link = &all; *link;) {
        struct shares *shares = *link;
        if (shares->file == file && !shares->n_left && shares->index + shares->count * PAGE_SIZE != next) {
            *link = shares->next;
            sys_munmap(shares, size_of(shares->count));
        } else {
            link = &shares->next;
        }
    }
}

static int tell_free(const uint32_t *refs, uint32_t n)
{
    struct answer answer;
    request_uints(client_begin("gntalloc.free"), "refs", refs, n);
    return client_call(&answer);
}

static int64_t alloc_gref(uint64_t file, uint64_t argument)
{
    struct alloc_gref asked;
    struct answer answer;
    size_t head = offsetof(struct alloc_gref, gref_ids);
    if (!user_read(&asked, argument, head))
        return -EFAULT;
    if (asked.count > GRANTS_MOST)
        return -say_error(ENOSPC, "%u pages, and one call makes at most %d", asked.count, GRANTS_MOST);
    int error = client_connect();
    if (error)
        return -error;
    struct shares *made = sys_mmap_anonymous(size_of(asked.count));
    if (made == MAP_FAILED)
        return -ENOMEM;
    struct request *request = client_begin("gntalloc.alloc");
    request_uint(request, "dom", asked.dom);
    request_uint(request, "num", asked.count);
    request_bool(request, "writable", asked.flags & FLAG_WRITABLE);
    error = client_call(&answer);
    if (!error) {
        struct mp_in refs = answer.result;
        answer_drop_fds(&answer);
        if (!mp_find(answer.result, "refs", &refs) || mp_next(&refs).size != asked.count)
            error = say_error(EIO, "the broker did not say which pages it has made");
        for (uint32_t i = 0; !error && i < asked.count; i++)
            made->refs[i] = (uint32_t)mp_next(&refs).number;
    }
    uint64_t size = asked.count * sizeof *made->refs;
    asked.index = next_index(file);
    if (!error && (!user_write(argument, &asked, head) || !user_write(argument + head, made->refs, size))) {
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
    drop_empty(file);
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

/* Frees the refs of a range of the file's pages, all of which are there. */
static void forget(uint64_t file, uint64_t index, uint32_t count)
{
    struct shares *in;
    for (uint32_t i = 0; i < count; i++) {
        *find(file, index + i * PAGE_SIZE, &in) = 0;
        in->n_left--;
    }
    drop_empty(file);
}

static int64_t dealloc_gref(uint64_t file, uint64_t argument)
{
    struct grants_range asked;
    if (!user_read(&asked, argument, sizeof asked))
        return -EFAULT;
    if (!asked.count || asked.count > GRANTS_MOST || !collect(file, asked.index, asked.count))
        return -say_error(EINVAL, "the file has no %u pages at offset %#llx", asked.count,
                          (unsigned long long)asked.index);
    int error = tell_free(chunk, asked.count);
    if (!error)
        forget(file, asked.index, asked.count);
    return -error;
}

static int64_t set_unmap_notify(uint64_t file, uint64_t argument)
{
    struct grants_notify asked;
    struct answer answer;
    struct shares *in;
    if (!user_read(&asked, argument, sizeof asked))
        return -EFAULT;
    const uint32_t *ref = find(file, asked.index & ~PAGE_MASK, &in);
    if (!ref)
        return -say_error(ENOENT, "the file has no page at offset %#llx", (unsigned long long)asked.index);
    int error = grants_check_notify(&asked);
    if (error)
        return -error;
    struct request *request = client_begin("gntalloc.notify");
    request_uint(request, "ref", *ref);
    request_uint(request, "action", asked.action);
    request_uint(request, "offset", asked.index & PAGE_MASK);
    request_uint(request, "port", asked.port);
    return -client_call(&answer);
}

static const struct ioctls_row rows[] = {
    {ALLOC_GREF, "ALLOC_GREF", alloc_gref},
    {DEALLOC_GREF, "DEALLOC_GREF", dealloc_gref},
    {GRANTS_SET_UNMAP_NOTIFY, "SET_UNMAP_NOTIFY", set_unmap_notify},
};
static const struct ioctls ioctls = {"gntalloc", false, ENOTTY, rows, sizeof rows / sizeof *rows};

int64_t gntalloc_ioctl(uint64_t file, uint32_t number, uint64_t argument)
{
    return ioctls_perform(&ioctls, file, number, argument);
}

/* What fill maps. */
struct wanted {
    const uint32_t *refs;
    uint32_t n;
};

/* As grants_fill. */
static int fill(void *grants, uint64_t addr, int prot)
{
    const struct wanted *wanted = grants;
    return grants_map_shared(addr, wanted->refs, wanted->n, prot, true);
}

int64_t gntalloc_mmap(int fd, uint64_t file, uint64_t addr, uint64_t size, int prot, int flags, off_t offset)
{
    uint64_t count = (size + PAGE_MASK) / PAGE_SIZE;
    struct client_hold hold;
    if ((flags & MAP_TYPE) == MAP_PRIVATE)
        return -say_error(EINVAL, "a mapping is shared, not private");
    client_lock(&hold);
    int64_t result;
    if (count <= GRANTS_MOST && collect(file, (uint64_t)offset, (uint32_t)count)) {
        struct wanted wanted = {chunk, (uint32_t)count};
        result = grants_mmap(DEVICE_GNTALLOC, fd, addr, size, prot, flags, fill, &wanted);
    } else {
        result = -say_error(ENOENT, "the file has no %llu pages at offset %#llx", (unsigned long long)count,
                            (unsigned long long)offset);
    }
    client_unlock(&hold);
    return result;
}
