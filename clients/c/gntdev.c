// SPDX-License-Identifier: Apache-2.0
#include "gntdev.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "apply.h"
#include "areas.h"
#include "client.h"
#include "grants.h"
#include "ioctls.h"
#include "pages.h"
#include "say.h"
#include "syscalls.h"
#include "usermem.h"

struct grant_ref {
    uint32_t dom;
    uint32_t ref;
};

struct map_grant_ref {
    uint32_t count;
    uint32_t pad;
    uint64_t index; /* answered */
    struct grant_ref refs[1];
};

struct get_offset {
    uint64_t vaddr;
    uint64_t offset; /* answered, as is count */
    uint32_t count;
    uint32_t pad;
};

/* One end of a copy: an address, or a grant. */
union copy_end {
    uint64_t virt;
    struct {
        uint32_t ref;
        uint16_t offset;
        uint16_t dom;
    } grant;
};

struct copy_segment {
    union copy_end source, dest;
    uint16_t len;
    uint16_t flags;
    int16_t status; /* answered */
};

struct grant_copy {
    uint32_t count;
    uint64_t segments;
};

#define MAP_GRANT_REF GRANTS_IOCTL(0, sizeof(struct map_grant_ref))
#define UNMAP_GRANT_REF GRANTS_IOCTL(1, sizeof(struct grants_range))
#define GET_OFFSET_FOR_VADDR GRANTS_IOCTL(2, sizeof(struct get_offset))
#define SET_MAX_GRANTS GRANTS_IOCTL(3, sizeof(uint32_t))
#define GRANT_COPY GRANTS_IOCTL(8, sizeof(struct grant_copy))

#define CLEAR_BYTE 1
#define SEND_EVENT 2

/* The module's parameter `limit`. */
#define COUNT_MOST (64 * 1024)
/* What the broker takes in one request. */
#define COPY_MOST 256
#define COPY_SOURCE_GREF 1
#define COPY_DEST_GREF 2

/*
 * Grants that a file was asked for in one go, by file and offset, until it is told to forget them. What is mapped of
 * them is known from its area (areas.h). Each struct lies in pages of its own, with its refs.
 */
struct grants {
    struct grants *next;
    uint64_t file;
    uint64_t index;
    uint64_t addr;   /* where they are mapped, or 0 */
    bool was_mapped; /* they can be only once, even if that fails (Linux 6.1: in_use) */
    bool readonly;
    struct grants_notify notify;
    uint32_t count;
    struct grant_ref refs[];
};

static struct grants *all;

static uint64_t size_of(uint32_t count)
{
    return sizeof(struct grants) + (uint64_t)count * sizeof(struct grant_ref);
}

/* The link to the grants at a page of a file. count is what the caller says that they are; 0: any number. */
static struct grants **find(uint64_t file, uint64_t offset, uint32_t count)
{
    struct grants **link = &all;
    while (*link &&
           ((*link)->file != file || (*link)->index != (offset & ~PAGE_MASK) || (count && (*link)->count != count)))
        link = &(*link)->next;
    return link;
}

static int64_t map_grant_ref(uint64_t file, uint64_t argument)
{
    struct map_grant_ref asked;
    size_t head = offsetof(struct map_grant_ref, refs);
    if (!user_read(&asked, argument, head))
        return -EFAULT;
    if (!asked.count || asked.count > COUNT_MOST)
        return -say_error(EINVAL, "%u grants, expected 1 to %d", asked.count, COUNT_MOST);
    struct grants *made = sys_mmap_anonymous(size_of(asked.count));
    if (made == MAP_FAILED)
        return -ENOMEM;
    uint64_t refs_size = (uint64_t)asked.count * sizeof *made->refs;
    if (!user_read(made->refs, argument + head, refs_size)) {
        sys_munmap(made, size_of(asked.count));
        return -EFAULT;
    }
    made->file = file;
    made->count = asked.count;
    /* The lowest offset with room behind it; the driver wants a page more than that in front of others. */
    struct grants **link = &all;
    for (; *link; link = &(*link)->next) {
        if ((*link)->file != file)
            continue;
        if (made->index + asked.count * PAGE_SIZE < (*link)->index)
            break;
        made->index = (*link)->index + (*link)->count * PAGE_SIZE;
    }
    made->next = *link;
    *link = made;
    uint64_t at = argument + offsetof(struct map_grant_ref, index);
    return user_write(at, &made->index, sizeof made->index) ? 0 : -EFAULT;
}

