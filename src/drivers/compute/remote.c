/* SPDX-License-Identifier: Apache-2.0 */
/* A host that is an agent behind a socket.  Hides the connection: who needs it makes it, one thread
 * reads it, and a broken one is replaced by the next order, not more often than the back-off
 * allows. */
#include "drivers/compute/remote.h"

#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "drivers/compute/remote_call.h"
#include "os/thread.h"
#include "os/unixsock.h"

static const int64_t GONE_LOOK = MILLIS(500);

struct remote {
    struct compute base;
    char *path, *installation;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    struct link *link; /* NULL: none yet, or broken */
    uint32_t next;     /* stream */
    int64_t not_before, backoff;
    int readers; /* threads */
    bool closing;
    pthread_mutex_t watch_lock;
    struct stream *watch;
};

struct reader {
    struct remote *r;
    struct link *link;
};

static struct remote *remote_of(struct compute *h)
{
    return (struct remote *)(void *)h;
}

/* ---- the connection ---- */

static void *read_link(void *ctx)
{
    struct reader *d = ctx;
    struct remote *r = d->r;
    struct link *l = d->link;
    struct message *m;
    struct err e = { 0 };

    free(d);
    while ((m = link_receive(l, &e))) {
        int done = link_deliver(l, m, &e);
        if (done == 1)
            free(m); /* for an order that nobody waits for any more */
        if (done < 0)
            break;
    }
    link_break(l);
    pthread_mutex_lock(&r->lock);
    bool ours = r->link == l;
    if (ours)
        r->link = NULL;
    if (!r->closing)
        log_err(LOG_WARN, "agent_connection_lost", &e);
    r->readers--;
    pthread_cond_broadcast(&r->cond);
    pthread_mutex_unlock(&r->lock);
    if (ours)
        link_unref(l);
    link_unref(l);
    return NULL;
}

static struct link *connect_link(struct remote *r, struct err *e)
{
    int fd = unix_connect(r->path, UNIX_STREAM, e);

    if (fd < 0)
        return NULL;
    struct link *l = link_new(fd, "agent");
    l->orderer = true;
    if (link_greet(l, r->installation, e) == 0)
        return l;
    link_unref(l);
    return NULL;
}

/* Under r->lock: a new link and the thread that reads it. */
static int reconnect(struct remote *r, struct err *e)
{
    int64_t now = clock_mono(clock_system());
    struct err why = { 0 };

    if (now < r->not_before)
        return err_set(e, ERR_ENGINE_UNAVAILABLE, "the agent is not running");
    struct link *l = connect_link(r, &why);
    if (!l) {
        r->backoff = MIN(MAX(r->backoff * 2, MILLIS(20)), SECONDS(2));
        r->not_before = clock_mono(clock_system()) + r->backoff;
        if (why.code == ERR_FORBIDDEN || why.code == ERR_UNSUPPORTED_VERSION) {
            *e = why;
            e->code = ERR_ENGINE_UNAVAILABLE;
            return -1;
        }
        return err_cause(e, ERR_ENGINE_UNAVAILABLE, why.cause[0] ? why.cause : why.msg,
                         "the agent is not running");
    }
    r->backoff = 0;
    r->link = l;
    struct reader *d = calloc(1, sizeof(*d));
    if (!d)
        abort();
    *d = (struct reader){ r, link_ref(l) };
    r->readers++;
    pthread_detach(thread_start("agent-link", read_link, d));
    return 0;
}

static struct stream *open_stream(struct remote *r, struct err *e)
{
    struct stream *s = NULL;

    pthread_mutex_lock(&r->lock);
    if (r->link && link_broken(r->link)) {
        link_unref(r->link);
        r->link = NULL;
    }
    if (r->closing) {
        err_set(e, ERR_ENGINE_UNAVAILABLE, "the server is stopping");
    } else if (r->link || reconnect(r, e) == 0) {
        if (++r->next == 0)
            r->next = 1;
        s = stream_open(r->link, r->next);
        if (!s)
            err_set(e, link_broken(r->link) ? ERR_ENGINE_UNAVAILABLE : ERR_OVERLOADED,
                    "the agent takes no more orders now");
    }
    pthread_mutex_unlock(&r->lock);
    return s;
}

/* ---- one order ---- */

static int read_end(const struct message *m, struct err *e)
{
    struct err bad;
    _cleanup_(json_freep) struct json_value *v = json_parse((struct str){ m->p, m->n }, &bad);
    const struct json_value *failure = v ? json_get(v, "error") : NULL;

    if (!v)
        return err_set(e, ERR_ENGINE_UNAVAILABLE, "the agent's answer is malformed");
    if (!failure)
        return 0;
    const char *code = json_str_of(json_get(failure, "code"), NULL);
    const char *message = json_str_of(json_get(failure, "message"), NULL);
    const char *cause = json_str_of(json_get(failure, "cause"), NULL);
    return err_cause(e, err_from_wire(code), cause, "%s", message ? message : "");
}

