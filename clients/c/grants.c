// SPDX-License-Identifier: Apache-2.0
#include "grants.h"

#include <errno.h>

#include "areas.h"
#include "client.h"
#include "mapping.h"
#include "pages.h"
#include "say.h"
#include "syscalls.h"

#define ACTIONS 3u /* CLEAR_BYTE | SEND_EVENT */

int grants_check_notify(const struct grants_notify *notify)
{
    return notify->action & ~ACTIONS ? say_error(EINVAL, "action %#x, expected a sum of 1 and 2", notify->action) : 0;
}

int grants_map_shared(uint64_t addr, const uint32_t *refs, uint32_t n, int prot, bool own)
{
    struct answer answer;
    for (uint32_t done = 0, num; done < n; done += num) {
        uint64_t at = addr + done * PAGE_SIZE;
        struct request *request = client_begin("gntalloc.map");
        request_uints(request, "refs", refs + done, n - done < GRANTS_MOST ? n - done : GRANTS_MOST);
        request_uint(request, "addr", at);
        request_bool(request, "own", own);
        int error = client_call(&answer);
        if (error)
            return error;
        num = (uint32_t)mp_find_int(answer.result, "num", 0);
        off_t offset = (off_t)mp_find_int(answer.result, "page", 0) * (off_t)PAGE_SIZE;
        if (answer.fds[0] < 0 || !num || num > n - done)
            error = say_error(EIO, "the broker sent no pages");
        else if (sys_mmap((void *)at, num * PAGE_SIZE, prot, MAP_SHARED | MAP_FIXED, answer.fds[0], offset) ==
                 MAP_FAILED)
            error = errno;
        answer_drop_fds(&answer);
        if (error)
            return error;
    }
    struct area *area = areas_first(addr, addr + 1);
    area->used = true;
    pages_settle(area);
    return 0;
}

int64_t grants_mmap(enum device device, int fd, uint64_t addr, uint64_t size, int prot, int flags, grants_fill *fill,
                    void *grants)
{
    int64_t at = mapping_mmap_held(device, fd, addr, size, prot, flags & ~(MAP_LOCKED | MAP_POPULATE), 0);
    if (at < 0)
        return at;
    int error = fill(grants, (uint64_t)at, prot);
    if (!error)
        return at;
    mapping_munmap_held((uint64_t)at, (size + PAGE_MASK) & ~PAGE_MASK);
    return -error;
}
