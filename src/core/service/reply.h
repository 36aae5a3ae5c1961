/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Answers, raw bodies. */

#include "core/service/call.h"

/* ---- answers: exactly one before returning 0 */

int reply_row(struct call *c, const struct record *r,
              const void *row); /* with ETag where revisioned */
int reply_rows(struct call *c, const struct record *r, const struct rows *rows); /* a whole list */
/* A page of a list: 'next' is the cursor to go on from, or NULL. */
int reply_page(struct call *c, const struct record *r, const struct rows *rows, const char *next);
int reply_json(struct call *c);                         /* what was written to c->out */
int reply_message(struct call *c, const char *fmt, ...) /* {"message":…} */
    __attribute__((format(printf, 2, 3)));
/* 204 on the platform surface, 200 {"message":…} on the classic one. */
int reply_deleted(struct call *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void reply_status(struct call *c, int status); /* instead of the route's */
/* Of the answer that comes, an error too: what a handler sets before it fails goes out with that,
 * but for what belonged to an answer it had given. */
void reply_header(struct call *c, const char *name, const char *value);

/* What is known of bytes that are there whole. */
struct bytes_known {
    const char *type; /* media type; NULL: the route's .produces */
    const char *etag; /* of these bytes and no others, such as their digest; without quotes */
    int64_t modified; /* microseconds since the epoch; 0: not known */
    const char *name; /* of a download's file, of letters, digits, '.', '_' and '-'; or NULL */
};
/* Answers of routes with .bytes: all of it, or by the request's conditions and its Range a part
 * (206), nothing (304), or -1 with 412 or 416 (RFC 9110 13.2.2, 14; codec/partial.h).  Of several
 * ranges the whole.  The bytes are copied; the file is taken, also on failure, and goes out as the
 * peer takes it, with no thread held: who reads slowly holds one of his tenant's downloads. */
int reply_bytes(struct call *c, const struct bytes_known *k, struct str bytes,
                struct err *e) _must_check_;
int reply_file(struct call *c, const struct bytes_known *k, int fd, int64_t size,
               struct err *e) _must_check_;

/* Raw bodies (BODY_RAW, LONG), which have come whole before the handler runs: 0 at the end.  They
 * are read to their end before the handler replies
 * in its last call_write(): a key's record says which body it was for. */
ssize_t body_read(struct call *c, void *p, size_t n, struct err *e);
/* Reads what is left of it and lets that go. */
int body_end(struct call *c, struct err *e) _must_check_;
