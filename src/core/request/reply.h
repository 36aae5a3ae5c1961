/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What goes out: answers and errors as their bytes (reply.c), and their sending (send.c). */

#include "base/buf.h"
#include "core/service.h"
#include "http/server.h"

struct app;
struct call_private;
struct faults;

enum { PAGE_BYTES = 16 << 20 }; /* a page that has grown past it ends, and says where it goes on */

struct reply_header {
    struct reply_header *next;
    const char *name, *value;
};

bool has_header(const struct call_private *p, const char *name);
void secure_header(struct app *app, struct http_req *r); /* Strict-Transport-Security */
void answer_begin(struct call_private *p, const char *content_type);
/* A list as it comes, row by row. */
struct page {
    size_t from; /* where its rows begin, for the tag */
};
void page_open(struct call *c, struct page *page);
void page_rows(struct call *c, const struct record *r, const struct rows *rows);
/* 'next' is the cursor after it, or NULL. */
int page_close(struct call *c, const struct page *page, const char *next);
void reply_error(struct call_private *p, const struct err *e); /* fills the answer */
/* The headers that every answer has; counts it, and gives back what it held. */
void reply_headers(struct call_private *p, int64_t micros, bool vary_coding);
/* No longer one of its credential's requests at once: true if it was. */
bool leave_crowd(struct call_private *p);
void reply_account(struct call_private *p, int64_t micros);
void reply_send(struct call_private *p); /* sends it; 'p' is gone afterwards */
/* 'details' NULL: what is to be said of the code in general. */
void error_body(struct buf *b, const struct err *e, const struct faults *f, const char *request_id,
                bool problem, const char *path, const char *details);
/* True if the client's If-None-Match has 'tag' (weak comparison). */
bool etag_matches(struct str header, const char *tag);
const char *etag_of(struct arena *a, const struct uuid *id, int64_t revision);
