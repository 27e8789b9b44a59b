// SPDX-License-Identifier: Apache-2.0
/*
 * Which of the program's descriptors may be ours. A descriptor is marked when it is opened or copied. A marked
 * descriptor is asked what it is, so a wrong mark does no harm. A descriptor that came another way (by exec or
 * SCM_RIGHTS) has no mark.
 */
#ifndef PRIVCMDD_MARKS_H
#define PRIVCMDD_MARKS_H

#include <stdbool.h>

#include "../device.h"

void marks_add_device(int fd);
/* The device of a marked descriptor, else DEVICE_NONE. */
enum device marks_device(int fd);
/* Marks a descriptor that was copied from another. */
void marks_copy(int from, int to);

/* Files of /proc. */
void marks_add_proc(int fd);
bool marks_has_proc(int fd);

#endif
