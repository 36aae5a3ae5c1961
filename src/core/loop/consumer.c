/* SPDX-License-Identifier: Apache-2.0 */
/* Consumers' turns.  Hides the cursor and its lease: a turn reads off the writer what lies behind
 * the cursor, and one transaction then does it and moves the cursor, if nobody has moved it
 * meanwhile.  So the lease only saves work; that nothing is done twice hangs on the cursor. */
#include "core/loop/consumer.h"

#include "core/app.h"

#include <sodium.h>

#include "base/log.h"
#include "codec/text.h"
#include "core/loop/happen.h"
#include "core/request/request.h"

static const int64_t LEASE = SECONDS(10);
static const int64_t GATHER = MILLIS(2);
static const int64_t STORE_EVERY = SECONDS(1); /* the cursor, where there was nothing to do */

struct state { /* of a consumer, in this process */
    const struct consumer *c;
    const struct consumer_kind *kind;
    bool known;          /* .stored is what the table says, as far as we know */
    struct place at;     /* how far it has read */
    struct place stored; /* the cursor in the table */
    int64_t stored_at;   /* mono */
    int64_t again;       /* wall: not before that */
    int64_t attempts;    /* of the event that fails */
    size_t most;         /* the next turn takes no more than this */
    struct metric_cell *lag, *failures, *delay;
};

struct consumers {
    struct app *app;
    struct state *all;
    size_t n;
    char process[17];
    pthread_t thread;
    bool running, stopping;
    bool leased; /* it may hold a lease */
    atomic_bool woken;
    pthread_mutex_t lock; /* guards .stopping */
    pthread_cond_t cond;
};

static struct metric lag_seconds =
    METRIC(METRIC_GAUGE, "brume_consumer_lag_seconds",
           "How old the oldest event is that a consumer has not had.");
static struct metric failures_total =
    METRIC(METRIC_COUNTER, "brume_consumer_failures_total", "Turns of consumers that failed.");
static struct metric turn_seconds =
    METRIC(METRIC_HISTOGRAM, "brume_consumer_turn_seconds", "What a consumer's turn took.");

static const char sql_cursor[] =
    "SELECT seq, part, CASE WHEN lease_by = $2 THEN 0 ELSE lease_until END FROM core_cursor"
    " WHERE consumer = $1";
static const char sql_lease[] =
    "UPDATE core_cursor SET lease_by = $4, lease_until = $5"
    " WHERE consumer = $1 AND seq = $2 AND part = $3 AND (lease_by = $4 OR lease_until <= $6)";
static const char sql_move[] = "UPDATE core_cursor SET seq = $2, part = $3 WHERE consumer = $1";
static const char sql_give[] =
    "UPDATE core_cursor SET lease_until = 0 WHERE lease_by = $1 AND lease_until > 0";
static const char sql_free[] = "UPDATE core_cursor SET lease_until = 0 WHERE lease_until > 0";
static const char sql_new[] =
    "INSERT INTO core_cursor (consumer, seq, part, lease_by, lease_until)"
    " VALUES ($1, CASE WHEN $2 THEN 0 ELSE (SELECT COALESCE(max(seq), 0) FROM journal) END,"
    " 0, '', 0) ON CONFLICT (consumer) DO NOTHING";

/* ---- a turn */

struct writing {
    struct consumers *cs;
    struct state *s;
    struct turn *t;
    bool lost; /* somebody else has moved the cursor, or holds it */
};

static int turn_write(struct call *c, void *arg, struct err *e)
{
    struct writing *w = arg;
    struct turn *t = w->t;
    int64_t n;

    t->failed = 0;
    TRY(db_exec_n(c->db, sql_lease,
                  ARGS(A(t->consumer->name), A(w->s->stored.seq), A(w->s->stored.part),
                       A((const char *)w->cs->process), A(c->now + LEASE), A(c->now)),
                  &n, e));
    w->lost = n == 0;
    if (w->lost)
        return 0;
    if (t->n)
        TRY(w->s->kind->write(c, t, e));
    return db_exec(c->db, sql_move, ARGS(A(t->consumer->name), A(t->to.seq), A(t->to.part)), e);
}

struct cursor {
    struct place at;
    int64_t held_until;
    bool found;
};

static int take_cursor(void *ctx, const struct col *c, size_t n _unused_, struct err *e _unused_)
{
    *(struct cursor *)ctx = (struct cursor){ { c[0].i, c[1].i }, c[2].i, true };
    return 0;
}

