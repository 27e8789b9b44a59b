// SPDX-License-Identifier: Apache-2.0
/* ioctl. */
#include <stdarg.h>
#include <sys/ioctl.h>

#include "../device.h"
#include "../evtchn.h"
#include "../gntalloc.h"
#include "../gntdev.h"
#include "../privcmd.h"
#include "next.h"

DECLARE_NEXT(ioctl);

EXPORT int ioctl(int fd, unsigned long command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    /* The kernel looks at 32 bits of the number. A device answers ENOTTY to an ioctl that is not its own. */
    uint32_t number = (uint32_t)command;
    uint64_t file, address = (uint64_t)argument;
    switch (number >> 8 & 0xff) {
    case 'P':
        if (device_of(fd, &file) == DEVICE_PRIVCMD)
            return (int)next_result(privcmd_ioctl(file, number, address));
        break;
    case 'G':
        switch (device_of(fd, &file)) {
        case DEVICE_GNTDEV:
            return (int)next_result(gntdev_ioctl(file, number, address));
        case DEVICE_GNTALLOC:
            return (int)next_result(gntalloc_ioctl(file, number, address));
        default:
            break;
        }
        break;
    case 'E':
        if (device_of(fd, &file) == DEVICE_EVTCHN)
            return (int)next_result(evtchn_ioctl(fd, number, address));
        break;
    default:
        break;
    }
    return NEXT(ioctl)(fd, command, argument);
}
