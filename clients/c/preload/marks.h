// SPDX-License-Identifier: Apache-2.0
/*
 * Which of the program's descriptors may concern us. A mark is made when a descriptor is opened or copied, and the
 * descriptor is asked what it is: a mark that is wrong does no harm, and a descriptor that came another way (by exec or
 * SCM_RIGHTS) is only missing.
 */
#ifndef PRIVCMDD_MARKS_H
#define PRIVCMDD_MARKS_H

#include <stdbool.h>

#include "../device.h"

void marks_add_device(int fd);
/* The device of a marked descriptor, else DEVICE_NONE. */
enum device marks_device(int fd);
/* A descriptor that was copied from another. */
void marks_copy(int from, int to);

/* Files of /proc. */
void marks_add_proc(int fd);
bool marks_has_proc(int fd);

#endif
