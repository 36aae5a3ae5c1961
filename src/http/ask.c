/* SPDX-License-Identifier: Apache-2.0 */
/* Hides curl's many ways to do more than was asked. */
#include "http/ask.h"

void ask_defaults(CURL *c)
{
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(c, CURLOPT_PROXY, "");
    curl_easy_setopt(c, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L);
}

static void append(struct curl_slist **list, const char *name, const char *between,
                   const char *value)
{
    char *line = NULL;

    if (asprintf(&line, "%s%s%s", name, between, value) < 0)
        abort();
    struct curl_slist *more = curl_slist_append(*list, line);
    if (!more)
        abort();
    *list = more;
    free(line);
}

void ask_header(struct curl_slist **list, const char *name, const char *value)
{
    /* curl takes "Name:" for the wish to leave it out; a name with ';' sends it empty. */
    append(list, name, value[0] ? ": " : ";", value);
}

void ask_without(struct curl_slist **list, const char *name)
{
    append(list, name, ":", "");
}