static int give(const struct remote_order *o, const struct message *m, struct err *e)
{
    if (!o->answer)
        return 0;
    if (m->kind == FRAME_BYTES)
        return o->answer(o->ctx, NULL, (struct str){ m->p, m->n }, e);
    _cleanup_(json_freep) struct json_value *v = json_parse((struct str){ m->p, m->n }, e);
    return v ? o->answer(o->ctx, v, STR(""), e) : -1;
}

static int upload(struct stream *s, const struct remote_order *o, struct err *e)
{
    struct buf b = BUF(KIB(64));
    char *room = o->read ? buf_room(&b, KIB(64)) : NULL;
    ssize_t n = 0;
    int r = 0;

    while (r == 0 && room && (n = o->read(o->read_ctx, room, KIB(64), e)) > 0)
        r = stream_bytes(s, (struct str){ room, (size_t)n }, SECONDS(120), e);
    buf_free(&b);
    if (n < 0)
        return -1;
    if (r < 0) /* the agent has said why it does not read on, or is gone */
        return link_broken(s->link) ? -1 : 0;
    return o->read ? link_send(s->link, FRAME_END, s->id, STR("{}"), e) : 0;
}

/* As stream_next(); -2: nobody waits for it any more. */
static int next_or_gone(struct stream *s, const struct remote_order *o, struct message **m)
{
    int64_t until = clock_mono(clock_system()) + o->timeout;

    if (!o->gone)
        return stream_next(s, o->timeout, m);
    for (;;) {
        int64_t left = o->timeout < 0 ? GONE_LOOK : until - clock_mono(clock_system());
        int r = left > 0 ? stream_next(s, MIN(left, GONE_LOOK), m) : 0;

        if (r != 0 || left <= 0)
            return r;
        if (o->gone(o->gone_ctx))
            return -2;
    }
}

static int await(struct stream *s, const struct remote_order *o, struct err *e)
{
    struct message *m;

    for (;;) {
        int r = next_or_gone(s, o, &m);
        if (r == -2)
            return err_set(e, ERR_ENGINE_UNAVAILABLE, "it was ended, for nobody waits for it");
        if (r == 0)
            return err_set(e, ERR_ENGINE_UNAVAILABLE, "the agent does not answer in time");
        if (r < 0)
            return err_set(e, ERR_ENGINE_UNAVAILABLE, "lost contact with the agent");
        bool end = m->kind == FRAME_END;
        e->code = ERR_NONE;
        r = end ? read_end(m, e) : give(o, m, e);
        free(m);
        if (end || r < 0)
            return r;
    }
}

int remote_do(struct compute *h, const struct remote_order *o, struct err *e)
{
    struct stream *s = open_stream(remote_of(h), e);
    struct err ignored;

    if (!s)
        return -1;
    bool old = s->link->version < o->needs;
    int r = old ? err_set(e, ERR_ENGINE_UNAVAILABLE,
                          "the agent is of an older release, which does not know this order")
                : stream_order(s, o->json, e);
    if (r == 0)
        r = upload(s, o, e);
    if (r == 0)
        r = await(s, o, e);
    if (r < 0 && !old && !link_broken(s->link))
        (void)link_send(s->link, FRAME_CANCEL, s->id, STR(""), &ignored);
    stream_close(s);
    return r;
}

/* ---- the class ---- */

struct json_out remote_begin(struct buf *b, const char *order, int64_t timeout)
{
    struct json_out o = JSON_OUT(b);

    json_open(&o, '{');
    json_kstr(&o, "order", order);
    if (timeout > 0)
        json_kint(&o, "timeout_ms", timeout / 1000);
    return o;
}

struct got {
    struct arena *a;
    const struct record *record;
    void *row;  /* one row … */
    void **all; /* … or a growing array */
    size_t n, cap;
};

static int take_row(void *ctx, const struct json_value *json, _unused_ struct str bytes,
                    struct err *e)
{
    struct got *g = ctx;
    size_t size = g->record->size;

    if (!json)
        return err_set(e, ERR_ENGINE_UNAVAILABLE, "the agent's answer is malformed");
    if (!g->all) {
        g->n = 1;
        return json_load_row(g->a, g->record, json, g->row, e);
    }
    for (size_t i = 0; i < json_len(json); i++) {
        *g->all = arena_more(g->a, *g->all, g->n, &g->cap, size);
        TRY(json_load_row(g->a, g->record, json_at(json, i), (char *)*g->all + g->n * size, e));
        g->n++;
    }
    return 0;
}

