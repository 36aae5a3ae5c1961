/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* libcurl, opened when first needed: curl_start() before anything else of it. */

#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>
#undef curl_easy_setopt
#undef curl_easy_getinfo
#undef curl_multi_setopt
#undef curl_share_setopt

#include "os/engine.h"

/* clang-format off */
#define CURL_FUNCTIONS(F) F(curl_global_init) F(curl_easy_init) F(curl_easy_cleanup) F(curl_easy_setopt) \
    F(curl_easy_getinfo) F(curl_easy_perform) F(curl_easy_strerror) F(curl_slist_append) F(curl_slist_free_all) \
    F(curl_multi_init) F(curl_multi_cleanup) F(curl_multi_setopt) F(curl_multi_add_handle) \
    F(curl_multi_remove_handle) F(curl_multi_socket_action) \
    F(curl_multi_info_read) F(curl_share_init) F(curl_share_setopt) F(curl_share_cleanup) \
    F(curl_url) F(curl_url_cleanup) F(curl_url_get) F(curl_url_set) F(curl_free)
/* clang-format on */
ENGINE_DECLARE(curl, CURL_FUNCTIONS);
/* Ready for any thread. */
int curl_start(struct err *e);

#ifndef CURL_ENGINE
#    define curl_global_init         curl_engine.curl_global_init
#    define curl_easy_init           curl_engine.curl_easy_init
#    define curl_easy_cleanup        curl_engine.curl_easy_cleanup
#    define curl_easy_setopt         curl_engine.curl_easy_setopt
#    define curl_easy_getinfo        curl_engine.curl_easy_getinfo
#    define curl_easy_perform        curl_engine.curl_easy_perform
#    define curl_easy_strerror       curl_engine.curl_easy_strerror
#    define curl_slist_append        curl_engine.curl_slist_append
#    define curl_slist_free_all      curl_engine.curl_slist_free_all
#    define curl_multi_init          curl_engine.curl_multi_init
#    define curl_multi_cleanup       curl_engine.curl_multi_cleanup
#    define curl_multi_setopt        curl_engine.curl_multi_setopt
#    define curl_multi_add_handle    curl_engine.curl_multi_add_handle
#    define curl_multi_remove_handle curl_engine.curl_multi_remove_handle
#    define curl_multi_socket_action curl_engine.curl_multi_socket_action
#    define curl_multi_info_read     curl_engine.curl_multi_info_read
#    define curl_share_init          curl_engine.curl_share_init
#    define curl_share_setopt        curl_engine.curl_share_setopt
#    define curl_share_cleanup       curl_engine.curl_share_cleanup
#    define curl_url                 curl_engine.curl_url
#    define curl_url_cleanup         curl_engine.curl_url_cleanup
#    define curl_url_get             curl_engine.curl_url_get
#    define curl_url_set             curl_engine.curl_url_set
#    define curl_free                curl_engine.curl_free
#endif