/* What is mapped stays mapped. */
static int64_t unmap_grant_ref(uint64_t file, uint64_t argument)
{
    struct grants_range asked;
    if (!user_read(&asked, argument, sizeof asked))
        return -EFAULT;
    struct grants **link = find(file, asked.index, asked.count), *gone = *link;
    if (!gone)
        return -say_error(ENOENT, "the file was not asked for %u grants at offset %#llx", asked.count,
                          (unsigned long long)asked.index);
    *link = gone->next;
    sys_munmap(gone, size_of(gone->count));
    return 0;
}

/* Whichever file the mapping is of, and whether or not the file has forgotten it. */
static int64_t get_offset_for_vaddr(uint64_t file, uint64_t argument)
{
    (void)file;
    struct get_offset asked;
    if (!user_read(&asked, argument, sizeof asked))
        return -EFAULT;
    const struct area *found = pages_found(asked.vaddr);
    if (!found || found->device != DEVICE_GNTDEV)
        return -say_error(EINVAL, "no grants are mapped at %#llx", (unsigned long long)asked.vaddr);
    asked.offset = found->offset;
    asked.count = found->n_grants;
    return user_write(argument, &asked, sizeof asked) ? 0 : -EFAULT;
}

/* Tells the broker what is to be done when a page is unmapped. ENOENT: no grant is mapped there. */
static int tell_notify(uint64_t addr, const struct grants_notify *notify)
{
    struct answer answer;
    int error = client_connect();
    if (error)
        return error;
    struct request *request = client_begin("gntdev.notify");
    request_uint(request, "addr", addr);
    request_uint(request, "action", notify->action);
    request_uint(request, "port", notify->port);
    return client_call(&answer);
}

/* The same, of grants; where they are mapped no more, the broker looks at the port only. */
static int tell_of(const struct grants *grants, const struct grants_notify *notify)
{
    bool mapped = grants && grants->addr;
    if (!mapped && !(notify->action & SEND_EVENT))
        return 0;
    int error = tell_notify(mapped ? grants->addr + notify->index - grants->index : 0, notify);
    return error == ENOENT ? 0 : error;
}

static int64_t set_unmap_notify(uint64_t file, uint64_t argument)
{
    struct grants_notify asked;
    if (!user_read(&asked, argument, sizeof asked))
        return -EFAULT;
    int error = grants_check_notify(&asked);
    if (error)
        return -error;
    struct grants *found = all;
    while (found && (found->file != file || asked.index < found->index ||
                     asked.index >= found->index + found->count * PAGE_SIZE))
        found = found->next;
    error = tell_of(found, &asked);
    if (error)
        return -error;
    if (!found)
        return -say_error(ENOENT, "the file was asked for no grant at offset %#llx", (unsigned long long)asked.index);
    if (found->readonly && asked.action & CLEAR_BYTE)
        return -say_error(EINVAL, "a byte is to be cleared of grants that are mapped read-only");
    found->notify = asked;
    return 0;
}

static void write_end(struct request *request, const char *const names[3], const union copy_end *end, bool is_grant)
{
    request_uint(request, names[0], is_grant ? end->grant.dom : 0);
    request_uint(request, names[1], is_grant ? end->grant.ref : 0);
    request_uint(request, names[2], is_grant ? end->grant.offset : 0);
}

/* What the driver looks at before it looks at the program's memory. */
static bool is_copy(const struct copy_segment *segment)
{
    bool source = segment->flags & COPY_SOURCE_GREF, dest = segment->flags & COPY_DEST_GREF;
    return (source || dest) && (!source || segment->source.grant.offset + segment->len <= (int)PAGE_SIZE) &&
           (!dest || segment->dest.grant.offset + segment->len <= (int)PAGE_SIZE);
}

