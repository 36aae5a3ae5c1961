/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Hashes of what is long or comes in pieces, by OpenSSL's libcrypto, which is opened when the first
 * is made: it uses the processor's own instructions.  For a short text codec/text.h has sha256().
 */

#include "base/base.h"

enum digest_kind { DIGEST_MD5, DIGEST_SHA1, DIGEST_SHA256 };
enum { DIGEST_MAX = 32 }; /* bytes of the longest */

struct digest;

/* NULL where libcrypto is not there. */
struct digest *digest_new(enum digest_kind kind, struct err *e) _must_check_;
void digest_free(struct digest *d); /* NULL is fine */
void digest_add(struct digest *d, const void *p, size_t n);
/* Its length (16, 20, 32); nothing can be added any more. */
size_t digest_end(struct digest *d, uint8_t out[DIGEST_MAX]);

static inline void digest_freep(struct digest **d)
{
    digest_free(*d);
}
#define _cleanup_digest_ __attribute__((cleanup(digest_freep)))
