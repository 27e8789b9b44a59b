// SPDX-License-Identifier: Apache-2.0
#include "msgpack.h"

#include <string.h>

#include "syscalls.h"

#define FIRST_ROOM ((size_t)64 * 1024)

static bool grow(struct mp_out *out, size_t needed)
{
    size_t room = out->room ? out->room : FIRST_ROOM;
    while (room < needed)
        room *= 2;
    void *data = out->data ? sys_mremap(out->data, out->room, room) : sys_mmap_anonymous(room);
    if (data == MAP_FAILED)
        return false;
    out->data = data;
    out->room = room;
    return true;
}

bool mp_reserve(struct mp_out *out, size_t size)
{
    if (out->failed || size > MP_MOST - out->used || (out->used + size > out->room && !grow(out, out->used + size)))
        out->failed = true;
    return !out->failed;
}

uint8_t *mp_room(struct mp_out *out, size_t size)
{
    if (!mp_reserve(out, size))
        return NULL;
    uint8_t *at = out->data + out->used;
    out->used += size;
    return at;
}

/* A type byte and a big-endian number of that many bytes. */
static void head(struct mp_out *out, uint8_t type, uint64_t value, unsigned size)
{
    uint8_t *at = mp_room(out, 1 + size);
    if (!at)
        return;
    *at++ = type;
    while (size--)
        *at++ = (uint8_t)(value >> (8 * size));
}

void mp_array(struct mp_out *out, uint32_t n)
{
    if (n < 16)
        head(out, (uint8_t)(0x90 | n), 0, 0);
    else
        head(out, 0xdd, n, 4);
}

void mp_map(struct mp_out *out, uint32_t n)
{
    if (n < 16)
        head(out, (uint8_t)(0x80 | n), 0, 0);
    else
        head(out, 0xdf, n, 4);
}

void mp_uint(struct mp_out *out, uint64_t value)
{
    if (value < 128)
        head(out, (uint8_t)value, 0, 0);
    else if (value <= 0xff)
        head(out, 0xcc, value, 1);
    else if (value <= 0xffff)
        head(out, 0xcd, value, 2);
    else if (value <= 0xffffffff)
        head(out, 0xce, value, 4);
    else
        head(out, 0xcf, value, 8);
}

void mp_bool(struct mp_out *out, bool value)
{
    head(out, value ? 0xc3 : 0xc2, 0, 0);
}

void mp_nil(struct mp_out *out)
{
    head(out, 0xc0, 0, 0);
}

void mp_str(struct mp_out *out, const char *text)
{
    size_t size = strlen(text);
    if (size < 32)
        head(out, (uint8_t)(0xa0 | size), 0, 0);
    else
        head(out, 0xdb, size, 4);
    uint8_t *at = mp_room(out, size);
    if (at)
        memcpy(at, text, size);
}

uint8_t *mp_bin_room(struct mp_out *out, uint32_t size)
{
    if (size <= 0xff)
        head(out, 0xc4, size, 1);
    else
        head(out, 0xc6, size, 4);
    return mp_room(out, size);
}

void mp_bin(struct mp_out *out, const void *data, uint32_t size)
{
    uint8_t *at = mp_bin_room(out, size);
    if (at && size)
        memcpy(at, data, size);
}

static const struct mp_value BAD = {.type = MP_BAD}, SHORT = {.type = MP_SHORT};

static bool number(struct mp_in *in, unsigned size, uint64_t *value)
{
    if ((size_t)(in->end - in->at) < size)
        return false;
    *value = 0;
    while (size--)
        *value = *value << 8 | *in->at++;
    return true;
}

static struct mp_value integer(struct mp_in *in, unsigned size, bool is_signed)
{
    uint64_t raw;
    if (!number(in, size, &raw))
        return SHORT;
    unsigned shift = 64 - 8 * size;
    if (is_signed)
        return (struct mp_value){.type = MP_INT, .number = (int64_t)(raw << shift) >> shift};
    if (raw > INT64_MAX)
        return BAD;
    return (struct mp_value){.type = MP_INT, .number = (int64_t)raw};
}

static struct mp_value bytes(struct mp_in *in, enum mp_type type, uint64_t size)
{
    if (size > MP_MOST)
        return BAD;
    if ((size_t)(in->end - in->at) < size)
        return SHORT;
    struct mp_value value = {.type = type, .data = in->at, .size = (uint32_t)size};
    in->at += size;
    return value;
}

