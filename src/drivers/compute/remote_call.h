/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One order to an agent: what compute/remote.c and image/remote.c share. */

#include "drivers/compute/compute.h"
#include "drivers/compute/protocol.h"

/* A frame of the answer: 'json' or 'bytes'.  -1 ends the order; with e->code 0 that is no error. */
typedef int remote_answer_fn(void *ctx, const struct json_value *json, struct str bytes,
                             struct err *e);
struct remote_order {
    struct buf *json; /* the order: {"order":"…",…} */
    int64_t timeout;  /* for the next frame of the answer; < 0: never */
    int64_t needs;    /* version of the agent that knows all of it; 0: any.  An older one does not
                         get it (ERR_ENGINE_UNAVAILABLE) */
    /* What to send after it, or NULL: 0 at its end, -1 on error. */
    ssize_t (*read)(void *ctx, void *p, size_t n, struct err *e);
    void *read_ctx;
    remote_answer_fn *answer;
    void *ctx;
    /* Asked about twice a second while nothing comes: true cancels the order.  May be NULL. */
    bool (*gone)(void *ctx);
    void *gone_ctx;
};
int remote_do(struct compute *remote, const struct remote_order *o, struct err *e);
/* An order's first members; 'timeout' <= 0: none. */
struct json_out remote_begin(struct buf *b, const char *order, int64_t timeout);

/* ---- remote_exec.c */
int remote_exec(struct compute *h, struct arena *a, const struct uuid *id,
                const struct compute_exec *x, struct compute_exec_result *out, struct err *e);
int remote_probe(struct compute *h, struct arena *a, const struct uuid *id,
                 const struct compute_probe *p, const char **fault, struct err *e);
