/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Bytes as files below one folder: each written once, whole and durable under an id of its own, and
 * never changed.  Knows no rows; who does (core/rows/blobs.c) keeps this order, by which a kill at
 * any moment, or a power cut, loses nothing:
 *
 *   1. The bytes are written where no name leads to them, and synced; then the file is new/<id>,
 *      durably.  Who made it holds a lock (flock) on it.
 *   2. The row that names it commits; then the lock is let go.
 *   3. Without its lock a file in new/ whose row is there moves to ab/cd/<id> (the last digits of
 *      the id, which are random); one without a row was never anybody's, and goes.
 *
 * A file that has moved goes only when its row says that it was dropped.  So a store that was
 * restored from a backup, and knows fewer files than are here, loses none of them.
 *
 * Several processes may share the folder, if its file system has flock(2) among them. */

#include <sys/types.h>

#include "base/base.h"
#include "base/clock.h"

struct blobs;
/* Makes 'dir' where it is missing. */
struct blobs *blobs_new(const char *dir, struct clock *clock, struct err *e);
void blobs_free(struct blobs *b);
DEFINE_CLEANUP(struct blobs *, blobs_free)

/* ---- writing */

enum { BLOB_SHA256 = 1, BLOB_MD5 = 2 };
struct blob_sums {
    char sha256[65], md5[33]; /* hex; "" where it was not asked for */
};

struct blob_new;
/* 'sums' are taken as the bytes come. */
struct blob_new *blob_begin(struct blobs *b, unsigned sums, struct err *e);
/* ERR_NO_SPACE also while the disk has a little left, in bytes or files: the store and the
 * instances have to go on. */
int blob_append(struct blob_new *n, const void *p, size_t size, struct err *e) _must_check_;
int64_t blob_size(const struct blob_new *n);
/* What has been appended, at a place. */
ssize_t blob_read(const struct blob_new *n, void *p, size_t size, int64_t at, struct err *e);
/* Step 1: durable under 'id' when this returns.  Once. */
int blob_link(struct blob_new *n, struct uuid *id, struct blob_sums *sums,
              struct err *e) _must_check_;
/* Lets go of it: what was not linked is gone. */
void blob_new_free(struct blob_new *n);
DEFINE_CLEANUP(struct blob_new *, blob_new_free)

/* ---- what is there */

/* For reading: a descriptor, or -1, ERR_NOT_FOUND if there is none. */
int blob_fd(struct blobs *b, const struct uuid *id, struct err *e);
/* The file goes, for its row says so; one that is not there is fine. */
int blob_unlink(struct blobs *b, const struct uuid *id, struct err *e) _must_check_;
/* Step 3 for at most 'most' files of new/: 'wanted' says whether a row is there (1, 0; -1: it
 * cannot be told, and all stays).  The number that was looked at, or -1. */
int blobs_settle(struct blobs *b, int most,
                 int (*wanted)(void *ctx, const struct uuid *id, struct err *e), void *ctx,
                 struct err *e);
/* Whether something was linked since it was asked last. */
bool blobs_moved(struct blobs *b);
