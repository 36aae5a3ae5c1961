/* SPDX-License-Identifier: Apache-2.0 */
/* Streams between two runs of their handler.  Hides that thousands may be woken by one commit: they
 * wait in one line a tenant, which takes one place in the queue of its lane, and gives it up to the
 * next tenant after some of them. */
#include "core/service/stream.h"

#include "base/map.h"
#include "core/request/request.h"

enum { IN_A_ROW = 64, MESSAGE_MAX = 64 << 10 };

static const int64_t HEARTBEAT = SECONDS(15);

struct round_key {
    uint64_t flow, lane;
};
struct round {
    struct rounds *all;
    struct round_key key;
    struct flow flow;
    size_t streams; /* that take their turns here */
    struct call_private *first, **end;
    bool at_work; /* its job is queued or runs */
};
struct rounds {
    struct app *app;
    pthread_mutex_t lock; /* guards all rounds too */
    struct map *by_key;
    bool held_up; /* there may be a round with streams and without a job */
};

struct rounds *rounds_new(struct app *app)
{
    struct rounds *x = calloc(1, sizeof(*x));

    if (!x)
        abort();
    x->app = app;
    x->by_key = map_new();
    pthread_mutex_init(&x->lock, NULL);
    return x;
}

void rounds_free(struct rounds *x)
{
    if (!x)
        return;
    map_free(x->by_key);
    pthread_mutex_destroy(&x->lock);
    free(x);
}

/* Under the lock. */
static void drop_unused(struct round *r)
{
    if (r->streams > 0 || r->at_work)
        return;
    map_del(r->all->by_key, &r->key, sizeof(r->key));
    free(r);
}

/* Under the lock. */
static struct round *enter(struct rounds *x, struct call_private *p)
{
    struct round_key key = { call_flow(p)->key, lane_of(p->c.route) };
    struct round *r = map_get(x->by_key, &key, sizeof(key));

    if (!r) {
        r = calloc(1, sizeof(*r));
        if (!r)
            abort();
        *r = (struct round){ .all = x, .key = key, .flow = *call_flow(p) };
        r->end = &r->first;
        map_set(x->by_key, &key, sizeof(key), r);
    }
    r->streams++;
    return r;
}

/* ---- messages of a WebSocket's peer */

struct message {
    struct message *next;
    size_t n;
    char p[];
};
struct inbox {
    pthread_mutex_t lock;
    struct message *first, **end;
    size_t bytes;
    bool over; /* nobody takes any more */
};

static bool take_in(void *ctx, struct http_req *r _unused_, bool binary _unused_, struct str data)
{
    struct call_private *p = ctx;
    struct inbox *in = p->stream.inbox;
    struct message *m = malloc(sizeof(*m) + data.n);

    if (!m)
        abort();
    *m = (struct message){ .n = data.n };
    if (data.n)
        memcpy(m->p, data.p, data.n);
    pthread_mutex_lock(&in->lock);
    bool over = in->over, more = false;
    if (!over) {
        *in->end = m;
        in->end = &m->next;
        in->bytes += sizeof(*m) + data.n;
        more = in->bytes < MESSAGE_MAX;
    }
    pthread_mutex_unlock(&in->lock);
    if (over)
        free(m);
    else
        park_poke(p->c.app->park, p);
    return more;
}

static struct message *take_out(struct inbox *in)
{
    pthread_mutex_lock(&in->lock);
    struct message *m = in->first;
    if (m) {
        in->bytes -= sizeof(*m) + m->n;
        in->first = m->next;
        if (!in->first)
            in->end = &in->first;
    }
    pthread_mutex_unlock(&in->lock);
    return m;
}

static int socket_begin(struct call_private *p, struct err *e)
{
    struct http_ws_app app = { .ctx = p, .max = MESSAGE_MAX, .on_message = take_in };
    struct inbox *in = arena_alloc(http_req_arena(p->r), sizeof(*in));

    pthread_mutex_init(&in->lock, NULL);
    in->end = &in->first;
    p->stream.inbox = in;
    return http_ws_begin(p->r, &app, e);
}

