/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* libcurl, opened when first needed: curl_start() before anything else of it. */

#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>
#undef curl_easy_setopt
#undef curl_easy_getinfo

#include "os/engine.h"

/* clang-format off */
#define CURL_FUNCTIONS(F) F(curl_global_init) F(curl_easy_init) F(curl_easy_cleanup) F(curl_easy_setopt) \
    F(curl_easy_getinfo) F(curl_easy_perform) F(curl_easy_strerror) F(curl_slist_append) F(curl_slist_free_all)
/* clang-format on */
ENGINE_DECLARE(curl, CURL_FUNCTIONS);
/* Ready for any thread. */
int curl_start(struct err *e);

#ifndef CURL_ENGINE
#    define curl_global_init    curl_engine.curl_global_init
#    define curl_easy_init      curl_engine.curl_easy_init
#    define curl_easy_cleanup   curl_engine.curl_easy_cleanup
#    define curl_easy_setopt    curl_engine.curl_easy_setopt
#    define curl_easy_getinfo   curl_engine.curl_easy_getinfo
#    define curl_easy_perform   curl_engine.curl_easy_perform
#    define curl_easy_strerror  curl_engine.curl_easy_strerror
#    define curl_slist_append   curl_engine.curl_slist_append
#    define curl_slist_free_all curl_engine.curl_slist_free_all
#endif
