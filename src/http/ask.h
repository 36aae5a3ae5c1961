/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What every request that leaves by libcurl has in common (client.h, outgoing.h). */

#include "os/curl.h"

/* No redirects, no proxy or credentials of the environment, no protocol but HTTP/1.1, no signal. */
void ask_defaults(CURL *c);
/* Adds "name: value" to '*list', also where the value is empty.  Neither may have a line end. */
void ask_header(struct curl_slist **list, const char *name, const char *value);
/* Leaves out a header that curl would send by itself. */
void ask_without(struct curl_slist **list, const char *name);
