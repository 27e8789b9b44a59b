// SPDX-License-Identifier: Apache-2.0
#include "next.h"

void *next_function(const char *name, _Atomic(void *) *where)
{
    void *found = *where;
    if (!found)
        *where = found = dlsym(RTLD_NEXT, name);
    return found;
}
