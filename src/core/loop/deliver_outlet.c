/* SPDX-License-Identifier: Apache-2.0 */
/* One owner's deliveries while this process has it leased.  Hides which of them may go now: a
 * window of those that are due is read ahead, in their order, and one waits while the first attempt
 * at an earlier one of its object is under way; an owner gets one request at a time until one has
 * succeeded, so that those that hang take little of what a host or a tenant may have at once. */
#include "core/loop/deliver.h"

#include <sodium.h>

#include "base/log.h"
#include "base/metric.h"
#include "core/request/request.h"

static const int64_t LIMIT = SECONDS(10);     /* of an attempt */
static const int64_t RETRY_AFTER = HOURS(24); /* no answer puts it off for longer */
static const int64_t ROOM = MILLIS(300);      /* how long to wait where there was none */
static const int64_t UNKNOWN = MINUTES(10);   /* likewise for a kind that nobody has any more */

static struct metric attempts_total =
    METRIC(METRIC_COUNTER, "brume_delivery_attempts_total",
           "Attempts at deliveries, by what became of the delivery.");
static struct metric first_seconds = METRIC(METRIC_HISTOGRAM, "brume_delivery_first_seconds",
                                            "From the commit of a delivery to its first attempt.");

/* ---- a flight */

static struct flight *flight_new(struct deliveries *ds, struct outlet *l, const struct delivery *d)
{
    struct flight *f = calloc(1, sizeof(*f));

    if (!f)
        abort();
    f->ds = ds;
    f->outlet = l;
    f->text = ARENA(KIB(256));
    f->d = *d;
    f->d.object = arena_strdup(&f->text, d->object);
    f->d.kind = f->d.event_id = f->d.event_type = NULL;
    f->d.tenant_id = d->tenant_id;
    f->got.retry_after = -1;
    f->out.at = clock_wall(ds->app->clock);
    f->next = l->flights;
    l->flights = f;
    return f;
}

void flight_free(struct flight *f)
{
    struct flight **at = &f->outlet->flights;

    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    arena_free(&f->text);
    free(f);
}

void flight_land(struct flight *f)
{
    struct deliveries *ds = f->ds;

    pthread_mutex_lock(&ds->lock);
    f->behind = NULL;
    *ds->landed_end = f;
    ds->landed_end = &f->behind;
    ds->in_hand--;
    pthread_cond_signal(&ds->cond);
    pthread_mutex_unlock(&ds->lock);
}

static void done(void *ctx, uint64_t id _unused_, const struct outgoing_result *r)
{
    struct flight *f = ctx;

    f->got.end = r->end;
    f->got.status = r->status;
    f->got.retry_after = r->retry_after;
    f->got.duration = r->duration;
    f->got.n = MIN(r->body.n, sizeof(f->got.body));
    if (f->got.n)
        memcpy(f->got.body, r->body.p, f->got.n);
    if (r->end != OUTGOING_ANSWERED)
        snprintf(f->got.error, sizeof(f->got.error), "%s: %s", outgoing_word(r->end), r->err.msg);
    flight_land(f);
}

/* ---- what came of it */

static int64_t jitter(int64_t delay)
{
    return delay - delay / 10 + delay / 1000 * (int64_t)randombytes_uniform(201);
}

/* How long the answer wants to be left alone. */
static int64_t asked_pause(const struct flight *f)
{
    return f->got.retry_after > 0 ? MIN(SECONDS(f->got.retry_after), RETRY_AFTER) : 0;
}

/* When its next attempt is; 0: there is none. */
static int64_t next_attempt(const struct flight *f, int64_t now)
{
    const struct delivery_schedule *s = f->schedule;
    int64_t tries = f->d.tries + 1, wait, last;

    if (tries >= (int64_t)MIN(s->n, (size_t)DELIVER_TRIES))
        return 0;
    wait = jitter(s->delay[tries]);
    wait = MAX(wait, asked_pause(f));
    last = s->within ? f->d.begun_at + s->within : INT64_MAX;
    return now >= last ? 0 : MIN(now + wait, last);
}

