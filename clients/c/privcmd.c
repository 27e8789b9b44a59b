// SPDX-License-Identifier: Apache-2.0
#include "privcmd.h"

#include <errno.h>
#include <string.h>

#include "apply.h"
#include "areas.h"
#include "client.h"
#include "ioctls.h"
#include "pages.h"
#include "say.h"
#include "syscalls.h"
#include "tell.h"
#include "usermem.h"

/* Frames that one message can hold. The broker's limit is lower, and its error says more. */
#define FRAMES_MOST ((MP_MOST - 64 * 1024) / 8)
#define ENTRIES_MOST 1024
/* Entries read at a time: a signal handler's stack may be small. */
#define ENTRIES_READ 64
#define DM_OP_BUFFERS 16
#define DM_OP_BYTES 4096

/* Writes the caller's frame numbers, or nil when they cannot be read. Returns 0 or an errno. */
static int write_frames(struct request *request, uint64_t from, uint32_t n)
{
    bool fits = n <= FRAMES_MOST;
    if (!fits && user_readable(from, (uint64_t)n * 8))
        return say_error(E2BIG, "%u frames are asked for in one call, a message holds %zu", n, FRAMES_MOST);
    uint8_t *to = request_bin_room(request, "arr", fits ? n * 8 : 0);
    if (!fits || (to && !user_read(to, from, (uint64_t)n * 8)))
        request_nil(request);
    return 0;
}

/*
 * Says, to people who asked for that, which frame of a batch is the first that failed. The errors are elements of the
 * answer, of some bytes each; an element that is as it was sent, or zero when nothing was sent, is of a good frame.
 */
static void say_failed(const struct privcmd_mmapbatch *batch, const struct answer *answer, struct mp_value errors,
                       uint32_t size, const uint8_t *sent)
{
    static const uint8_t good[8];
    uint64_t frame = 0;
    uint32_t at = 0;
    if (!say_wishes(SAY_ERRORS) || errors.size != (uint64_t)batch->num * size)
        return;
    while (at < batch->num && !memcmp(errors.data + (size_t)at * size, sent ? sent + (size_t)at * size : good, size))
        at++;
    if (at == batch->num || !user_read(&frame, batch->arr + 8 * (uint64_t)at, sizeof frame))
        return;
    if (mp_find_int(answer->result, "ret", 0))
        say_error(ENOENT, "frames are paged out, the first bad one is %#llx of domain %u; ask again",
                  (unsigned long long)frame, batch->dom);
    else
        say_line("frame %#llx of domain %u, at index %u, cannot be mapped; %lld of %u failed",
                 (unsigned long long)frame, batch->dom, at, (long long)mp_find_int(answer->result, "n_failed", 0),
                 batch->num);
}

static int64_t ioctl_mmapbatch_v2(uint64_t file, uint64_t argument)
{
    struct privcmd_mmapbatch_v2 batch;
    struct answer answer;
    if (!user_read(&batch, argument, sizeof batch))
        return -EFAULT;
    uint64_t err_size = (uint64_t)batch.num * sizeof(int32_t);
    if (!user_range(batch.err, err_size))
        return -EFAULT;
    struct request *request = client_begin("privcmd.mmapbatch_v2");
    request_uint(request, "file", file);
    request_uint(request, "dom", batch.dom);
    request_uint(request, "addr", batch.addr);
    request_uint(request, "num", batch.num);
    request_bool(request, "extents", true);
    request_bool(request, "err_ok", user_writable(batch.err, batch.num));
    int error = write_frames(request, batch.arr, batch.num);
    if (error)
        return -error;
    error = client_call(&answer);
    if (error) {
        struct mp_in key;
        struct mp_value name = {.type = MP_NIL};
        if (mp_find(answer.result, "key", &key))
            name = mp_next(&key);
        bool err_bad = name.type == MP_STR && name.size == 6 && !memcmp(name.data, "err_ok", 6);
        if (err_bad || mp_find_int(answer.result, "cleared", 0))
            user_clear(batch.err, err_size);
        return -error;
    }
    int64_t ret = mp_find_int(answer.result, "ret", 0);
    struct mp_value errors = mp_find_bin(answer.result, "err");
    if (errors.size == err_size)
        user_write(batch.err, errors.data, err_size);
    else
        user_clear(batch.err, err_size);
    struct privcmd_mmapbatch asked = {batch.num, batch.dom, batch.addr, batch.arr};
    say_failed(&asked, &answer, errors, sizeof(int32_t), NULL);
    error = apply_extents(batch.addr, batch.num, batch.dom, answer.result);
    return error ? -error : ret;
}