static struct mp_value sized(struct mp_in *in, enum mp_type type, unsigned size_of_size)
{
    uint64_t size;
    if (!number(in, size_of_size, &size))
        return SHORT;
    if (type == MP_STR || type == MP_BIN)
        return bytes(in, type, size);
    return (struct mp_value){.type = type, .size = (uint32_t)size};
}

struct mp_value mp_next(struct mp_in *in)
{
    if (in->at >= in->end)
        return SHORT;
    uint8_t byte = *in->at++;
    if (byte < 0x80)
        return (struct mp_value){.type = MP_INT, .number = byte};
    if (byte >= 0xe0)
        return (struct mp_value){.type = MP_INT, .number = (int8_t)byte};
    if (byte < 0x90)
        return (struct mp_value){.type = MP_MAP, .size = byte & 0x0f};
    if (byte < 0xa0)
        return (struct mp_value){.type = MP_ARRAY, .size = byte & 0x0f};
    if (byte < 0xc0)
        return bytes(in, MP_STR, byte & 0x1f);
    switch (byte) {
    case 0xc0:
        return (struct mp_value){.type = MP_NIL};
    case 0xc2:
    case 0xc3:
        return (struct mp_value){.type = MP_BOOL, .number = byte & 1};
    case 0xc4:
    case 0xc5:
    case 0xc6:
        return sized(in, MP_BIN, 1U << (byte - 0xc4));
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf:
        return integer(in, 1U << (byte - 0xcc), false);
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3:
        return integer(in, 1U << (byte - 0xd0), true);
    case 0xd9:
    case 0xda:
    case 0xdb:
        return sized(in, MP_STR, 1U << (byte - 0xd9));
    case 0xdc:
    case 0xdd:
        return sized(in, MP_ARRAY, 2U << (byte - 0xdc));
    case 0xde:
    case 0xdf:
        return sized(in, MP_MAP, 2U << (byte - 0xde));
    default:
        return BAD;
    }
}

/* Steps over one value with all that is in it: its type, MP_SHORT or MP_BAD. */
static enum mp_type step_over(struct mp_in *in)
{
    uint64_t left = 1;
    enum mp_type first = MP_BAD;
    for (unsigned n = 0; left; n++) {
        if (n >= MP_VALUES || left > MP_VALUES)
            return MP_BAD;
        struct mp_value value = mp_next(in);
        if (value.type == MP_BAD || value.type == MP_SHORT)
            return value.type;
        if (!n)
            first = value.type;
        left--;
        if (value.type == MP_ARRAY)
            left += value.size;
        else if (value.type == MP_MAP)
            left += 2 * (uint64_t)value.size;
    }
    return first;
}

bool mp_skip(struct mp_in *in)
{
    return step_over(in) > MP_SHORT;
}

bool mp_find(struct mp_in in, const char *key, struct mp_in *value)
{
    struct mp_value map = mp_next(&in);
    if (map.type != MP_MAP)
        return false;
    size_t size = strlen(key);
    for (uint32_t i = 0; i < map.size; i++) {
        struct mp_value name = mp_next(&in);
        if (name.type != MP_STR)
            return false;
        if (name.size == size && !memcmp(name.data, key, size)) {
            *value = in;
            return true;
        }
        if (!mp_skip(&in))
            return false;
    }
    return false;
}

int64_t mp_find_int(struct mp_in map, const char *key, int64_t fallback)
{
    struct mp_in at;
    if (!mp_find(map, key, &at))
        return fallback;
    struct mp_value value = mp_next(&at);
    return value.type == MP_INT || value.type == MP_BOOL ? value.number : fallback;
}

struct mp_value mp_find_bin(struct mp_in map, const char *key)
{
    struct mp_in at;
    struct mp_value value = {.type = MP_NIL};
    if (mp_find(map, key, &at)) {
        struct mp_value found = mp_next(&at);
        if (found.type == MP_BIN)
            value = found;
    }
    return value;
}

long mp_length(const uint8_t *data, size_t size)
{
    struct mp_in in = {data, data + size};
    enum mp_type type = step_over(&in);
    if (type == MP_SHORT)
        return size > MP_MOST ? -1 : 0;
    return type == MP_BAD ? -1 : in.at - data;
}
