/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A certificate of our own for 127.0.0.1, that nobody trusts: 'cert' and 'key' are its files
 * between make_certificate() and remove_certificate(), a group's set-up and tear-down. */

#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "tests/http/peer.h"

static char cert_dir[] = "/tmp/brume-tls-XXXXXX";
static char cert[64], key[64];

static inline int make_certificate(void **state _unused_)
{
    EVP_PKEY *pkey = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    FILE *f;

    assert_non_null(mkdtemp(cert_dir));
    snprintf(cert, sizeof(cert), "%s/cert.pem", cert_dir);
    snprintf(key, sizeof(key), "%s/key.pem", cert_dir);
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), 86400);
    X509_set_pubkey(x, pkey);
    X509_NAME *name = X509_get_subject_name(x);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)"localhost", -1, -1, 0);
    X509_set_issuer_name(x, name);
    X509_EXTENSION *san = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "IP:127.0.0.1");
    X509_add_ext(x, san, -1);
    X509_EXTENSION_free(san);
    assert_true(X509_sign(x, pkey, EVP_sha256()) > 0);
    f = fopen(cert, "we");
    PEM_write_X509(f, x);
    fclose(f);
    f = fopen(key, "we");
    PEM_write_PrivateKey(f, pkey, NULL, NULL, 0, NULL, NULL);
    fclose(f);
    X509_free(x);
    EVP_PKEY_free(pkey);
    return 0;
}

static inline int remove_certificate(void **state _unused_)
{
    unlink(cert);
    unlink(key);
    rmdir(cert_dir);
    return 0;
}
