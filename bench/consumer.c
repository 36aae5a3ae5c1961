/* SPDX-License-Identifier: Apache-2.0 */
/* How far a consumer is behind while events come, and what it costs those who write them.
 *
 *     bench_consumer URL RATE SECONDS
 *
 * prints as JSON: how many events a second 64 writers made when told to make RATE (0: as many as
 * they can), without a consumer and with one; and the lag in milliseconds, from an event's time to
 * the statement that its handler has done, at the median and at the 99th of a hundred. */
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "core/loop/consumer.h"
#include "core/request/request.h"
#include "os/thread.h"

enum { WRITERS = 64, LAGS_MAX = 4000000 };

struct thing {
    struct uuid id;
    int64_t n;
    const char *text;
};

/* clang-format off */
#define T struct thing
static const struct field thing_fields[] = {
    FIELD_UUID(T, id,   0, .doc = "Id."),
    FIELD_INT (T, n,    0, .doc = "Number."),
    FIELD_STR (T, text, 0, .doc = "As much as a small object has."),
};
#undef T
static const struct record thing_record = RECORD(thing, "things", thing_fields, .prefix = "thing");
/* clang-format on */

static int64_t *lags;
static _Atomic int64_t n_lags;

static int count(struct call *c, const struct happened *h, struct err *e)
{
    TRY(db_exec(c->db, "INSERT INTO heard (n) VALUES ($1)", ARGS(A(h->seq)), e));
    int64_t i = n_lags++;
    if (i < LAGS_MAX)
        lags[i] = clock_wall(clock_system()) - h->at;
    return 0;
}

static const struct consumer counter = {
    .name = "counter",
    .types = (const char *const[]){ "thing.made", NULL },
    .handle = count,
};
static const struct consumer *const consumers[] = { &counter, NULL };
static const struct service with = { .name = "bench", .consumers = consumers };
static const struct service without = { .name = "bench" };

static struct {
    struct app *app;
    int64_t every; /* microseconds between two events of a writer */
    int64_t until; /* mono */
    _Atomic int64_t made;
} run;

static void fail(const char *what, const struct err *e)
{
    fprintf(stderr, "bench_consumer: %s: %s (%s)\n", what, e->msg, e->cause);
    _exit(1);
}

static int tell(struct call *c, void *arg, struct err *e)
{
    struct thing t = { .id = { "01890000-0000-7000-8000-000000000001" }, .n = *(int64_t *)arg };

    t.text = "What a queue or a network has: two hundred bytes or so of names, numbers and times, "
             "of which this stands for all, for what is in it does not matter here, only that it "
             "is there and parsed.";
    return outbox_put(c, "thing.made", &thing_record, &t, e);
}

static void *writer(void *arg _unused_)
{
    int64_t next = clock_mono(clock_system());
    struct err e;

    while (next < run.until) {
        int64_t now = clock_mono(clock_system()), n = run.made;

        if (run.every && now < next)
            usleep((useconds_t)(next - now));
        if (app_write(run.app, tell, &n, &e) < 0)
            fail("write", &e);
        run.made++;
        next = run.every ? next + run.every : now;
    }
    return NULL;
}

/* Events a second. */
static int64_t load(struct store *s, const struct service *of, int64_t rate, int64_t seconds)
{
    static struct config config = { .region = "local", .default_plan = "free" };
    const struct service *const list[] = { of, NULL };
    struct app app = { .config = &config, .clock = clock_system(), .store = s, .services = list };
    pthread_t threads[WRITERS];
    struct err e;

    app.postgres = store_is_postgres(s);
    app.o.services = list;
    if (consumers_open(&app, &e) < 0)
        fail("open", &e);
    consumers_start(&app);
    run.app = &app;
    run.made = 0;
    run.every = rate ? SECONDS(1) * WRITERS / rate : 0;
    run.until = clock_mono(clock_system()) + SECONDS(seconds);
    for (int i = 0; i < WRITERS; i++)
        threads[i] = thread_start("writer", writer, NULL);
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    int64_t made = run.made;
    for (int i = 0; of == &with && n_lags < made && i < 6000; i++)
        usleep(10000);
    if (of == &with && n_lags < made)
        fail("the consumer did not come to the end", &(struct err){ .msg = "" });
    consumers_stop(&app);
    consumers_close(&app);
    return made / seconds;
}

static int by_size(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static int make_table(struct db *db, void *ctx _unused_, struct err *e)
{
    return db_exec(db, "CREATE TABLE heard (n BIGINT)", NO_ARGS, e);
}

int main(int argc, char **argv)
{
    static const struct migration_set set = { "core", core_migrations };
    int64_t rate, seconds, n = 0;
    struct err e;

    if (argc != 4 || !int_parse(str_of(argv[2]), 0, 1000000, &rate) ||
        !int_parse(str_of(argv[3]), 1, 600, &seconds)) {
        fprintf(stderr, "usage: bench_consumer URL RATE SECONDS\n");
        return 2;
    }
    lags = calloc(LAGS_MAX, sizeof(*lags));
    struct store *s = store_open(&(struct store_opts){ .url = argv[1] }, &e);
    if (!lags || !s || store_migrate(s, &set, 1, &e) < 0 ||
        store_write(s, make_table, NULL, &e) < 0)
        fail(argv[1], &e);
    int64_t alone = load(s, &without, rate, seconds);
    int64_t beside = load(s, &with, rate, seconds);
    n = MIN(n_lags, (int64_t)LAGS_MAX);
    qsort(lags, (size_t)n, sizeof(*lags), by_size);
    printf("{\"alone\":%lld,\"beside\":%lld,\"p50\":%.1f,\"p99\":%.1f}\n", (long long)alone,
           (long long)beside, (double)lags[n / 2] / 1000, (double)lags[n * 99 / 100] / 1000);
    store_free(s);
    free(lags);
    return 0;
}
