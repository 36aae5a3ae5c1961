/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Hash map from bytes to a pointer.  Keys are copied; values belong to the caller.  Not for more
 * than one thread.  Keyed with a random seed, so that no input can choose its collisions. */

#include "base/base.h"

struct map;
struct map *map_new(void);
void map_free(struct map *m); /* frees no values */
DEFINE_CLEANUP(struct map *, map_free)
void *map_get(const struct map *m, const void *key, size_t n);
/* Sets and returns the value that stood there, or NULL. */
void *map_set(struct map *m, const void *key, size_t n, void *value);
/* Removes and returns the value, or NULL. */
void *map_del(struct map *m, const void *key, size_t n);
size_t map_count(const struct map *m);
/* Iterates in no order: *at starts at 0; false at the end.  map_del() of the current one is fine.
 */
bool map_next(const struct map *m, size_t *at, const void **key, size_t *n, void **value);

/* SipHash-2-4 of 'p' under a 16-byte key, 64 bits; and 128 bits for credentials. */
uint64_t hash_sip64(const uint8_t key[16], const void *p, size_t n);
void hash_sip128(const uint8_t key[16], const void *p, size_t n, uint8_t out[16]);
