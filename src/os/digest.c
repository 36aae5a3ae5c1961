/* SPDX-License-Identifier: Apache-2.0 */
#include "os/digest.h"

#include <stdlib.h>

#include "os/openssl.h"

/* What a digest is, is libcrypto's. */
static EVP_MD_CTX *ctx(struct digest *d)
{
    return (EVP_MD_CTX *)(void *)d;
}

struct digest *digest_new(enum digest_kind kind, struct err *e)
{
    if (crypto_open(e) < 0)
        return NULL;
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    const EVP_MD *md = kind == DIGEST_MD5    ? EVP_md5()
                       : kind == DIGEST_SHA1 ? EVP_sha1()
                                             : EVP_sha256();
    if (!c || EVP_DigestInit_ex(c, md, NULL) != 1)
        abort();
    return (struct digest *)(void *)c;
}

void digest_free(struct digest *d)
{
    if (d)
        EVP_MD_CTX_free(ctx(d));
}

void digest_add(struct digest *d, const void *p, size_t n)
{
    if (EVP_DigestUpdate(ctx(d), p, n) != 1)
        abort();
}

size_t digest_end(struct digest *d, uint8_t out[DIGEST_MAX])
{
    unsigned n = 0;

    if (EVP_DigestFinal_ex(ctx(d), out, &n) != 1)
        abort();
    return n;
}
