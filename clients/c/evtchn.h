// SPDX-License-Identifier: Apache-2.0
/*
 * The ioctls of /dev/xen/evtchn, as far as programs need them to come up: ports are given out, to this process alone,
 * and no event ever comes.
 */
#ifndef PRIVCMDD_EVTCHN_H
#define PRIVCMDD_EVTCHN_H

#include <stdint.h>

/* A port, 0, or a negative errno; ENOTTY for an ioctl that the device does not have. */
int64_t evtchn_ioctl(uint32_t command, uint64_t argument);

#endif