/* Sends what 'b' holds, expects one row. */
static int order_row_of(struct compute *h, struct arena *a, struct json_out *o, int64_t timeout,
                        int64_t needs, const struct record *record, void *row, struct err *e)
{
    char *fresh = arena_alloc(a, record->size);
    struct got g = { .a = a, .record = record, .row = fresh };
    struct remote_order order = {
        .json = o->b, .timeout = timeout, .needs = needs, .answer = take_row, .ctx = &g
    };

    json_close(o);
    int r = json_done(o) < 0 ? err_set(e, ERR_TOO_LARGE, "the order is too large")
                             : remote_do(h, &order, e);
    buf_free(o->b);
    if (r == 0 && g.n != 1)
        r = err_set(e, ERR_ENGINE_UNAVAILABLE, "the agent's answer is malformed");
    if (r == 0)
        memcpy(row, fresh, record->size);
    return r;
}

static int order_row(struct compute *h, struct arena *a, struct json_out *o, int64_t timeout,
                     const struct record *record, void *row, struct err *e)
{
    return order_row_of(h, a, o, timeout, 0, record, row, e);
}

static int remote_ensure(struct compute *h, struct arena *a, const struct compute_spec *s,
                         struct compute_state *out, struct err *e)
{
    struct buf b = BUF(FRAME_MAX);
    struct json_out o = remote_begin(&b, "ensure", SECONDS(90));
    int64_t needs = s->files || s->data || s->root ? PROTOCOL_FILES : 0;

    json_key(&o, "spec");
    json_dump_row(&o, &compute_spec_record, s);
    return order_row_of(h, a, &o, SECONDS(90), needs, &compute_state_record, out, e);
}

static int remote_inspect(struct compute *h, struct arena *a, const struct uuid *id,
                          struct compute_state *out, struct err *e)
{
    struct buf b = BUF(KIB(4));
    struct json_out o = remote_begin(&b, "inspect", SECONDS(15));

    json_kstr(&o, "id", id->s);
    return order_row(h, a, &o, SECONDS(15), &compute_state_record, out, e);
}

static int remote_destroy(struct compute *h, const struct uuid *id, int64_t revision, int64_t grace,
                          struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(KIB(64));
    struct buf b = BUF(KIB(4));
    struct json_out o = remote_begin(&b, "destroy", SECONDS(60));
    struct compute_state st = { 0 };

    json_kstr(&o, "id", id->s);
    json_kint(&o, "revision", revision);
    json_kint(&o, "grace", grace);
    TRY(order_row(h, &a, &o, SECONDS(60), &compute_state_record, &st, e));
    return st.status == COMPUTE_STOPPING;
}

static int remote_list(struct compute *h, struct arena *a, struct compute_state **out, size_t *n,
                       struct err *e)
{
    struct buf b = BUF(KIB(4));
    struct json_out o = remote_begin(&b, "list", SECONDS(30));
    void *all = NULL;
    struct got g = { .a = a, .record = &compute_state_record, .all = &all };
    struct remote_order order = {
        .json = &b, .timeout = SECONDS(30), .answer = take_row, .ctx = &g
    };

    json_close(&o);
    int r = remote_do(h, &order, e);
    buf_free(&b);
    if (r < 0)
        return -1;
    *out = all;
    *n = g.n;
    return 0;
}

struct lines {
    compute_line_fn *fn;
    void *ctx;
    struct buf text; /* not yet a whole line */
    bool enough;
};

static int take_lines(void *ctx, _unused_ const struct json_value *json, struct str bytes,
                      struct err *e)
{
    struct lines *l = ctx;
    struct compute_line line;
    size_t used, at = 0;
    int r;

    buf_put(&l->text, bytes.p, bytes.n);
    while ((r = line_decode((struct str){ l->text.p + at, l->text.n - at }, &line, &used, e)) ==
           1) {
        at += used;
        l->enough = l->fn(l->ctx, &line) < 0;
        if (l->enough) {
            e->code = ERR_NONE;
            return -1;
        }
    }
    buf_eat(&l->text, at);
    return r;
}

static int order_logs(struct compute *h, const struct uuid *id, const struct compute_log_opts *lo,
                      struct lines *l, struct err *e)
{
    struct buf b = BUF(KIB(4));
    struct json_out o = remote_begin(&b, "logs", 0);
    struct remote_order order = {
        .json = &b, .timeout = SECONDS(30), .answer = take_lines, .ctx = l
    };