bool stream_is_socket(const struct call *c)
{
    return c->route->upgrades && http_req_head(c->p->r)->upgrade_websocket;
}

bool stream_message(struct call *c, struct str *out)
{
    struct inbox *in = c->p->stream.inbox;
    struct message *m = in ? take_out(in) : NULL;

    if (!m && in) /* all of them are taken */
        http_ws_more(c->p->r);
    if (!m)
        return false;
    *out = (struct str){ arena_dup(c->arena, m->p, m->n), m->n };
    free(m);
    return true;
}

/* It stays as long as the request does, for the I/O thread may just look at it. */
static void inbox_close(struct inbox *in)
{
    struct message *m;

    pthread_mutex_lock(&in->lock);
    in->over = true;
    pthread_mutex_unlock(&in->lock);
    while ((m = take_out(in)))
        free(m);
}

/* ---- rounds */

void stream_leave(struct call_private *p)
{
    struct round *r = p->stream.round;

    if (p->stream.inbox)
        inbox_close(p->stream.inbox);
    if (!r)
        return;
    p->stream.round = NULL;
    pthread_mutex_lock(&r->all->lock);
    struct rounds *x = r->all;
    r->streams--;
    drop_unused(r);
    pthread_mutex_unlock(&x->lock);
}

/* ---- its job */

static struct call_private *next_of(struct round *r)
{
    struct rounds *x = r->all;

    pthread_mutex_lock(&x->lock);
    struct call_private *p = r->first;
    if (p) {
        r->first = p->stream.next;
        if (!r->first)
            r->end = &r->first;
    } else {
        r->at_work = false;
        drop_unused(r);
    }
    pthread_mutex_unlock(&x->lock);
    return p;
}

static void has_room(void *ctx)
{
    stream_wake(ctx);
}

static void work(void *ctx, void *worker);

/* Its job is queued, or later by rounds_tick(). */
static void begin(struct round *r)
{
    struct rounds *x = r->all;
    struct pool *pool = x->app->lanes[r->key.lane];

    if (pool && pool_submit_for(pool, &r->flow, work, r) == FAIR_OK)
        return;
    pthread_mutex_lock(&x->lock);
    r->at_work = false;
    x->held_up = true;
    pthread_mutex_unlock(&x->lock);
}

static void work(void *ctx, void *worker)
{
    struct round *r = ctx;
    struct app *app = r->all->app;
    struct call_private *p;

    for (int i = 0; i < IN_A_ROW || app->stopping; i++) {
        if (!(p = next_of(r)))
            return;
        bool last = atomic_load(&p->park.leaving) || http_req_gone(p->r) || app->stopping;
        if (last || http_stream_wait(p->r, has_room, p))
            run_stream(p, worker);
    }
    begin(r);
}

void stream_wake(struct call_private *p)
{
    struct rounds *x = p->c.app->rounds;

    pthread_mutex_lock(&x->lock);
    if (!p->stream.round)
        p->stream.round = enter(x, p);
    struct round *r = p->stream.round;
    p->stream.next = NULL;
    *r->end = p;
    r->end = &p->stream.next;
    bool idle = !r->at_work;
    r->at_work = true;
    pthread_mutex_unlock(&x->lock);
    if (idle)
        begin(r);
}

static struct round *held_up(struct rounds *x)
{
    struct round *found = NULL;
    size_t at = 0, n;
    const void *key;
    void *value;

    pthread_mutex_lock(&x->lock);
    while (x->held_up && !found && map_next(x->by_key, &at, &key, &n, &value)) {
        struct round *r = value;

        if (r->first && !r->at_work)
            found = r;
    }
    if (found)
        found->at_work = true;
    else
        x->held_up = false;
    pthread_mutex_unlock(&x->lock);
    return found;
}