/* False: another process has it. */
static bool cursor_read(struct consumers *cs, struct state *s, struct db *db, int *rc,
                        struct err *e)
{
    struct cursor got = { 0 };
    int64_t now = clock_wall(cs->app->clock);

    *rc = db_each(db, sql_cursor, ARGS(A(s->c->name), A((const char *)cs->process)), take_cursor,
                  &got, e);
    if (*rc == 0 && !got.found)
        *rc = err_cause(e, ERR_INTERNAL, "the consumer has no cursor", "internal error");
    if (*rc < 0)
        return false;
    if (got.held_until > now) {
        s->again = MIN(got.held_until, now + SECONDS(1));
        return false;
    }
    s->at = s->stored = got.at;
    s->known = true;
    return true;
}

static bool same(const struct place *a, const struct place *b)
{
    return a->seq == b->seq && a->part == b->part;
}

/* Where there was nothing to do, the cursor need not move each time. */
static bool worth_storing(const struct consumers *cs, struct state *s, const struct turn *t)
{
    int64_t now = clock_mono(clock_system());

    if (t->n)
        return true;
    if (same(&t->to, &s->stored))
        return false;
    if (cs->running && now - s->stored_at < STORE_EVERY) {
        s->again = clock_wall(cs->app->clock) + STORE_EVERY;
        return false;
    }
    return true;
}

static int turn_end(struct consumers *cs, struct state *s, struct turn *t, struct err *e)
{
    struct writing w = { .cs = cs, .s = s, .t = t };

    if (!worth_storing(cs, s, t)) {
        s->at = t->to;
        return 0;
    }
    cs->leased = true;
    int rc = app_write(cs->app, turn_write, &w, e);
    if (rc < 0 && t->failed) { /* those before the one that fails are done for themselves */
        s->most = t->failed;
        return 0;
    }
    TRY(rc);
    if (w.lost) {
        s->known = false;
        return 0;
    }
    s->at = s->stored = t->to;
    s->stored_at = clock_mono(clock_system());
    s->most = SIZE_MAX;
    s->attempts = 0;
    return 0;
}

static int turn_take(struct consumers *cs, struct state *s, int64_t upto, struct err *e)
{
    _cleanup_(arena_free) struct arena arena = ARENA(MIB(256));
    struct turn t = { .app = cs->app, .consumer = s->c, .arena = &arena, .upto = upto };
    int rc = 0;

    t.db = store_any_reader(cs->app->store);
    if (!s->known && !cursor_read(cs, s, t.db, &rc, e))
        return rc;
    if (s->at.seq >= upto && same(&s->at, &s->stored))
        return 0;
    t.from = t.to = s->at;
    t.most = s->most;
    if (s->at.seq < upto)
        rc = s->kind->read(&t, e);
    if (rc == 0)
        rc = turn_end(cs, s, &t, e);
    if (s->kind->done)
        s->kind->done(&t);
    return rc;
}

static void back_off(struct consumers *cs, struct state *s, const struct err *e)
{
    int64_t wait = s->c->backoff.min ? s->c->backoff.min : SECONDS(1);
    int64_t max = MAX(s->c->backoff.max ? s->c->backoff.max : MINUTES(5), wait);

    for (int64_t i = 0; i < s->attempts && wait < max; i++)
        wait = MIN(wait * 2, max);
    s->attempts++;
    s->again = clock_wall(cs->app->clock) + wait;
    s->most = 1;
    s->known = false;
    metric_cell_add(&failures_total, s->failures, 1);
    log_event(LOG_WARN, "consumer_failed", L_STR("consumer", s->c->name),
              L_INT("behind", s->at.seq), L_STR("code", err_wire(e->code)),
              L_STR("message", e->msg), L_STR("cause", e->cause), L_INT("attempts", s->attempts),
              L_INT("again_ms", wait / 1000));
}

/* Takes one turn if it is due; true: there is more for it at once. */
static bool turn_of(struct consumers *cs, struct state *s, int64_t upto)
{
    int64_t now = clock_wall(cs->app->clock), began = clock_mono(clock_system());
    struct err e;

    if (s->again > now && cs->running)
        return false;
    if (s->again > now && s->attempts) /* tests: only what failed waits */
        return false;
    s->again = cs->running ? now + s->c->gather : 0;
    size_t most = s->most;
    struct place before = s->at;
    bool known = s->known;
    if (turn_take(cs, s, upto, &e) < 0) {
        back_off(cs, s, &e);
        return false;
    }
    if (same(&before, &s->at) && s->most == most && s->known == known)
        return false;
    metric_cell_time(&turn_seconds, s->delay, clock_mono(clock_system()) - began);
    if (!cs->running) /* what it told of is behind 'upto' */
        return true;
    return s->known ? s->at.seq < upto : s->again <= now;
}

