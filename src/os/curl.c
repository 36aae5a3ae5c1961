/* SPDX-License-Identifier: Apache-2.0 */
/* The one place that opens libcurl, and its global state, which must be made once. */
#define CURL_ENGINE
#include "os/curl.h"

#include <pthread.h>

ENGINE_DEFINE(curl, "libcurl.so.4", CURL_FUNCTIONS);

static void global_init(void)
{
    if (curl_engine.curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        abort();
}

int curl_start(struct err *e)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    TRY(curl_open(e));
    pthread_once(&once, global_init);
    return 0;
}
