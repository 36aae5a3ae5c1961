/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* HTTP/1.1 messages (RFC 9110, RFC 9112), strictly: a pure function over a buffer, no allocation.
 * Refused: duplicate, signed or huge Content-Length, CL with TE, TE that is not exactly "chunked",
 * obs-fold, bare LF, bare CR, NUL, space before the colon, missing or double Host, bad chunk sizes.
 */

#include "base/base.h"

/* Also the words of route tables. */
enum method { METHOD_NONE, GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, METHOD_OTHER };
const char *method_name(enum method m);
enum method method_parse(struct str s);

enum { HTTP_MAX_HEADERS = 64 };

struct http_header {
    struct str name, value; /* value without surrounding space */
};

struct http_head {
    enum method method;
    struct str method_text;
    struct str target; /* origin-form, or the path and query of an absolute-form; "*" for OPTIONS */
    struct str path, query; /* split at the first '?'; raw */
    struct str host;
    int minor; /* HTTP/1.minor: 0 or 1 */
    struct http_header headers[HTTP_MAX_HEADERS];
    size_t n_headers;
    int64_t content_length; /* -1: none */
    bool chunked;
    bool keep_alive;
    bool expect_continue;
    bool upgrade_websocket;
    size_t size; /* bytes of the head with its empty line */
};

enum http1_result { HTTP1_OK, HTTP1_MORE, HTTP1_BAD };

/* 'p' may hold more than a head.  HTTP1_BAD fills *e with the status the client gets (400, 414,
 * 431, 505, 501); '*not_http' is true if the first line is no HTTP at all (bare 400, then close).
 */
enum http1_result http1_parse(struct str p, size_t max_head, size_t max_path, struct http_head *out,
                              bool *not_http, struct err *e);
/* First header of that name (lower case given), or { NULL, 0 }. */
struct str http1_header(const struct http_head *h, const char *name);
/* How many of that name. */
size_t http1_header_count(const struct http_head *h, const char *name);

/* Chunked bodies (RFC 9112 7.1), fed as bytes come.  Extensions are read by their grammar (7.1.1)
 * and passed over.  Trailers are checked as fields are, and thrown away; one that frames, routes,
 * authenticates or describes a message is refused (RFC 9110 6.5.1), for whoever merges it into the
 * head sees another request. */
struct http1_chunked {
    uint64_t left; /* of the present chunk */
    uint16_t line; /* bytes of the present size line or trailer section */
    uint8_t state;
    uint8_t
        name_n; /* of the present trailer's name, in lower case; over sizeof(name): no known one */
    char name[20];
};
/* Consumes from 'in' (*used says how much); hands out at most one run of data a call in *data.
 * HTTP1_OK: the body has ended.  HTTP1_MORE: call again, with more bytes if *used was all. */
enum http1_result http1_chunked(struct http1_chunked *c, struct str in, size_t *used,
                                struct str *data, struct err *e);
