// SPDX-License-Identifier: Apache-2.0
/* ioctl. */
#include <errno.h>
#include <stdarg.h>
#include <sys/ioctl.h>

#include "../device.h"
#include "../evtchn.h"
#include "../gntalloc.h"
#include "../gntdev.h"
#include "../privcmd.h"
#include "../say.h"
#include "next.h"

DECLARE_NEXT(ioctl);

/* Ends an ioctl on a device; one that the device does not have is said, as no broker has seen it. */
static int ended(uint32_t number, int64_t result, int64_t unknown)
{
    if (result == unknown && say_wishes(SAY_ERRORS))
        say_line("%s: the device has no ioctl %#x", unknown == -ENOSYS ? "ENOSYS" : "ENOTTY", number);
    return (int)next_result(result);
}

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
            return ended(number, privcmd_ioctl(file, number, address), -ENOTTY);
        break;
    case 'G':
        switch (device_of(fd, &file)) {
        case DEVICE_GNTDEV:
            return ended(number, gntdev_ioctl(file, number, address), -ENOTTY);
        case DEVICE_GNTALLOC:
            return ended(number, gntalloc_ioctl(file, number, address), -ENOTTY);
        default:
            break;
        }
        break;
    case 'E':
        if (device_of(fd, &file) == DEVICE_EVTCHN)
            return ended(number, evtchn_ioctl(fd, number, address), -ENOSYS);
        break;
    default:
        break;
    }
    return NEXT(ioctl)(fd, command, argument);
}
