// SPDX-License-Identifier: Apache-2.0
#include "process.h"

#include <sys/types.h>

#include "syscalls.h"

static pid_t owner;
/* A byte that is 1, and 0 in a copy. */
static char *mark;

bool process_is_own(void)
{
    return getpid() == owner && !process_is_copy();
}

bool process_is_copy(void)
{
    return mark && !*mark;
}

void process_adopt(void)
{
    owner = getpid();
    if (mark)
        *mark = 1;
}

__attribute__((constructor)) static void note_process(void)
{
    void *page = sys_mmap_anonymous(PAGE_SIZE);
    if (page != MAP_FAILED && !sys_madvise(page, PAGE_SIZE, MADV_WIPEONFORK))
        mark = page;
    process_adopt();
}
