// SPDX-License-Identifier: Apache-2.0
#include "ioctls.h"

#include <errno.h>
#include <stdio.h>

#include "client.h"
#include "say.h"

static const struct ioctls_row *find(const struct ioctls *device, uint32_t number)
{
    for (size_t i = 0; i < device->n_rows; i++)
        if (device->rows[i].number == number)
            return &device->rows[i];
    return NULL;
}

/* The broker counts what it has no answer for. Without a broker the answer is the driver's all the same. */
static int64_t refuse_unknown(const struct ioctls *device, uint32_t number)
{
    struct answer answer;
    if (client_connect())
        return -device->unknown;
    struct request *request = client_begin("privcmd.unknown_ioctl");
    request_str(request, "device", device->device);
    request_uint(request, "number", number);
    if (!client_call(&answer))
        client_say_why(&answer);
    return -device->unknown;
}

int64_t ioctls_in_no_kernel(uint64_t file, uint64_t argument)
{
    (void)file, (void)argument;
    return -say_error(ENOTTY, "no kernel has it, which Xen's libraries know");
}

int64_t ioctls_perform(const struct ioctls *device, uint64_t file, uint32_t number, uint64_t argument)
{
    char text[32];
    struct client_hold hold;
    const struct ioctls_row *row = find(device, number);
    client_lock(&hold);
    say_begin();
    int error = row && device->connects ? client_connect() : 0;
    int64_t result = error ? -error : row ? row->perform(file, argument) : refuse_unknown(device, number);
    if (result < 0) {
        snprintf(text, sizeof text, row ? "ioctl %s" : "ioctl", row ? row->name : "");
        say_refused(device->device, text, (int)-result);
    }
    client_unlock(&hold);
    return result;
}
