/* SPDX-License-Identifier: Apache-2.0 */
/* The one place that opens OpenSSL. */
#define OPENSSL_ENGINE
#include "os/openssl.h"

ENGINE_DEFINE(crypto, "libcrypto.so.3", CRYPTO_FUNCTIONS);
ENGINE_DEFINE(ssl, "libssl.so.3", SSL_FUNCTIONS);
