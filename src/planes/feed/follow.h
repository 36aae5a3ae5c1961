/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The edge's end of the feed (contracts 6): follows the api at its socket, and keeps the last feed
 * in a file, so that all that stands on it works at once after a start, and while the api is away.
 *
 * The file is a snapshot and the changes since, as they came; a snapshot replaces it whole.  When
 * the changes have grown larger than it twice, the api is asked for another by coming anew. */

#include <sys/types.h>

#include "planes/feed/take.h"

struct follow;
struct follow_opts {
    const char *socket_path;
    const char *installation; /* 8 hex */
    uid_t api_uid;            /* who may feed us, beside root */
    int dir;                  /* the folder of the file "feed"; the caller's, outlives this */
    const struct feed_sink *sinks;
    size_t n_sinks;
};
/* Gives the sinks what the file has, then follows on a thread of its own: they are called from
 * that. */
struct follow *follow_new(const struct follow_opts *o);
void follow_free(struct follow *f);
DEFINE_CLEANUP(struct follow *, follow_free)