static const char *log_entry(struct flight *f)
{
    struct buf b = BUF(KIB(64));
    struct json_out o = JSON_OUT(&b);
    const char *s = "{}";

    json_open(&o, '{');
    json_kint(&o, "number", f->d.attempt_count);
    json_ktime(&o, "at", f->out.at);
    json_key(&o, "status_code");
    if (f->got.status)
        json_int(&o, f->got.status);
    else
        json_null(&o);
    json_kint(&o, "duration_ms", f->got.duration / 1000);
    json_kstr(&o, "error", f->got.error[0] ? f->got.error : NULL);
    json_key(&o, "response");
    json_strn(&o, f->got.body, f->got.n);
    json_close(&o);
    if (json_done(&o) == 0)
        s = arena_dup(&f->text, b.p, b.n);
    buf_free(&b);
    return f->d.attempt_count > 1 ? arena_printf(&f->text, ",%s", s) : s;
}

static void failing(struct outlet *l, struct flight *f, int64_t now)
{
    l->dirty = l->dirty || !l->failing_since;
    l->failing_since = l->failing_since ? l->failing_since : f->out.at;
    l->width = 1;
    if (asked_pause(f)) {
        int64_t until = now + asked_pause(f);

        l->dirty = l->dirty || until > l->paused_until;
        l->paused_until = MAX(l->paused_until, until);
    }
    f->out.tell = true;
}

static void succeeded(struct outlet *l, struct flight *f)
{
    f->out.tell = l->failing_since != 0;
    l->dirty = l->dirty || l->failing_since || l->paused_until;
    l->failing_since = l->paused_until = 0;
    l->width = MIN(l->width * 2, (int)DELIVER_WIDTH);
}

static void count(const struct flight *f)
{
    static const char *const labels[] = { "outcome=\"retried\"", "outcome=\"succeeded\"",
                                          "outcome=\"failed\"", "outcome=\"canceled\"" };

    metric_cell_add(&attempts_total, metric_labels(&attempts_total, labels[f->out.status]), 1);
}

void flight_judge(struct flight *f, int64_t now)
{
    struct outlet *l = f->outlet;
    bool ok = f->got.end == OUTGOING_ANSWERED && f->got.status / 100 == 2;
    bool gone = f->got.end == OUTGOING_ANSWERED && f->got.status == 410;

    if (f->airborne)
        l->flying--;
    f->airborne = false;
    if (f->got.end == OUTGOING_CROWDED || f->got.end == OUTGOING_CANCELLED) {
        f->out.nothing = true; /* none was sent, or it is as if */
        l->hold = now + jitter(ROOM);
        return;
    }
    f->out.status = DELIVERY_CANCELED;
    f->out.log = "";
    if (!f->cancel) {
        f->d.attempt_count++;
        f->out.next = ok || gone ? 0 : next_attempt(f, now);
        f->out.status = ok ? DELIVERY_SUCCEEDED : f->out.next ? DELIVERY_PENDING : DELIVERY_FAILED;
        f->out.log = log_entry(f);
        if (ok)
            succeeded(l, f);
        else
            failing(l, f, now);
        f->out.told = (struct delivery_told){ .owner_id = l->owner,
                                              .status = f->got.status,
                                              .succeeded = ok,
                                              .gone = gone,
                                              .failing_since = l->failing_since };
    }
    count(f);
}

/* ---- reading */

int64_t outlet_wakes(const struct outlet *l)
{
    return MAX(l->hold, l->paused_until);
}

static const char sql_window[] =
    "SELECT @ FROM core_deliveries WHERE owner_id = $1 AND status = 'pending'"
    " AND next_attempt_at <= $2 ORDER BY next_attempt_at, id LIMIT $3";
static const char sql_kind[] =
    "SELECT kind FROM core_deliveries WHERE owner_id = $1 ORDER BY created_at LIMIT 1";
static const char sql_endpoint[] =
    "SELECT failing_since, paused_until FROM core_endpoints WHERE owner_id = $1";

