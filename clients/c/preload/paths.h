// SPDX-License-Identifier: Apache-2.0
/* The paths that a Xen host has, and what is there. */
#ifndef PRIVCMDD_PATHS_H
#define PRIVCMDD_PATHS_H

#include <stdbool.h>

#include "../device.h"

/* What is at a path: a device, or a text, or a file of /proc that shows pages. */
struct xen_path {
    enum device device;
    const char *text;
    const char *proc;
};

/* Whether a path is one of them, and what is there. */
bool paths_find(const char *path, struct xen_path *found);
/* Opens what is at a path, with the flags of open(2). Returns a descriptor, or -1 with errno. */
int paths_open(const struct xen_path *found, int flags);

#endif
