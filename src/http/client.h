/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* HTTP client over libcurl: blocking, bounded, no redirects.  For addresses that the operator or
 * the user of the command line named; a tenant's URL goes by http/outgoing.h. */

#include "base/base.h"
#include "base/buf.h"

struct client_header {
    const char *name, *value;
};
struct client_request {
    const char *method, *url;
    const struct client_header *headers;
    size_t n_headers;
    struct str body;         /* sent when .p is not NULL */
    int upload_fd;           /* > 0: body is this file */
    int64_t timeout;         /* microseconds, 0: 30 s; < 0: none (streams) */
    size_t max_body;         /* of the answer; 0: 16 MiB */
    const char *ca_file;     /* NULL: the system's */
    const char *unix_socket; /* NULL: TCP */
    /* Streams the answer's body instead of keeping it; -1 ends. */
    int (*on_data)(void *ctx, struct str data);
    void *ctx;
};
struct client_response {
    int status;
    struct str body;
    struct client_header *headers; /* names in lower case */
    size_t n_headers;
    char reason[128]; /* what failed */
};
int client_do(struct arena *a, const struct client_request *q, struct client_response *out,
              struct err *e);
const char *client_header(const struct client_response *r, const char *name);