static int take_endpoint(void *ctx, const struct col *c, size_t n _unused_, struct err *e _unused_)
{
    struct outlet *l = ctx;

    l->failing_since = c[0].i;
    l->paused_until = c[1].i;
    return 0;
}

static int outlet_kind(struct deliveries *ds, struct outlet *l, struct db *db, struct err *e)
{
    struct text_out name = { &l->arena, NULL };

    TRY(db_each(db, sql_kind, ARGS(A(&l->owner)), take_text, &name, e));
    for (size_t i = 0; name.s && ds->kinds[i] && !l->kind; i++)
        if (strcmp(ds->kinds[i]->name, name.s) == 0)
            l->kind = ds->kinds[i];
    if (name.s && !l->kind)
        l->hold = clock_wall(ds->app->clock) + UNKNOWN;
    return 0;
}

static bool has_flight(const struct outlet *l, const struct uuid *id)
{
    for (const struct flight *f = l->flights; f; f = f->next)
        if (uuid_eq(&f->d.id, id))
            return true;
    return false;
}

static int outlet_load(struct deliveries *ds, struct outlet *l, struct db *db, struct err *e)
{
    int64_t now = clock_wall(ds->app->clock);
    struct rows got;

    l->n = l->left = 0;
    l->full = false;
    arena_reset(&l->arena, KIB(64));
    if (!l->kind)
        TRY(outlet_kind(ds, l, db, e));
    if (!l->kind) {
        l->look = false;
        return 0;
    }
    if (!l->dirty) {
        l->failing_since = l->paused_until = 0;
        TRY(db_each(db, sql_endpoint, ARGS(A(&l->owner)), take_endpoint, l, e));
        l->width = l->failing_since ? 1 : l->width;
    }
    TRY(db_query(db, &l->arena, &delivery_record, sql_window,
                 ARGS(A(&l->owner), A(now), A((int64_t)WINDOW)), &got, e));
    l->window = got.v;
    l->n = got.n;
    l->full = got.n == WINDOW;
    for (size_t i = 0; i < l->n; i++) {
        l->taken[i] = has_flight(l, &l->window[i].id);
        l->left += !l->taken[i];
    }
    l->look = false;
    return 0;
}

/* ---- sending */

/* Whether the one before it of its object has not been answered yet. */
static bool must_wait(const struct outlet *l, const struct delivery *d)
{
    if (d->tries || !d->object[0])
        return false;
    for (const struct flight *f = l->flights; f; f = f->next)
        if (f->airborne && !f->d.tries && strcmp(f->d.object, d->object) == 0)
            return true;
    return false;
}

/* The next that may go; WINDOW: none. */
static size_t pick(const struct outlet *l)
{
    for (size_t i = 0; i < l->n; i++)
        if (!l->taken[i] && !must_wait(l, &l->window[i]))
            return i;
    return WINDOW;
}

static void note(struct flight *f, const char *what, const struct err *e)
{
    f->got.end = OUTGOING_NOT_ALLOWED;
    snprintf(f->got.error, sizeof(f->got.error), "%s: %s", what, e->msg);
}

/* 0: it is under way, or has come to its end; -1: there is no room for it now. */
static int flight_send(struct flight *f, struct attempt *a, const struct delivery_kind *k)
{
    struct app *app = f->ds->app;
    struct outgoing_request q = { .method = "POST", .timeout = LIMIT, .keep = OUTGOING_KEEP };
    struct err e;

    f->schedule = k->schedule(a->owner);
    if (k->make(a, &e) < 0) {
        log_err(LOG_ERROR, "delivery_not_made", &e);
        err_set(&e, ERR_INTERNAL, "the request could not be made");
        note(f, "internal_error", &e);
        flight_land(f);
        return 0;
    }
    if (a->cancel) {
        f->cancel = a->cancel;
        flight_land(f);
        return 0;
    }
    q.flow.key = flow_of(&f->d.tenant_id);
    q.url = a->url;
    q.headers = a->headers;
    q.n_headers = a->n_headers;
    q.body = a->body;
    f->request = outgoing_send(app_outgoing(app, f->d.mode), &q, done, f, &e);
    if (!f->request && e.code != ERR_INVALID)
        return -1;
    if (!f->request) {
        note(f, "url_not_valid", &e);
        flight_land(f);
    }
    return 0;
}

