// SPDX-License-Identifier: Apache-2.0
#include "request.h"

#define TYPE_REQUEST 0

size_t request_map(struct request *request)
{
    size_t outer = request->map;
    request->map = request->out.used;
    mp_map(&request->out, 0);
    return outer;
}

void request_map_end(struct request *request, size_t outer)
{
    request->map = outer;
}

void request_begin(struct request *request, uint32_t msgid, const char *method)
{
    request->out.used = 0;
    request->out.failed = false;
    mp_array(&request->out, 4);
    mp_uint(&request->out, TYPE_REQUEST);
    mp_uint(&request->out, msgid);
    mp_str(&request->out, method);
    mp_array(&request->out, 1);
    request_map(request);
}

static void request_key(struct request *request, const char *key)
{
    mp_str(&request->out, key);
    if (request->out.failed)
        return;
    uint8_t *head = request->out.data + request->map;
    if ((*head & REQUEST_KEYS_MOST) == REQUEST_KEYS_MOST)
        request->out.failed = true;
    else
        ++*head;
    request->value = request->out.used;
}

void request_uint(struct request *request, const char *key, uint64_t value)
{
    request_key(request, key);
    mp_uint(&request->out, value < REQUEST_UINT_MOST ? value : REQUEST_UINT_MOST);
}

void request_bool(struct request *request, const char *key, bool value)
{
    request_key(request, key);
    mp_bool(&request->out, value);
}

void request_str(struct request *request, const char *key, const char *value)
{
    request_key(request, key);
    mp_str(&request->out, value);
}

void request_uints(struct request *request, const char *key, const uint32_t *values, uint32_t n)
{
    request_key(request, key);
    mp_array(&request->out, n);
    for (uint32_t i = 0; i < n; i++)
        mp_uint(&request->out, values[i]);
}

void request_bin(struct request *request, const char *key, const void *data, uint32_t size)
{
    request_key(request, key);
    mp_bin(&request->out, data, size);
}

uint8_t *request_bin_room(struct request *request, const char *key, uint32_t size)
{
    request_key(request, key);
    return mp_bin_room(&request->out, size);
}

void request_nil(struct request *request)
{
    if (request->out.failed)
        return;
    request->out.used = request->value;
    mp_nil(&request->out);
}

void request_list(struct request *request, const char *key, uint32_t n)
{
    request_key(request, key);
    mp_array(&request->out, n);
}

uint8_t *request_list_bin_room(struct request *request, uint32_t size)
{
    return mp_bin_room(&request->out, size);
}
