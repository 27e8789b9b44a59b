// SPDX-License-Identifier: Apache-2.0
#include "evtchn.h"

#include <errno.h>
#include <stdatomic.h>

#include "usermem.h"

#define EVTCHN_IOCTL(number, size) (('E' << 8) | (number) | ((uint32_t)(size) << 16))
#define BIND_VIRQ EVTCHN_IOCTL(0, 4)
#define BIND_INTERDOMAIN EVTCHN_IOCTL(1, 8)
#define BIND_UNBOUND_PORT EVTCHN_IOCTL(2, 4)
#define UNBIND EVTCHN_IOCTL(3, 4)
#define NOTIFY EVTCHN_IOCTL(4, 4)
#define RESET EVTCHN_IOCTL(5, 0)
#define RESTRICT_DOMID EVTCHN_IOCTL(6, 2)
#define MOST_PORTS 4096

static _Atomic uint32_t n_ports;

int64_t evtchn_ioctl(uint32_t command, uint64_t argument)
{
    uint32_t port;
    switch (command) {
    case BIND_VIRQ:
    case BIND_INTERDOMAIN:
    case BIND_UNBOUND_PORT:
        if (!user_readable(argument, command >> 16))
            return -EFAULT;
        port = atomic_fetch_add(&n_ports, 1) + 1;
        return port < MOST_PORTS ? (int64_t)port : -ENOSPC;
    case UNBIND:
    case NOTIFY:
        if (user_read(&port, argument, sizeof port) < sizeof port)
            return -EFAULT;
        return port && port <= atomic_load(&n_ports) ? 0 : command == UNBIND ? -EINVAL : -ENOTCONN;
    case RESTRICT_DOMID:
        return user_readable(argument, 2) ? 0 : -EFAULT;
    case RESET:
        return 0;
    default:
        return -ENOTTY;
    }
}