static int take_body(void *ctx, const struct col *c, size_t n _unused_, struct err *e _unused_)
{
    struct attempt *a = ctx;

    a->body = (struct str){ arena_dup(a->arena, c[0].s, c[0].n), c[0].n };
    return 0;
}

static const char sql_body[] =
    "SELECT payload FROM core_deliveries WHERE id = $1 AND status = 'pending'";

static int outlet_send(struct deliveries *ds, struct outlet *l, size_t i, const void *owner,
                       struct db *db, struct err *e)
{
    _cleanup_(arena_free) struct arena arena = ARENA(MIB(64));
    const struct delivery *d = &l->window[i];
    struct attempt a = { .app = ds->app, .arena = &arena, .owner = owner, .delivery = d };

    a.now = clock_wall(ds->app->clock);
    TRY(db_each(db, sql_body, ARGS(A(&d->id)), take_body, &a, e));
    l->taken[i] = true;
    l->left--;
    if (!a.body.p) /* it is over meanwhile */
        return 0;
    struct flight *f = flight_new(ds, l, d);
    f->airborne = true;
    l->flying++;
    pthread_mutex_lock(&ds->lock);
    ds->in_hand++;
    pthread_mutex_unlock(&ds->lock);
    if (flight_send(f, &a, l->kind) < 0) {
        pthread_mutex_lock(&ds->lock);
        ds->in_hand--;
        pthread_mutex_unlock(&ds->lock);
        flight_free(f);
        l->flying--;
        l->taken[i] = false;
        l->left++;
        l->hold = a.now + jitter(ROOM);
    } else if (!d->tries) {
        metric_time(&first_seconds, MAX(a.now - d->begun_at, (int64_t)0));
    }
    return 0;
}

static int owner_read(struct outlet *l, struct arena *a, struct db *db, void **row, struct err *e)
{
    const struct record *r = l->kind->owner;
    const char *sql = arena_printf(a, "SELECT @ FROM %s WHERE id = $1", r->table);
    struct rows got;

    TRY(db_query(db, a, r, sql, ARGS(A(&l->owner)), &got, e));
    *row = got.n ? got.v : NULL;
    return 0;
}

void outlet_cancel(struct outlet *l)
{
    for (struct flight *f = l->flights; f; f = f->next)
        if (f->airborne && f->request)
            outgoing_cancel(app_outgoing(f->ds->app, f->d.mode), f->request);
}

int outlet_work(struct deliveries *ds, struct outlet *l, struct db *db, struct err *e)
{
    _cleanup_(arena_free) struct arena arena = ARENA(MIB(8));
    bool looked = l->look;
    bool rests = outlet_wakes(l) > clock_wall(ds->app->clock);
    void *owner = NULL;
    size_t i = WINDOW;

    if (l->look && !rests && pick(l) != WINDOW) {
        l->full = true; /* what is new stands behind these */
        l->look = false;
    }
    if (l->look || (!l->left && l->full))
        TRY(outlet_load(ds, l, db, e));
    if (l->gone || !l->kind)
        return 0;
    bool may = l->flying < l->width && outlet_wakes(l) <= clock_wall(ds->app->clock);
    if (may)
        i = pick(l);
    if (i == WINDOW && !looked)
        return 0;
    TRY(owner_read(l, &arena, db, &owner, e));
    l->gone = !owner;
    if (l->gone)
        outlet_cancel(l);
    while (owner && i < WINDOW && l->flying < l->width && l->hold <= clock_wall(ds->app->clock)) {
        TRY(outlet_send(ds, l, i, owner, db, e));
        i = pick(l);
    }
    return 0;
}

bool outlet_rests(const struct outlet *l, int64_t now)
{
    if (l->flights || l->look)
        return false;
    return l->gone || !l->kind || (!l->left && !l->full) || outlet_wakes(l) > now;
}

void outlet_free(struct outlet *l)
{
    arena_free(&l->arena);
    free(l);
}
