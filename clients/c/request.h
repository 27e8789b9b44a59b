// SPDX-License-Identifier: Apache-2.0
/*
 * A request that is being written: [0, msgid, method, [parameters]]. The parameters are a map. Its head holds the
 * number of its keys, and is updated with each key that is written, so that callers need not count the keys.
 */
#ifndef PRIVCMDD_REQUEST_H
#define PRIVCMDD_REQUEST_H

#include "msgpack.h"

/* The largest number that is sent. A larger one is sent as this one, which the broker refuses for the same reason. */
#define REQUEST_UINT_MOST (((uint64_t)1 << 53) - 1)
/* A map's head is one byte, which has room for so many keys. */
#define REQUEST_KEYS_MOST 15

/* A failure, also more than REQUEST_KEYS_MOST keys, is remembered in out. */
struct request {
    struct mp_out out;
    size_t map;   /* the offset of the head of the map that keys are added to */
    size_t value; /* the offset of the value of the key that was written last */
};

void request_begin(struct request *request, uint32_t msgid, const char *method);
/* Write a key and its value. */
void request_uint(struct request *request, const char *key, uint64_t value);
void request_bool(struct request *request, const char *key, bool value);
void request_str(struct request *request, const char *key, const char *value);
void request_uints(struct request *request, const char *key, const uint32_t *values, uint32_t n);
void request_bin(struct request *request, const char *key, const void *data, uint32_t size);
/* Writes a key and makes room for the bytes of its value. Returns where the caller writes them, or NULL. */
uint8_t *request_bin_room(struct request *request, const char *key, uint32_t size);
/* Makes nil of the value of the key that was written last: what it should be cannot be read. */
void request_nil(struct request *request);
/* Writes a key and the head of a list. Its n elements are written next: maps, or bins. */
void request_list(struct request *request, const char *key, uint32_t n);
/* Makes room for a bin that is an element of a list. Returns where the caller writes its bytes, or NULL. */
uint8_t *request_list_bin_room(struct request *request, uint32_t size);
/*
 * Begins a map inside a list; later keys are added to this map. Returns the outer map, which request_map_end takes.
 */
size_t request_map(struct request *request);
void request_map_end(struct request *request, size_t outer);

#endif