    json_kstr(&o, "id", id->s);
    json_kint(&o, "tail", lo->tail);
    json_kint(&o, "since", lo->since);
    json_kbool(&o, "follow", lo->follow);
    json_key(&o, "from");
    json_open(&o, '[');
    for (int k = 0; k < 2; k++) {
        json_int(&o, lo->from.file[k]);
        json_int(&o, lo->from.at[k]);
    }
    json_close(&o);
    json_close(&o);
    int r = remote_do(h, &order, e);
    buf_free(&b);
    return r;
}

static int remote_logs(struct compute *h, const struct uuid *id, const struct compute_log_opts *lo,
                       compute_line_fn *fn, void *ctx, struct err *e)
{
    struct lines l = { .fn = fn, .ctx = ctx, .text = BUF(LINE_TEXT_MAX + FRAME_MAX) };
    int r = order_logs(h, id, lo, &l, e);

    buf_free(&l.text);
    return l.enough ? 0 : r;
}

static int remote_stats(struct compute *h, const struct uuid *id, struct compute_stats *out,
                        struct err *e)
{
    struct buf b = BUF(KIB(4));
    struct json_out o = remote_begin(&b, "stats", SECONDS(15));
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));

    json_kstr(&o, "id", id->s);
    return order_row(h, &a, &o, SECONDS(15), &compute_stats_record, out, e);
}

/* ---- watching: one stream for as long as the connection lasts ---- */

static int open_watch(struct remote *r, struct err *e)
{
    struct buf b = BUF(KIB(4));
    struct json_out o = remote_begin(&b, "watch", 0);

    r->watch = open_stream(r, e);
    if (!r->watch) {
        buf_free(&b);
        return -1;
    }
    json_close(&o);
    int done = stream_order(r->watch, &b, e);
    buf_free(&b);
    return done;
}

static void close_watch(struct remote *r)
{
    if (r->watch)
        stream_close(r->watch);
    r->watch = NULL;
}

static int remote_watch(struct compute *h, int64_t timeout, struct uuid *id, struct err *e)
{
    struct remote *r = remote_of(h);
    struct message *m = NULL;
    int got = -1;

    pthread_mutex_lock(&r->watch_lock);
    if (r->watch || open_watch(r, e) == 0) {
        got = stream_next(r->watch, timeout, &m);
        if (got < 0)
            err_set(e, ERR_ENGINE_UNAVAILABLE, "lost contact with the agent");
    }
    if (got == 1) {
        _cleanup_(json_freep) struct json_value *v = json_parse((struct str){ m->p, m->n }, e);
        const char *s = v ? json_str_of(json_get(v, "id"), NULL) : NULL;
        bool printed = v && json_get_bool(v, "printed", false);
        got = printed ? COMPUTE_PRINTED : COMPUTE_CHANGED;
        if (m->kind == FRAME_JSON && s && strlen(s) < sizeof(id->s))
            memcpy(id->s, s, strlen(s) + 1);
        else
            got = err_set(e, ERR_ENGINE_UNAVAILABLE, "lost contact with the agent");
        free(m);
    }
    if (got < 0)
        close_watch(r);
    pthread_mutex_unlock(&r->watch_lock);
    return got;
}

static void remote_free(struct compute *h)
{
    struct remote *r = remote_of(h);

    pthread_mutex_lock(&r->lock);
    r->closing = true;
    if (r->link)
        link_break(r->link);
    while (r->readers > 0)
        pthread_cond_wait(&r->cond, &r->lock);
    pthread_mutex_unlock(&r->lock);
    close_watch(r);
    pthread_cond_destroy(&r->cond);
    pthread_mutex_destroy(&r->lock);
    pthread_mutex_destroy(&r->watch_lock);
    free(r->path);
    free(r->installation);
    free(r);
}

static const struct compute_class remote_class = {
    .name = "remote",
    .ensure = remote_ensure,
    .inspect = remote_inspect,
    .destroy = remote_destroy,
    .list = remote_list,
    .logs = remote_logs,
    .stats = remote_stats,
    .exec = remote_exec,
    .probe = remote_probe,
    .watch = remote_watch,
    .free = remote_free,
};

struct compute *compute_remote(const char *socket_path, const char *installation)
{
    struct remote *r = calloc(1, sizeof(*r));

    if (!r)
        abort();
    r->base.class = &remote_class;
    r->path = strdup(socket_path);
    r->installation = installation ? strdup(installation) : NULL;
    if (!r->path || (installation && !r->installation))
        abort();
    pthread_mutex_init(&r->lock, NULL);
    pthread_mutex_init(&r->watch_lock, NULL);
    pthread_cond_init(&r->cond, NULL);
    return &r->base;
}
