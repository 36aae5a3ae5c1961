/* SPDX-License-Identifier: Apache-2.0 */
/* Windows that replicas share.  Hides how the store's clock, by which a window begins and ends,
 * becomes this process's: a part ends by the monotonic clock as it stood before the store was
 * asked, so never later than the window does. */
#include "core/limit/lease.h"

#include <pthread.h>

#include "base/map.h"

enum { TRIES = 3 };
static const int64_t WINDOW = SECONDS(60);
static const int64_t REFILL = SECONDS(600);
static const int64_t MAX_BURST = 1000000000;
static const int64_t BURST_PAUSE = MILLIS(50);

struct lease {
    int64_t start;      /* of the window, by the store's clock */
    int64_t ends;       /* by the monotonic one */
    int64_t reset;      /* by the wall's */
    int64_t left, rest; /* requests of ours; of the store's when it was last asked */
    int64_t burst;
    int64_t dry_until; /* there is nothing to ask for before */
};
struct leases {
    pthread_mutex_t lock;
    size_t max;
    struct map *windows;
};

struct leases *leases_new(size_t max_windows)
{
    struct leases *l = calloc(1, sizeof(*l));

    if (!l)
        abort();
    pthread_mutex_init(&l->lock, NULL);
    l->max = max_windows;
    l->windows = map_new();
    return l;
}

/* Those that have ended, or all. */
static void forget(struct leases *l, int64_t mono, bool all)
{
    const void *key;
    size_t at = 0, n;
    void *v;

    while (map_next(l->windows, &at, &key, &n, &v))
        if (all || ((struct lease *)v)->ends <= mono)
            free(map_del(l->windows, key, n));
}

void leases_free(struct leases *l)
{
    if (!l)
        return;
    forget(l, 0, true);
    map_free(l->windows);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

/* Under the lock. */
static struct lease *lease_of(struct leases *l, const char *key, int64_t mono)
{
    struct lease *x = map_get(l->windows, key, strlen(key));

    if (x)
        return x;
    if (map_count(l->windows) >= l->max)
        forget(l, mono, false);
    if (map_count(l->windows) >= l->max)
        forget(l, mono, true);
    if (!(x = calloc(1, sizeof(*x))))
        abort();
    map_set(l->windows, key, strlen(key), x);
    return x;
}

/* False: the store must be asked. */
static bool take(struct lease *x, int64_t limit, int64_t now, int64_t mono,
                 struct ratelimit_answer *out)
{
    if (mono >= x->ends)
        return false;
    bool allowed = x->left > 0 || x->burst > 0;
    if (!allowed && mono >= x->dry_until)
        return false;
    if (x->left > 0)
        x->left--;
    else if (allowed)
        x->burst--;
    *out = (struct ratelimit_answer){ .allowed = allowed, .limit = limit, .reset = x->reset };
    out->remaining = MIN(x->left + x->rest, limit);
    if (!allowed)
        out->retry_after = MAX((x->reset + SECONDS(1) - 1) / SECONDS(1) - now / SECONDS(1), 1L);
    return true;
}

bool lease_take(struct leases *l, const char *key, int64_t limit, int64_t now, int64_t mono,
                struct ratelimit_answer *out)
{
    pthread_mutex_lock(&l->lock);
    struct lease *x = map_get(l->windows, key, strlen(key));
    bool decided = x && take(x, limit, now, mono, out);
    pthread_mutex_unlock(&l->lock);
    return decided;
}

/* ---- the store's row */

struct part {
    const char *key;
    int64_t limit, burst;
    int64_t now, start, taken, got, burst_got;
};

/* clang-format off */
/* A part of what is left, none of nothing. */
#define PART(left) "GREATEST(0, LEAST(" left ", GREATEST(1, (" left ") / 8), 1000))"
#define OVER "($2 >= r.start_at + 60000000 OR $2 < r.start_at - 60000000)"
#define LEFT "(CASE WHEN " OVER " THEN $3 ELSE $3 - r.taken END)"

static const char sql_window[] =
    "INSERT INTO core_rate AS r (name, start_at, taken, got, burst_spent, burst_at)"
    " VALUES ($1, $2, " PART("$3") ", " PART("$3") ", 0, 0)"
    " ON CONFLICT (name) DO UPDATE SET got = " PART(LEFT) ","
    " taken = (CASE WHEN " OVER " THEN 0 ELSE r.taken END) + " PART(LEFT) ","
    " start_at = CASE WHEN " OVER " THEN $2 ELSE r.start_at END"
    " RETURNING start_at, taken, got";

#define SPENT "GREATEST(0, burst_spent - LEAST(GREATEST($2 - burst_at, 0), 600000000) * $3)"
#define FREE "(($3 * 600000000 - " SPENT ") / 600000000)"

static const char sql_burst[] =
    "UPDATE core_rate SET got = " PART(FREE) ","
    " burst_spent = " SPENT " + " PART(FREE) " * 600000000, burst_at = $2"
    " WHERE name = $1 RETURNING got";
/* clang-format on */

static int window_row(void *ctx, const struct col *c, size_t n _unused_, struct err *e _unused_)
{
    struct part *p = ctx;

    p->start = c[0].i;
    p->taken = c[1].i;
    p->got = c[2].i;
    return 0;
}

static int ask_run(struct db *db, void *ctx, struct err *e)
{
    struct part *p = ctx;

    p->burst_got = 0;
    TRY(db_now(db, &p->now, e));
    TRY(db_each(db, sql_window, ARGS(A(p->key), A(p->now), A(p->limit)), window_row, p, e));
    if (p->got > 0 || p->burst <= 0)
        return 0;
    return db_int(db, sql_burst, ARGS(A(p->key), A(p->now), A(p->burst)), 0, &p->burst_got, e);
}

/* Under the lock: what the store gave, to what is there. */
static void put(struct lease *x, const struct part *p, int64_t now, int64_t mono)
{
    int64_t lasts = MAX(MIN(p->start + WINDOW - p->now, WINDOW), (int64_t)0);
    int64_t pause = p->burst > 0 ? MAX(REFILL / p->burst, BURST_PAUSE) : lasts;

    if (x->start != p->start)
        x->left = 0;
    x->start = p->start;
    x->ends = mono + lasts;
    x->reset = now + lasts;
    x->left += p->got;
    x->rest = MAX(p->limit - p->taken, (int64_t)0);
    x->burst += p->burst_got;
    x->dry_until = p->got || p->burst_got ? 0 : mono + MIN(pause, lasts);
}

int lease_ask(struct leases *l, struct store *store, struct clock *clock, const char *key,
              int64_t limit, int64_t burst, struct ratelimit_answer *out, struct err *e)
{
    struct part p = { .key = key, .limit = limit, .burst = MIN(burst, MAX_BURST) };

    for (int i = 0; i < TRIES; i++) {
        int64_t now = clock_wall(clock), mono = clock_mono(clock);

        TRY(store_write(store, ask_run, &p, e));
        pthread_mutex_lock(&l->lock);
        struct lease *x = lease_of(l, key, mono);
        put(x, &p, now, mono);
        bool decided = take(x, limit, clock_wall(clock), clock_mono(clock), out);
        pthread_mutex_unlock(&l->lock);
        if (decided)
            return 0;
    }
    return err_set(e, ERR_OVERLOADED, "The rate limit cannot be looked at in time");
}

int lease_sweep(struct db *db, int64_t now, int64_t *changed, struct err *e)
{
    return db_exec_n(db, "DELETE FROM core_rate WHERE start_at < $1 AND burst_at < $1",
                     ARGS(A(now - REFILL - WINDOW)), changed, e);
}
