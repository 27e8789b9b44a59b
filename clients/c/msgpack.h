// SPDX-License-Identifier: Apache-2.0
/*
 * MessagePack, the part of it that the protocol uses (docs/reference/protocol.md): no floats, no extensions.
 *
 * We do not use msgpack-c, because the preload library is put into programs that run in containers and chroots where
 * no other library of ours is installed, and because it may not call malloc: an ioctl may be called from a signal
 * handler or between fork and exec.
 *
 * Messages are written into memory that grows by mremap up to MP_MOST bytes; a failure is remembered in the buffer, and
 * the caller looks at it once, at the end. Reading never goes past the end of its input, takes no memory, does not
 * recurse, and looks at no more than MP_VALUES values.
 */
#ifndef PRIVCMDD_MSGPACK_H
#define PRIVCMDD_MSGPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The longest message that the broker takes: a bin of 16 MiB, and room for the rest of the message. */
#define MP_MOST ((size_t)16 * 1024 * 1024 + 64 * 1024)
/* The most values in one message, heads of containers included; twice as many as the broker takes. */
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
/* Writes the head of a bin and makes room for its bytes. Returns where the caller writes them, or NULL. */
uint8_t *mp_bin_room(struct mp_out *out, uint32_t size);

/* MP_BAD: the bytes are no value. MP_SHORT: they may be the beginning of a value, but more bytes are needed. */
enum mp_type { MP_BAD, MP_SHORT, MP_NIL, MP_BOOL, MP_INT, MP_STR, MP_BIN, MP_ARRAY, MP_MAP };

/* A message being read: what is left of it. */
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
/* Looks up a key in the map that begins at in. If it returns true, *value stands at the key's value. */
bool mp_find(struct mp_in in, const char *key, struct mp_in *value);

/* A key's value when it is of that type, else the fallback. */
int64_t mp_find_int(struct mp_in map, const char *key, int64_t fallback);
/* A key's bin; all zeros when there is none. */
struct mp_value mp_find_bin(struct mp_in map, const char *key);

/* The length of the message that begins at data: 0 when more bytes are needed, -1 when it is no message. */
long mp_length(const uint8_t *data, size_t size);

#endif
