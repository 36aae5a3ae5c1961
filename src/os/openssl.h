/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* OpenSSL, opened when first needed: crypto_open() before anything of libcrypto, ssl_open() of
 * libssl.
 */

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "os/engine.h"

/* clang-format off */
#define CRYPTO_FUNCTIONS(F) F(EVP_MD_CTX_new) F(EVP_MD_CTX_free) F(EVP_DigestInit_ex) \
    F(EVP_DigestUpdate) F(EVP_DigestFinal_ex) F(EVP_md5) F(EVP_sha1) F(EVP_sha256) F(ERR_clear_error) \
    F(ERR_peek_error) F(ERR_reason_error_string) F(BIO_ctrl) F(ASN1_TIME_diff) \
    F(X509_get0_notAfter)
#define SSL_FUNCTIONS(F) F(SSL_CTX_new) F(SSL_CTX_free) F(SSL_CTX_ctrl) F(SSL_CTX_set_options) \
    F(SSL_CTX_set_cipher_list) F(SSL_CTX_set_alpn_select_cb) F(SSL_CTX_set_default_passwd_cb) \
    F(SSL_CTX_set_default_passwd_cb_userdata) F(SSL_CTX_use_certificate_chain_file) \
    F(SSL_CTX_use_PrivateKey_file) F(SSL_CTX_check_private_key) F(SSL_CTX_get0_certificate) \
    F(SSL_new) F(SSL_free) F(SSL_set_fd) F(SSL_set_accept_state) F(SSL_is_init_finished) \
    F(SSL_get_error) F(SSL_get_wbio) F(SSL_read) F(SSL_write) F(SSL_sendfile) F(SSL_shutdown) \
    F(SSL_select_next_proto) F(TLS_server_method)
/* clang-format on */
ENGINE_DECLARE(crypto, CRYPTO_FUNCTIONS);
ENGINE_DECLARE(ssl, SSL_FUNCTIONS);

#ifndef OPENSSL_ENGINE
#    define EVP_MD_CTX_new                         crypto_engine.EVP_MD_CTX_new
#    define EVP_MD_CTX_free                        crypto_engine.EVP_MD_CTX_free
#    define EVP_DigestInit_ex                      crypto_engine.EVP_DigestInit_ex
#    define EVP_DigestUpdate                       crypto_engine.EVP_DigestUpdate
#    define EVP_DigestFinal_ex                     crypto_engine.EVP_DigestFinal_ex
#    define EVP_md5                                crypto_engine.EVP_md5
#    define EVP_sha1                               crypto_engine.EVP_sha1
#    define EVP_sha256                             crypto_engine.EVP_sha256
#    define ERR_clear_error                        crypto_engine.ERR_clear_error
#    define ERR_peek_error                         crypto_engine.ERR_peek_error
#    define ERR_reason_error_string                crypto_engine.ERR_reason_error_string
#    define BIO_ctrl                               crypto_engine.BIO_ctrl
#    define ASN1_TIME_diff                         crypto_engine.ASN1_TIME_diff
#    define X509_get0_notAfter                     crypto_engine.X509_get0_notAfter
#    define SSL_CTX_new                            ssl_engine.SSL_CTX_new
#    define SSL_CTX_free                           ssl_engine.SSL_CTX_free
#    define SSL_CTX_ctrl                           ssl_engine.SSL_CTX_ctrl
#    define SSL_CTX_set_options                    ssl_engine.SSL_CTX_set_options
#    define SSL_CTX_set_cipher_list                ssl_engine.SSL_CTX_set_cipher_list
#    define SSL_CTX_set_alpn_select_cb             ssl_engine.SSL_CTX_set_alpn_select_cb
#    define SSL_CTX_set_default_passwd_cb          ssl_engine.SSL_CTX_set_default_passwd_cb
#    define SSL_CTX_set_default_passwd_cb_userdata ssl_engine.SSL_CTX_set_default_passwd_cb_userdata
#    define SSL_CTX_use_certificate_chain_file     ssl_engine.SSL_CTX_use_certificate_chain_file
#    define SSL_CTX_use_PrivateKey_file            ssl_engine.SSL_CTX_use_PrivateKey_file
#    define SSL_CTX_check_private_key              ssl_engine.SSL_CTX_check_private_key
#    define SSL_CTX_get0_certificate               ssl_engine.SSL_CTX_get0_certificate
#    define SSL_new                                ssl_engine.SSL_new
#    define SSL_free                               ssl_engine.SSL_free
#    define SSL_set_fd                             ssl_engine.SSL_set_fd
#    define SSL_set_accept_state                   ssl_engine.SSL_set_accept_state
#    define SSL_is_init_finished                   ssl_engine.SSL_is_init_finished
#    define SSL_get_error                          ssl_engine.SSL_get_error
#    define SSL_get_wbio                           ssl_engine.SSL_get_wbio
#    define SSL_read                               ssl_engine.SSL_read
#    define SSL_write                              ssl_engine.SSL_write
#    define SSL_sendfile                           ssl_engine.SSL_sendfile
#    define SSL_shutdown                           ssl_engine.SSL_shutdown
#    define SSL_select_next_proto                  ssl_engine.SSL_select_next_proto
#    define TLS_server_method                      ssl_engine.TLS_server_method
#endif