/* Writes back the entries that have changed, and only those. */
static bool put_back(uint64_t to, const uint8_t *before, const uint8_t *after, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (memcmp(before + 8 * (size_t)i, after + 8 * (size_t)i, 8) &&
            !user_write(to + 8 * (uint64_t)i, after + 8 * (size_t)i, 8))
            return false;
    return true;
}

static int64_t ioctl_mmapbatch(uint64_t file, uint64_t argument)
{
    struct privcmd_mmapbatch batch;
    struct answer answer;
    if (!user_read(&batch, argument, sizeof batch) || !user_range(batch.arr, (uint64_t)batch.num * 8))
        return -EFAULT;
    struct request *request = client_begin("privcmd.mmapbatch");
    request_uint(request, "file", file);
    request_uint(request, "dom", batch.dom);
    request_uint(request, "addr", batch.addr);
    request_uint(request, "num", batch.num);
    request_bool(request, "extents", true);
    int error = write_frames(request, batch.arr, batch.num);
    if (!error)
        error = client_call(&answer);
    if (error)
        return -error;
    int64_t ret = mp_find_int(answer.result, "ret", 0);
    struct mp_value frames = mp_find_bin(answer.result, "arr");
    /* The frame numbers are the last that was written to the request. */
    const uint8_t *sent = request->out.data + request->out.used - (uint64_t)batch.num * 8;
    say_failed(&batch, &answer, frames, 8, sent);
    bool written = frames.size != (uint64_t)batch.num * 8 || put_back(batch.arr, sent, frames.data, batch.num);
    error = apply_extents(batch.addr, batch.num, batch.dom, answer.result);
    if (error)
        return -error;
    return written ? ret : -EFAULT;
}

/* Makes a call with an empty list. Returns the broker's errno: EPERM when the file is restricted to another domain. */
static int ask_right(const char *method, const char *list, uint64_t file, uint16_t dom)
{
    struct answer answer;
    struct request *request = client_begin(method);
    request_uint(request, "file", file);
    request_uint(request, "dom", dom);
    request_list(request, list, 0);
    return client_call(&answer);
}

/* Writes the caller's entries; *first is the address of the first, *n_pages their sum. False: they cannot be read. */
static bool write_entries(struct request *request, uint64_t from, uint32_t n, uint64_t *first, uint64_t *n_pages)
{
    struct privcmd_mmap_entry entries[ENTRIES_READ];
    request_list(request, "entry", n);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t part = n - i < ENTRIES_READ ? n - i : ENTRIES_READ;
        if (i % ENTRIES_READ == 0 && !user_read(entries, from + i * sizeof *entries, part * sizeof *entries))
            return false;
        struct privcmd_mmap_entry entry = entries[i % ENTRIES_READ];
        if (!i)
            *first = entry.va;
        if (entry.npages < REQUEST_UINT_MOST / PAGE_SIZE)
            *n_pages += entry.npages;
        size_t outer = request_map(request);
        request_uint(request, "va", entry.va);
        /* A page table entry has room for 40 bits of it. */
        request_uint(request, "mfn", entry.mfn & REQUEST_UINT_MOST);
        request_uint(request, "npages", entry.npages);
        request_map_end(request, outer);
    }
    return true;
}

/*
 * MMAP over the beginning of memory that is not the device's stops a real kernel. The broker is told of such memory for
 * as long as the request takes. Returns its end, or 0 when there is none.
 */
static uint64_t tell_of_own(const struct privcmd_mmap *map)
{
    struct privcmd_mmap_entry entry;
    if (!map->num || !user_read(&entry, map->entry, sizeof entry) || entry.va & PAGE_MASK || !entry.npages)
        return 0;
    uint64_t end = entry.va + entry.npages * PAGE_SIZE;
    if (entry.npages > USER_END / PAGE_SIZE || !user_range(entry.va, end - entry.va) || areas_touch(entry.va, end))
        return 0;
    return pages_begin(entry.va) && tell_own(entry.va, end) ? end : 0;
}

