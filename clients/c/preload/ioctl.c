// SPDX-License-Identifier: Apache-2.0
/* ioctl. */
#include <stdarg.h>
#include <sys/ioctl.h>

#include "../privcmd.h"
#include "../syscalls.h"
#include "preload.h"

DECLARE_NEXT(ioctl);

EXPORT int ioctl(int fd, unsigned long command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    uint64_t file;
    /* Only ioctls of type 'P' can be privcmd's; the memfd behind it answers ENOTTY to all others, as the device does. */
    if ((command >> 8 & 0xff) == 'P' && device_of(fd, &file) == DEVICE_PRIVCMD)
        return (int)preload_result(privcmd_ioctl(file, (uint32_t)command, (uint64_t)argument));
    return NEXT(ioctl)(fd, command, argument);
}
