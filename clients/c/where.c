// SPDX-License-Identifier: Apache-2.0
#include "where.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "syscalls.h"

/* $PRIVCMDD_SOCKET when the process began, or empty. */
static char at_start[WHERE_MOST];
/* Where there was a connection, or empty. */
static char settled[WHERE_MOST];

__attribute__((constructor)) static void note_start(void)
{
    const char *named = getenv("PRIVCMDD_SOCKET");
    if (named)
        snprintf(at_start, sizeof at_start, "%s", named);
}

bool where_path(char path[WHERE_MOST])
{
    const char *named = getenv("PRIVCMDD_SOCKET"), *runtime = getenv("XDG_RUNTIME_DIR");
    int n;
    if (settled[0])
        named = settled;
    else if (!named || !*named)
        named = at_start;
    if (*named)
        n = snprintf(path, WHERE_MOST, "%s", named);
    else if (runtime && *runtime)
        n = snprintf(path, WHERE_MOST, "%s/privcmdd/broker.sock", runtime);
    else
        n = snprintf(path, WHERE_MOST, "/run/privcmdd/broker.sock");
    return n > 0 && (size_t)n < WHERE_MOST;
}

void where_settled(const char path[WHERE_MOST])
{
    char directory[WHERE_MOST], whole[2 * WHERE_MOST];
    if (settled[0])
        return;
    int n = 0;
    if (*path != '/' && syscall(SYS_getcwd, directory, sizeof directory) > 0)
        n = snprintf(whole, sizeof whole, "%s/%s", directory, path);
    memcpy(settled, n > 0 && (size_t)n < sizeof settled ? whole : path, sizeof settled);
}