static int64_t ioctl_mmap(uint64_t file, uint64_t argument)
{
    struct privcmd_mmap map;
    struct answer answer;
    if (client_host()->pvh) /* refused before anything is looked at */
        return -ask_right("privcmd.mmap", "entry", file, 0);
    if (!user_read(&map, argument, sizeof map))
        return -EFAULT;
    uint64_t first = 0, n_pages = 0;
    uint64_t own_end = tell_of_own(&map);
    struct request *request = client_begin("privcmd.mmap");
    request_uint(request, "file", file);
    request_uint(request, "dom", map.dom);
    request_bool(request, "extents", true);
    if (map.num > ENTRIES_MOST || !write_entries(request, map.entry, map.num, &first, &n_pages)) {
        untell_own(first, own_end);
        int right = ask_right("privcmd.mmap", "entry", file, map.dom);
        if (right)
            return -right;
        return user_readable(map.entry, map.num * (uint64_t)sizeof(struct privcmd_mmap_entry)) ? -E2BIG : -EFAULT;
    }
    int error = client_call(&answer);
    if (own_end) {
        untell_own(first, own_end);
        if (error == EINVAL)
            say_line("MMAP at %#llx, which is not the device's memory: a real kernel stops there with a BUG, and "
                     "the process cannot be killed any more; mmap the device first",
                     (unsigned long long)first);
        return -error;
    }
    /* The details of an error say what stays mapped. */
    int applied = apply_extents(first, n_pages, map.dom, answer.result);
    return error ? -error : -applied;
}

/* Notes as areas what was mapped where there was no area. */
static void add_strays(uint64_t start, uint64_t end, int prot)
{
    while (start < end) {
        const struct area *area = areas_first(start, end);
        uint64_t free_end = area ? area->start : end, next = area ? area->end : end;
        struct area stray = {
            .start = start, .end = free_end, .prot = prot, .device = DEVICE_PRIVCMD, .may_write = true, .used = true};
        if (start < free_end && areas_add(stray))
            pages_settle(&stray);
        start = next;
    }
}

/*
 * The driver takes the mapping that holds the address, or else the next one above it, and checks little more
 * (docs/explanation/facts/recorded-host.md, section 9). Only this process can know which mapping that is: when it is
 * not the device's, the broker is sent an address that has none above it.
 */
static int64_t ioctl_mmap_resource(uint64_t file, uint64_t argument)
{
    struct privcmd_mmap_resource resource;
    struct answer answer;
    if (!user_read(&resource, argument, sizeof resource))
        return -EFAULT;
    uint64_t addr = resource.addr;
    const struct area *found = addr ? pages_found(addr) : NULL;
    if (addr && (!found || found->device != DEVICE_PRIVCMD))
        addr = USER_END - PAGE_SIZE;
    uint64_t start = addr & ~PAGE_MASK, end = start;
    if (addr && resource.num <= (USER_END - start) / PAGE_SIZE)
        end += resource.num * PAGE_SIZE;
    bool own = tell_own(start, end);
    struct request *request = client_begin("privcmd.mmap_resource");
    request_uint(request, "file", file);
    request_uint(request, "dom", resource.dom);
    request_uint(request, "type", resource.type);
    request_uint(request, "id", resource.id);
    request_uint(request, "idx", resource.idx);
    request_uint(request, "num", resource.num);
    request_uint(request, "addr", addr);
    request_bool(request, "extents", true);
    int error = client_call(&answer);
    if (error) {
        if (own)
            untell_own(start, end);
        return -error;
    }
    if (resource.addr || resource.num) {
        int prot = (int)mp_find_int(answer.result, "prot", PROT_READ);
        error = apply_extents(addr, resource.num, resource.dom, answer.result);
        if (!error)
            add_strays(addr & ~PAGE_MASK, (addr & ~PAGE_MASK) + resource.num * PAGE_SIZE, prot);
        return -error;
    }
    uint64_t num = (uint64_t)mp_find_int(answer.result, "num", 0);
    uint64_t at = argument + offsetof(struct privcmd_mmap_resource, num);
    return user_write(at, &num, sizeof num) ? 0 : -EFAULT;
}

static int64_t ioctl_restrict(uint64_t file, uint64_t argument)
{
    uint16_t dom;
    struct answer answer;
    if (!user_read(&dom, argument, sizeof dom))
        return -EFAULT;
    struct request *request = client_begin("privcmd.restrict");
    request_uint(request, "file", file);
    request_uint(request, "dom", dom);
    return -client_call(&answer);
}

/* Asks the broker. lent: memory outside the hypercall buffers that the broker has asked for, or NULL. */
static int ask_hypercall(uint64_t file, const struct privcmd_hypercall *call, uint64_t lent_at, const void *lent,
                         uint32_t lent_size, struct answer *answer)
{
    struct request *request = client_begin("privcmd.hypercall");
    request_uint(request, "file", file);
    request_uint(request, "op", call->op);
    request_bin(request, "arg", call->arg, sizeof call->arg);
    if (lent) {
        request_uint(request, "lent_addr", lent_at);
        request_bin(request, "lent", lent, lent_size);
    }
    return client_call(answer);
}

