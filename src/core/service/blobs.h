/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Blobs: bytes that are kept as files (exports, logs of builds, objects).  A service's row names
 * one by its id.  No row names bytes that are not there: they are durable before the row commits;
 * and bytes that no row names go, whatever was killed when.  Their order: core/blob/blob.h. */

#include "core/blob/blob.h"
#include "core/service/call.h"
#include "core/service/reply.h"

struct kept_blob {
    struct uuid id;
    int64_t size;
    struct blob_sums sums;
    int64_t created_at;
};

/* LONG routes with BODY_RAW: the body itself, which has been read to its end, as a blob with the
 * sums of the route's .sums; no byte is written twice.  Before a call_write() that keeps it. */
int body_blob(struct call *c, struct kept_blob *out, struct err *e) _must_check_;
/* For bytes that a handler or a visit makes: blob_begin(app_blobs(app), …), blob_append(), then
 * this, a transaction that keeps it, and blob_new_free().  Blocks for the disk. */
struct blobs *app_blobs(struct app *app);
int blob_done(struct blob_new *n, struct kept_blob *out, struct err *e) _must_check_;

/* In a transaction: a row of the tenant names it from now on, and its bytes are taken of 'q'. */
int blob_keep(struct call *c, const struct kept_blob *b, const struct quota *q,
              struct err *e) _must_check_;
/* In a transaction: no row names it any more; its bytes are given back, its file goes after the
 * commit.  Who reads it at that moment reads it to its end. */
int blob_drop(struct call *c, const struct uuid *id, const struct quota *q,
              struct err *e) _must_check_;
/* The tenant's: its file, and what is known of it.  409 where a restored store names bytes that
 * went after its backup was made. */
int blob_open(struct call *c, const struct uuid *id, struct kept_blob *out, int *fd,
              struct err *e) _must_check_;
/* Answers it (reply_file()): its ETag is its SHA-256, else its id. */
int reply_blob(struct call *c, const struct uuid *id, const struct bytes_known *k,
               struct err *e) _must_check_;
