/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Keys of an installation (contracts 7): master.key wraps the data key, the pepper and the signing
 * key, which are kept wrapped in the store; every sealed value and hash names its key's id. */

#include "base/base.h"
#include "db/db.h"

struct keyring;
/* Reads 'path' (0600), making it with a random key when it is missing. */
int master_key_load(const char *path, uint8_t out[32], struct err *e) _must_check_;
/* Opens the wrapped keys of the store, making them on a first run.  A master key that does not open
 * them: error that says so. */
struct keyring *keyring_open(struct store *s, const uint8_t master[32], struct err *e);
void keyring_free(struct keyring *k);
DEFINE_CLEANUP(struct keyring *, keyring_free)
/* HMAC-SHA256(pepper, secret) as hex. */
void keyring_hash(const struct keyring *k, struct str secret, char out[65]);
const uint8_t *keyring_sign_key(const struct keyring *k); /* 32 bytes */
/* XChaCha20-Poly1305 with 'bound_to' as associated data; text "k1.<base64url>". */
const char *keyring_seal(const struct keyring *k, struct arena *a, struct str plain,
                         struct str bound_to);
int keyring_unseal(const struct keyring *k, struct arena *a, const char *sealed,
                   struct str bound_to, struct str *plain, struct err *e) _must_check_;