/* The broker writes results into the pages that it shares with us. */
static void buffers_written(void)
{
    const struct area *area;
    if (!user_is_checked())
        return;
    for (uint64_t at = 0; (area = areas_first(at, USER_END)); at = area->end)
        if (area->device == DEVICE_HYPERCALL && area->prot & PROT_WRITE)
            user_written(area->start, area->end - area->start);
}

static int64_t ioctl_hypercall(uint64_t file, uint64_t argument)
{
    struct privcmd_hypercall call;
    struct answer answer;
    uint8_t lent[PAGE_SIZE];
    if (!user_read(&call, argument, sizeof call))
        return -EFAULT;
    int error = ask_hypercall(file, &call, 0, NULL, 0, &answer);
    if (error)
        return -error;
    uint64_t size = (uint64_t)mp_find_int(answer.result, "want_bytes", 0);
    uint64_t at = (uint64_t)mp_find_int(answer.result, "want_addr", 0);
    if (size && size <= sizeof lent && user_read(lent, at, size)) {
        error = ask_hypercall(file, &call, at, lent, (uint32_t)size, &answer);
        if (error)
            return -error;
    }
    client_say_why(&answer);
    buffers_written();
    return mp_find_int(answer.result, "ret", -ENOSYS);
}

/* Writes the caller's buffers. Returns 0 or an errno. */
static int write_buffers(struct request *request, const struct privcmd_dm_op_buf *bufs, unsigned n)
{
    request_list(request, "bufs", n);
    for (unsigned i = 0; i < n; i++) {
        if (bufs[i].size > DM_OP_BYTES)
            return E2BIG;
        uint8_t *to = request_list_bin_room(request, (uint32_t)bufs[i].size);
        if (!to)
            return ENOMEM;
        if (!user_read(to, bufs[i].data, bufs[i].size))
            return EFAULT;
    }
    return 0;
}

static int64_t ioctl_dm_op(uint64_t file, uint64_t argument)
{
    struct privcmd_dm_op op;
    struct privcmd_dm_op_buf bufs[DM_OP_BUFFERS];
    struct answer answer;
    if (!user_read(&op, argument, sizeof op))
        return -EFAULT;
    int error = 0;
    struct request *request = client_begin("privcmd.dm_op");
    request_uint(request, "file", file);
    request_uint(request, "dom", op.dom);
    if (op.num > DM_OP_BUFFERS)
        error = E2BIG;
    else if (!user_read(bufs, op.bufs, op.num * sizeof *bufs))
        error = EFAULT;
    else
        error = write_buffers(request, bufs, op.num);
    if (error) {
        int right = ask_right("privcmd.dm_op", "bufs", file, op.dom);
        return right ? -right : -error;
    }
    error = client_call(&answer);
    if (error)
        return -error;
    client_say_why(&answer);
    int64_t ret = mp_find_int(answer.result, "ret", 0);
    struct mp_in at;
    struct mp_value list = {.type = MP_NIL};
    if (mp_find(answer.result, "bufs", &at))
        list = mp_next(&at);
    for (unsigned i = 0; i < op.num && i < list.size && list.type == MP_ARRAY; i++) {
        struct mp_value buf = mp_next(&at);
        if (buf.type == MP_BIN && buf.size == bufs[i].size && !user_write(bufs[i].data, buf.data, buf.size))
            ret = -EFAULT;
    }
    return ret;
}

static const struct ioctls_row rows[] = {
    {PRIVCMD_HYPERCALL, "HYPERCALL", ioctl_hypercall},
    {PRIVCMD_MMAP, "MMAP", ioctl_mmap},
    {PRIVCMD_MMAPBATCH, "MMAPBATCH", ioctl_mmapbatch},
    {PRIVCMD_MMAPBATCH_V2, "MMAPBATCH_V2", ioctl_mmapbatch_v2},
    {PRIVCMD_DM_OP, "DM_OP", ioctl_dm_op},
    {PRIVCMD_RESTRICT, "RESTRICT", ioctl_restrict},
    {PRIVCMD_MMAP_RESOURCE, "MMAP_RESOURCE", ioctl_mmap_resource},
    {PRIVCMD_UNIMPLEMENTED, "UNIMPLEMENTED", ioctls_in_no_kernel},
};
static const struct ioctls ioctls = {"privcmd", true, ENOTTY, rows, sizeof rows / sizeof *rows};

int64_t privcmd_ioctl(uint64_t file, uint32_t number, uint64_t argument)
{
    return ioctls_perform(&ioctls, file, number, argument);
}
