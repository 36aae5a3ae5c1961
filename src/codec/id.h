/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Ids: UUIDv7 (RFC 9562) and TypeIDs (prefix, '_', 26 characters of lower-case Crockford base32).
 */

#include "base/base.h"
#include "base/clock.h"

/* A new UUIDv7, greater than every one this process made before, also when the clock steps back. */
void uuid_new(struct clock *c, struct uuid *out);
/* Any well-formed UUID (either case, stored in lower case). */
bool uuid_parse(struct str s, struct uuid *out);
void uuid_bytes(const struct uuid *u, uint8_t out[16]);
void uuid_from_bytes(const uint8_t in[16], struct uuid *out);

enum { TYPEID_MAX = 63 + 1 + 26 + 1 };
void typeid_format(const char *prefix, const struct uuid *u, char out[TYPEID_MAX]);
/* True if 's' has the form prefix_26 chars; the prefix is copied to 'prefix' (64 bytes). */
bool typeid_parse(struct str s, char prefix[64], struct uuid *out);

/* What a path or body says: UUID or TypeID. */
enum id_form { ID_NONE, ID_OK, ID_WRONG_PREFIX };
/* 'prefix' NULL: only UUIDs are right. */
enum id_form id_parse(struct str s, const char *prefix, struct uuid *out);
/* True for whatever reads as a UUID or a TypeID: such a name is refused. */
bool id_looks_like(struct str s);

/* Secrets (contracts 1): prefix + 34 random base62 + 6 of checksum.  'out' holds prefix + 41. */
enum { SECRET_MAX = 64 };
void secret_new(const char *prefix, char out[SECRET_MAX]);
/* True if the checksum is right. */
bool secret_check(const char *prefix, struct str s);
