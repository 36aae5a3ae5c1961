/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Small codecs: base64, hex, percent, time, hashes, UTF-8, cidr lives in cidr.h. */

#include "base/base.h"

/* RFC 4648; 'url' chooses the URL alphabet without padding.  Return NULL on malformed input. */
char *base64_encode(struct arena *a, const void *p, size_t n, bool url);
void *base64_decode(struct arena *a, struct str s, bool url, size_t *n);
void hex_encode(const void *p, size_t n, char *out); /* out: 2n + 1 */
bool hex_decode(struct str s, void *out, size_t n);  /* exactly n bytes */

/* RFC 3339 with 'Z' and milliseconds; parse also takes offsets, 0–9 fraction digits, or a date. */
enum { TIME_TEXT = 32 };
void time_format(int64_t micros, char out[TIME_TEXT]);
bool time_parse(struct str s, int64_t *micros);

/* Percent-decodes into 'a'; -1 on a bad escape or, for paths, a NUL in either form. '+' is a space
 * only in a query. */
int percent_decode(struct arena *a, struct str s, bool query, struct str *out);
void percent_encode(struct arena *a, struct str s, struct str *out); /* RFC 3986 unreserved stay */

bool utf8_valid(struct str s);

uint32_t crc32_of(const void *p, size_t n); /* IEEE 802.3 */
void sha256(const void *p, size_t n, uint8_t out[32]);
void hmac_sha256(const void *key, size_t kn, const void *p, size_t n, uint8_t out[32]);
bool mem_eq_const(const void *a, const void *b, size_t n); /* constant time */

/* Decimal integer without sign tricks: optional '-', digits, in range.  False otherwise. */
bool int_parse(struct str s, int64_t min, int64_t max, int64_t *out);