/* ---- the thread */

static void wake(struct app *app)
{
    struct consumers *cs = app->consumers;

    if (!cs || atomic_load_explicit(&cs->woken, memory_order_relaxed) ||
        atomic_exchange(&cs->woken, true))
        return;
    pthread_mutex_lock(&cs->lock);
    pthread_cond_signal(&cs->cond);
    pthread_mutex_unlock(&cs->lock);
}

/* Until a commit, the next that is due, 'wait', or the time to look what other processes did. */
static bool rest(struct consumers *cs, int64_t wait)
{
    int64_t now = clock_wall(cs->app->clock);
    struct timespec ts;

    wait = MIN(wait, cs->app->postgres ? MILLIS(100) : SECONDS(1));

    for (size_t i = 0; i < cs->n; i++)
        if (cs->all[i].again > now)
            wait = MIN(wait, cs->all[i].again - now);
    clock_gettime(CLOCK_MONOTONIC, &ts);
    int64_t ns = ts.tv_nsec + wait * 1000;
    ts.tv_sec += ns / 1000000000;
    ts.tv_nsec = ns % 1000000000;
    pthread_mutex_lock(&cs->lock);
    while (!cs->stopping && !atomic_load(&cs->woken) &&
           pthread_cond_timedwait(&cs->cond, &cs->lock, &ts) == 0)
        ;
    bool stop = cs->stopping;
    pthread_mutex_unlock(&cs->lock);
    return !stop;
}

/* One turn of each that has something to do; 'behind': one of them has more, 'more': there will
 * be in a moment. */
static int round_take(struct consumers *cs, bool *behind, bool *more, struct err *e)
{
    int64_t upto;

    *behind = false;
    TRY(journal_settled(cs->app, store_any_reader(cs->app->store), &upto, more, e));
    for (size_t i = 0; i < cs->n; i++)
        if (turn_of(cs, &cs->all[i], upto))
            *behind = true;
    return 0;
}

static void *consumers_main(void *arg)
{
    struct consumers *cs = arg;
    bool behind = true, more = false;
    struct err e;

    while (rest(cs, behind ? 0 : more ? MILLIS(1) : SECONDS(1))) {
        if (!behind)
            usleep((useconds_t)GATHER);
        atomic_store(&cs->woken, false);
        if (round_take(cs, &behind, &more, &e) < 0) {
            log_err(LOG_WARN, "journal_not_read", &e);
            usleep(100000);
        }
    }
    return NULL;
}

/* ---- birth and death */

static int new_run(struct db *db, void *ctx, struct err *e)
{
    struct consumers *cs = ctx;

    /* One process owns an SQLite store: a lease in it is of a process that has died. */
    if (!cs->app->postgres)
        TRY(db_exec(db, sql_free, NO_ARGS, e));
    for (size_t i = 0; i < cs->n; i++)
        TRY(db_exec(db, sql_new, ARGS(A(cs->all[i].c->name), A((bool)cs->all[i].c->from_start)),
                    e));
    return 0;
}

static const struct consumer *consumer_of(const struct service *s, size_t i)
{
    return s->consumers ? s->consumers[i] : NULL;
}

static int add(struct consumers *cs, const struct consumer *c, struct err *e)
{
    struct state *s = &cs->all[cs->n];
    char labels[100];

    for (size_t i = 0; i < cs->n; i++)
        if (strcmp(cs->all[i].c->name, c->name) == 0)
            return err_set(e, ERR_INTERNAL, "two consumers have the name '%s'", c->name);
    if (!c->kind && (!c->types || !c->types[0] || !c->handle))
        return err_set(e, ERR_INTERNAL, "the consumer '%s' takes no events", c->name);
    snprintf(labels, sizeof(labels), "consumer=\"%s\"", c->name);
    *s = (struct state){ .c = c, .kind = c->kind ? c->kind : &happen_kind, .most = SIZE_MAX };
    s->lag = metric_labels(&lag_seconds, labels);
    s->failures = metric_labels(&failures_total, labels);
    s->delay = metric_labels(&turn_seconds, labels);
    cs->n++;
    return 0;
}