/* Copies a batch of segments and sets their status. 0, or an errno. */
static int copy_batch(struct copy_segment *segments, uint32_t n)
{
    static const char *const source[] = {"source_dom", "source_ref", "source_offset"};
    static const char *const dest[] = {"dest_dom", "dest_ref", "dest_offset"};
    struct answer answer;
    uint32_t n_own = 0;
    struct request *request = client_begin("gntdev.copy");
    request_list(request, "segments", n);
    for (uint32_t i = 0; i < n; i++) {
        const struct copy_segment *segment = &segments[i];
        if (!is_copy(segment))
            return say_error(EINVAL, "segment %u has no grant, or one over the end of its page", i);
        if (!(segment->flags & COPY_SOURCE_GREF))
            n_own += segment->len;
        size_t outer = request_map(request);
        request_uint(request, "flags", segment->flags);
        request_uint(request, "len", segment->len);
        write_end(request, source, &segment->source, segment->flags & COPY_SOURCE_GREF);
        write_end(request, dest, &segment->dest, segment->flags & COPY_DEST_GREF);
        request_map_end(request, outer);
    }
    uint8_t *own = request_bin_room(request, "data", n_own);
    for (uint32_t i = 0; own && i < n; i++)
        if (!(segments[i].flags & COPY_SOURCE_GREF)) {
            if (!user_read(own, segments[i].source.virt, segments[i].len))
                return EFAULT;
            own += segments[i].len;
        }
    int error = client_call(&answer);
    if (error)
        return error;
    client_say_why(&answer);
    struct mp_in status = answer.result;
    if (!mp_find(answer.result, "status", &status) || mp_next(&status).size != n)
        return say_error(EIO, "the broker did not say how copying went");
    struct mp_value data = mp_find_bin(answer.result, "data");
    for (uint32_t i = 0; i < n; i++) {
        segments[i].status = (int16_t)mp_next(&status).number;
        if (segments[i].flags & COPY_DEST_GREF || data.size < segments[i].len)
            continue;
        if (!segments[i].status && !user_write(segments[i].dest.virt, data.data, segments[i].len))
            return EFAULT;
        data.data += segments[i].len;
        data.size -= segments[i].len;
    }
    return 0;
}

static int64_t grant_copy(uint64_t file, uint64_t argument)
{
    (void)file;
    static struct copy_segment batch[COPY_MOST];
    struct grant_copy asked;
    if (!user_read(&asked, argument, sizeof asked))
        return -EFAULT;
    int error = client_connect();
    for (uint32_t first = 0, n; !error && first < asked.count; first += n) {
        uint64_t at = asked.segments + first * sizeof *batch;
        n = asked.count - first < COPY_MOST ? asked.count - first : COPY_MOST;
        if (!user_read(batch, at, n * sizeof *batch))
            return -EFAULT;
        error = copy_batch(batch, n);
        if (!error && !user_write(at, batch, n * sizeof *batch))
            return -EFAULT;
    }
    return -error;
}

static const struct ioctls_row rows[] = {
    {MAP_GRANT_REF, "MAP_GRANT_REF", map_grant_ref},
    {UNMAP_GRANT_REF, "UNMAP_GRANT_REF", unmap_grant_ref},
    {GET_OFFSET_FOR_VADDR, "GET_OFFSET_FOR_VADDR", get_offset_for_vaddr},
    {GRANTS_SET_UNMAP_NOTIFY, "SET_UNMAP_NOTIFY", set_unmap_notify},
    {GRANT_COPY, "GRANT_COPY", grant_copy},
    {SET_MAX_GRANTS, "SET_MAX_GRANTS", ioctls_in_no_kernel},
};
static const struct ioctls ioctls = {"gntdev", false, ENOTTY, rows, sizeof rows / sizeof *rows};

