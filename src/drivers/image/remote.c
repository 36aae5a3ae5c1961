/* SPDX-License-Identifier: Apache-2.0 */
/* The image store of a host behind a socket, over the connection that its compute orders use. */
#include "drivers/compute/remote.h"
#include "drivers/compute/remote_call.h"
#include "drivers/image/image.h"

struct remote_store {
    struct image_store base;
    struct compute *host;
};

struct answer_rows {
    struct arena *a;
    struct image_state *at;
    size_t n, cap;
};

static struct compute *host_of(struct image_store *s)
{
    return ((struct remote_store *)(void *)s)->host;
}

static int take_rows(void *ctx, const struct json_value *json, _unused_ struct str bytes,
                     struct err *e)
{
    struct answer_rows *r = ctx;
    bool many = json && json_type_of(json) == JSON_ARR;
    size_t n = many ? json_len(json) : 1;

    if (!json)
        return err_set(e, ERR_ENGINE_UNAVAILABLE, "the agent's answer is malformed");
    for (size_t i = 0; i < n; i++) {
        r->at = arena_more(r->a, r->at, r->n, &r->cap, sizeof(*r->at));
        TRY(json_load_row(r->a, &image_state_record, many ? json_at(json, i) : json, &r->at[r->n],
                          e));
        r->n++;
    }
    return 0;
}

static struct json_out begin(struct buf *b, const char *order, const char *name)
{
    struct json_out o = JSON_OUT(b);

    json_open(&o, '{');
    json_kstr(&o, "order", order);
    if (name)
        json_kstr(&o, "name", name);
    return o;
}

/* Sends it; one row is expected if 'out'. */
static int finish(struct image_store *s, struct json_out *o, struct answer_rows *r, int64_t timeout,
                  struct remote_order *order, struct image_state *out, struct err *e)
{
    order->json = o->b;
    order->timeout = timeout;
    order->answer = r ? take_rows : NULL;
    order->ctx = r;
    json_close(o);
    int done = json_done(o) < 0 ? err_set(e, ERR_TOO_LARGE, "the order is too large")
                                : remote_do(host_of(s), order, e);
    buf_free(o->b);
    if (done == 0 && out && r->n != 1)
        return err_set(e, ERR_ENGINE_UNAVAILABLE, "the agent's answer is malformed");
    if (done == 0 && out)
        *out = r->at[0];
    return done;
}

static int remote_ensure(struct image_store *s, struct arena *a, const char *name,
                         const char *share, bool again, struct image_state *out, struct err *e)
{
    struct buf b = BUF(KIB(16));
    struct json_out o = begin(&b, "image_ensure", name);
    struct answer_rows r = { .a = a };
    struct remote_order order = { 0 };

    if (share)
        json_kstr(&o, "share", share);
    json_kbool(&o, "again", again);
    return finish(s, &o, &r, SECONDS(30), &order, out, e);
}

static int remote_inspect(struct image_store *s, struct arena *a, const char *name,
                          struct image_state *out, struct err *e)
{
    struct buf b = BUF(KIB(16));
    struct json_out o = begin(&b, "image_inspect", name);
    struct answer_rows r = { .a = a };
    struct remote_order order = { 0 };

    return finish(s, &o, &r, SECONDS(30), &order, out, e);
}

static int remote_list(struct image_store *s, struct arena *a, struct image_state **out, size_t *n,
                       struct err *e)
{
    struct buf b = BUF(KIB(16));
    struct json_out o = begin(&b, "image_list", NULL);
    struct answer_rows r = { .a = a };
    struct remote_order order = { 0 };

    TRY(finish(s, &o, &r, SECONDS(30), &order, NULL, e));
    *out = r.at;
    *n = r.n;
    return 0;
}

static int remote_import(struct image_store *s, struct arena *a, const char *name,
                         enum image_format f, const char *config,
                         ssize_t (*read)(void *ctx, void *p, size_t n, struct err *e), void *ctx,
                         struct image_state *out, struct err *e)
{
    struct buf b = BUF(MIB(1));
    struct json_out o = begin(&b, "image_import", name);
    struct answer_rows r = { .a = a };
    struct remote_order order = { .read = read, .read_ctx = ctx };

    json_kstr(&o, "format", f == IMAGE_ROOTFS_TAR ? "rootfs_tar" : "oci_archive");
    if (config)
        json_kstr(&o, "config", config);
    return finish(s, &o, &r, SECONDS(600), &order, out, e);
}

static int remote_remove(struct image_store *s, const char *name, struct err *e)
{
    struct buf b = BUF(KIB(16));
    struct json_out o = begin(&b, "image_remove", name);
    struct remote_order order = { 0 };

    return finish(s, &o, NULL, SECONDS(120), &order, NULL, e);
}

static void remote_free(struct image_store *s)
{
    free(s);
}

static const struct image_class remote_class = {
    .name = "remote",
    .ensure = remote_ensure,
    .inspect = remote_inspect,
    .list = remote_list,
    .import = remote_import,
    .remove = remote_remove,
    .free = remote_free,
};

struct image_store *image_remote(struct compute *remote)
{
    struct remote_store *s = calloc(1, sizeof(*s));

    if (!s)
        abort();
    s->base.class = &remote_class;
    s->host = remote;
    return &s->base;
}