int consumers_open(struct app *app, struct err *e)
{
    struct consumers *cs = calloc(1, sizeof(*cs));
    pthread_condattr_t attr;
    uint8_t random[8];
    size_t n = 0;

    for (size_t i = 0; app->services[i]; i++)
        for (size_t k = 0; consumer_of(app->services[i], k); k++)
            n++;
    if (!cs || !(cs->all = calloc(n + 1, sizeof(*cs->all))))
        abort();
    cs->app = app;
    randombytes_buf(random, sizeof(random));
    hex_encode(random, sizeof(random), cs->process);
    pthread_mutex_init(&cs->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&cs->cond, &attr);
    pthread_condattr_destroy(&attr);
    app->consumers = cs;
    for (size_t i = 0; app->services[i]; i++)
        for (size_t k = 0; consumer_of(app->services[i], k); k++)
            TRY(add(cs, consumer_of(app->services[i], k), e));
    return cs->n ? store_write(app->store, new_run, cs, e) : 0;
}

void consumers_start(struct app *app)
{
    struct consumers *cs = app->consumers;

    if (!cs->n)
        return;
    cs->running = true;
    cs->stopping = false;
    app->told.journal = wake;
    cs->thread = thread_start("consumers", consumers_main, cs);
}

static int give_run(struct db *db, void *ctx, struct err *e)
{
    struct consumers *cs = ctx;

    return db_exec(db, sql_give, ARGS(A((const char *)cs->process)), e);
}

void consumers_stop(struct app *app)
{
    struct consumers *cs = app->consumers;
    struct err e;

    if (!cs)
        return;
    if (cs->running) {
        pthread_mutex_lock(&cs->lock);
        cs->stopping = true;
        pthread_cond_signal(&cs->cond);
        pthread_mutex_unlock(&cs->lock);
        pthread_join(cs->thread, NULL);
        cs->running = false;
    }
    if (!cs->leased)
        return;
    cs->leased = false;
    if (store_write(app->store, give_run, cs, &e) < 0)
        log_err(LOG_WARN, "consumers_give_back_failed", &e);
    for (size_t i = 0; i < cs->n; i++)
        cs->all[i].known = false;
}

void consumers_close(struct app *app)
{
    struct consumers *cs = TAKE(app->consumers);

    if (!cs)
        return;
    pthread_mutex_destroy(&cs->lock);
    pthread_cond_destroy(&cs->cond);
    free(cs->all);
    free(cs);
}

int consumers_drain(struct app *app, struct err *e)
{
    bool behind = true, more = false;

    for (int i = 0; (behind || more) && app->consumers->n; i++) {
        if (i == 100000)
            return err_set(e, ERR_INTERNAL, "the consumers come to no end");
        TRY(round_take(app->consumers, &behind, &more, e));
    }
    return 0;
}

/* ---- how far they are */

int consumers_read(struct app *app, struct db *db, const struct consumer_kind *kind, int64_t *seq,
                   const char **last, struct err *e)
{
    struct consumers *cs = app->consumers;

    *seq = INT64_MAX;
    *last = NULL;
    for (size_t i = 0; i < cs->n; i++) {
        const struct consumer *c = cs->all[i].c;
        int64_t at;

        if (c->kind != kind)
            continue;
        TRY(db_int(db, "SELECT seq FROM core_cursor WHERE consumer = $1", ARGS(A(c->name)), 0, &at,
                   e));
        if (at < *seq) {
            *seq = at;
            *last = c->name;
        }
    }
    return 0;
}

int consumers_show(struct app *app, struct db *db, struct err *e)
{
    struct consumers *cs = app->consumers;
    int64_t now = clock_wall(app->clock);

    for (size_t i = 0; i < cs->n; i++) {
        const struct state *s = &cs->all[i];
        char sql[256];
        int64_t at;

        snprintf(sql, sizeof(sql),
                 "SELECT at FROM journal WHERE %s AND seq > (SELECT seq FROM core_cursor"
                 " WHERE consumer = $1) ORDER BY seq LIMIT 1",
                 s->kind->waiting);
        TRY(db_int(db, sql, ARGS(A(s->c->name)), now, &at, e));
        metric_cell_set(&lag_seconds, s->lag, MAX(now - at, 0) / SECONDS(1));
    }
    return 0;
}
