// SPDX-License-Identifier: Apache-2.0
/*
 * `privcmdctl run` preloads the runtime of the program's sanitizer before us. Only this program is to have it: else the
 * sanitizer would also report on a shell or a compiler that the program starts.
 */
#include <stdlib.h>
#include <string.h>

__attribute__((constructor)) static void keep_the_runtime_for_ourselves(void)
{
    const char *runtimes = getenv("PRIVCMDD_RUNTIME");
    char *preloaded = getenv("LD_PRELOAD");
    size_t n = runtimes ? strlen(runtimes) : 0;
    if (!n || !preloaded || strncmp(preloaded, runtimes, n) || preloaded[n] != ':')
        return;
    /* In place: setenv would call malloc. */
    memmove(preloaded, preloaded + n + 1, strlen(preloaded + n + 1) + 1);
}