void rounds_tick(struct rounds *x)
{
    struct round *r;

    for (int i = 0; i < IN_A_ROW && (r = held_up(x)); i++)
        begin(r);
}

/* ---- between runs */

void stream_rest(struct call_private *p)
{
    int64_t now = p->c.now;

    if (p->stream.events && now - p->stream.wrote >= HEARTBEAT &&
        http_stream_write(p->r, STR(":\n\n")) == 0)
        p->stream.wrote = now;
    if (p->stream.events)
        p->park.again = MIN(p->park.again, p->stream.wrote + HEARTBEAT);
    /* Who waits long wakes with all others of that second. */
    if (p->park.again - now > SECONDS(1) && p->park.again < INT64_MAX - SECONDS(1))
        p->park.again += SECONDS(1) - 1 - (p->park.again - 1) % SECONDS(1);
    arena_free(&p->own);
    buf_free(&p->buf);
}

void stream_finish(struct call_private *p, bool whole)
{
    struct http_req *r = p->r;
    struct arena own = p->own, large = p->large;
    struct buf buf = p->buf;

    reply_account(p, clock_mono(clock_system()) - p->began);
    json_free(TAKE(p->json));
    p->own = p->large = ARENA(0);
    p->buf = BUF(0);
    if (whole)
        http_stream_end(r);
    else
        http_stream_cut(r);
    buf_free(&buf);
    arena_free(&own);
    arena_free(&large);
}

/* ---- what a handler may say */

int stream_begin(struct call *c, const char *content_type, struct err *e)
{
    struct call_private *p = c->p;

    if (p->streaming || !p->r || c->route->work != STREAM)
        return err_cause(e, ERR_INTERNAL, "no stream can begin here", "internal error");
    bool socket = stream_is_socket(c);
    if (socket) {
        TRY(http_ws_check(p->r, e));
        content_type = NULL;
        p->status = 101;
    }
    p->streaming = true;
    p->content_type = content_type;
    p->etag = NULL;
    p->stream.events = content_type && strncmp(content_type, "text/event-stream", 17) == 0;
    p->stream.wrote = c->now;
    reply_headers(p, clock_mono(clock_system()) - p->began, false);
    p->content_type = NULL;
    leave_crowd(p); /* it is one of its tenant's streams, which have a bound of their own */
    live_add(p);
    if (socket)
        return socket_begin(p, e);
    http_stream_begin(p->r, p->status);
    return 0;
}

int stream_write(struct call *c, struct str data, struct err *e)
{
    struct call_private *p = c->p;

    if (!p->streaming)
        return err_cause(e, ERR_INTERNAL, "no stream was begun", "internal error");
    if (http_stream_write(p->r, data) < 0)
        return err_set(e, ERR_REQUEST_TIMEOUT, "the peer has gone");
    p->stream.wrote = c->now;
    return 0;
}

size_t stream_room(struct call *c)
{
    return http_stream_room(c->p->r);
}

bool stream_last(const struct call *c)
{
    return c->parked_until && c->now >= c->parked_until;
}

void *stream_state(struct call *c, size_t size)
{
    struct call_private *p = c->p;

    if (!p->stream.state)
        p->stream.state = arena_alloc(http_req_arena(p->r), size);
    return p->stream.state;
}

/* ---- text/event-stream */

bool stream_wants_events(struct call *c)
{
    struct str accept = http1_header(http_req_head(c->p->r), "accept");
    bool named = false;

    return accept.n && accept_quality(accept, "text/event-stream", &named) > 0 && named;
}

const char *stream_last_id(struct call *c, const char *given)
{
    struct str id = http1_header(http_req_head(c->p->r), "last-event-id");

    return id.n ? arena_dup(c->arena, id.p, id.n) : given && given[0] ? given : NULL;
}

int stream_farewell(struct call *c, struct err *e)
{
    static const char text[] = "event: end\ndata: {\"reason\":\"shutdown\"}\n\n";

    return c->p->stream.inbox ? 0 : stream_write(c, STR(text), e);
}
