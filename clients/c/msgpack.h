// SPDX-License-Identifier: Apache-2.0
/*
 * MessagePack, as much of it as the protocol speaks (docs/reference/protocol.md): no floats, no extensions.
 *
 * Our own and not msgpack-c, because the preload library is put into programs that run in containers and chroots
 * where no library of ours is installed, and because it may not call malloc: an ioctl may be called from a signal
 * handler or between fork and exec.
 *
 * Writing goes into memory that grows by mremap up to MP_MOST bytes; a failure is remembered in the buffer and
 * needs to be looked at once, at the end. Reading never goes past the end of what it is given, takes no memory,
 * does not recurse, and looks at no more than MP_VALUES values.
 */
#ifndef PRIVCMDD_MSGPACK_H
#define PRIVCMDD_MSGPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The broker refuses longer messages: a bin of 16 MiB, and room for what is around it. */
#define MP_MOST ((size_t)16 * 1024 * 1024 + 64 * 1024)
/* Values in one message, containers' heads included; twice what the broker takes. */
#define MP_VALUES 16384

/* A message being written. All zeros is an empty one. */
struct mp_out {
    uint8_t *data;
    size_t used;
    size_t room;
    bool failed; /* no memory, or longer than MP_MOST */
};

/* Makes sure that size more bytes fit without moving; false when they cannot. */
bool mp_reserve(struct mp_out *out, size_t size);
/* Makes room for size more bytes at the end and returns where they go, or NULL; they count as written. */
uint8_t *mp_room(struct mp_out *out, size_t size);
void mp_array(struct mp_out *out, uint32_t n);
void mp_map(struct mp_out *out, uint32_t n);
void mp_uint(struct mp_out *out, uint64_t value);
void mp_bool(struct mp_out *out, bool value);
void mp_nil(struct mp_out *out);
void mp_str(struct mp_out *out, const char *text);
void mp_bin(struct mp_out *out, const void *data, uint32_t size);
/* The head of a bin, and room for its bytes: where they are to be written, or NULL. */
uint8_t *mp_bin_room(struct mp_out *out, uint32_t size);

/* MP_BAD: there is no value there. MP_SHORT: one may be, but more bytes are needed. */
enum mp_type { MP_BAD, MP_SHORT, MP_NIL, MP_BOOL, MP_INT, MP_STR, MP_BIN, MP_ARRAY, MP_MAP };

/* Where reading is. */
struct mp_in {
    const uint8_t *at;
    const uint8_t *end;
};

/* One value; of an array or a map only its head. */
struct mp_value {
    enum mp_type type;
    int64_t number;      /* MP_BOOL, MP_INT */
    const uint8_t *data; /* MP_STR, MP_BIN */
    uint32_t size;       /* bytes of MP_STR, MP_BIN; elements of MP_ARRAY, pairs of MP_MAP */
};

/* Reads one value, or one head. */
struct mp_value mp_next(struct mp_in *in);
/* Steps over one value with all that is in it; false when it is bad or incomplete. */
bool mp_skip(struct mp_in *in);
/* Looks a key up in the map that begins at in: true, and *value stands at the key's value. */
bool mp_find(struct mp_in in, const char *key, struct mp_in *value);

/* A key's value when it is of that type, else the fallback. */
int64_t mp_find_int(struct mp_in map, const char *key, int64_t fallback);
/* A key's bin; all zeros when there is none. */
struct mp_value mp_find_bin(struct mp_in map, const char *key);

/* How long the message is that begins here: 0 when more bytes are needed, -1 when it is none. */
long mp_length(const uint8_t *data, size_t size);

#endif