int64_t gntdev_ioctl(uint64_t file, uint32_t number, uint64_t argument)
{
    return ioctls_perform(&ioctls, file, number, argument);
}

/* Maps pages that a process of domain 0 has shared. The driver has one errno for all that Xen may answer. */
static int map_shared(uint64_t addr, const struct grant_ref *refs, uint32_t n, int prot)
{
    static uint32_t chunk[GRANTS_MOST];
    for (uint32_t first = 0, some; first < n; first += some) {
        some = n - first < GRANTS_MOST ? n - first : GRANTS_MOST;
        for (uint32_t i = 0; i < some; i++)
            chunk[i] = refs[first + i].ref;
        int error = grants_map_shared(addr + first * PAGE_SIZE, chunk, some, prot, false);
        if (error)
            return error == ENOENT ? EINVAL : error;
    }
    return 0;
}

/* Maps grants, those of one domain at a time. */
static int map_all(const struct grants *grants, uint64_t addr, int prot)
{
    struct answer answer;
    for (uint32_t first = 0, n = 0; first < grants->count; first += n) {
        const struct grant_ref *refs = grants->refs + first;
        uint64_t base = addr + first * PAGE_SIZE;
        for (n = 1; first + n < grants->count && refs[n].dom == refs->dom; n++)
            ;
        if (refs->dom > UINT16_MAX)
            return say_error(EINVAL, "there is no domain %u", refs->dom);
        if (!refs->dom) {
            int error = map_shared(base, refs, n, prot);
            if (error)
                return error;
            continue;
        }
        struct request *request = client_begin("gntdev.map");
        request_uint(request, "dom", refs->dom);
        request_uint(request, "addr", base);
        request_bool(request, "extents", true);
        uint8_t *to = request_bin_room(request, "arr", n * 8);
        for (uint32_t i = 0; to && i < n; i++) {
            uint64_t ref = refs[i].ref;
            memcpy(to + 8 * (size_t)i, &ref, sizeof ref);
        }
        int error = client_call(&answer);
        if (!error)
            error = apply_extents(base, n, (int)refs->dom, answer.result);
        if (error)
            return error;
    }
    return 0;
}

/* As grants_fill. */
static int fill(void *of_file, uint64_t addr, int prot)
{
    struct grants *grants = of_file;
    struct area *area = areas_first(addr, addr + 1);
    area->offset = grants->index;
    area->n_grants = grants->count;
    grants->was_mapped = true;
    grants->readonly = !(prot & PROT_WRITE);
    int error = map_all(grants, addr, prot);
    for (struct grants *other = all; other && !error; other = other->next)
        if (other->addr == addr)
            other->addr = 0;
    grants->addr = error ? 0 : addr;
    return error ? error : grants->notify.action ? tell_of(grants, &grants->notify) : 0;
}

int64_t gntdev_mmap(int fd, uint64_t file, uint64_t addr, uint64_t size, int prot, int flags, off_t offset)
{
    if (prot & PROT_WRITE && (flags & MAP_TYPE) == MAP_PRIVATE)
        return -say_error(EINVAL, "a mapping that is written to is shared, not private");
    struct client_hold hold;
    client_lock(&hold);
    uint64_t count = (size + PAGE_MASK) / PAGE_SIZE;
    struct grants *grants = NULL;
    int64_t result;
    if (count && count <= COUNT_MOST && !((uint64_t)offset & PAGE_MASK))
        grants = *find(file, (uint64_t)offset, (uint32_t)count);
    if (grants && grants->was_mapped)
        result = -say_error(EINVAL, "the grants at offset %#llx were mapped before, ask the file for them again",
                            (unsigned long long)offset);
    else if (grants)
        result = grants_mmap(DEVICE_GNTDEV, fd, addr, size, prot, flags, fill, grants);
    else
        result = -say_error(EINVAL, "the file was not asked for %llu grants at offset %#llx", (unsigned long long)count,
                            (unsigned long long)offset);
    client_unlock(&hold);
    return result;
}
