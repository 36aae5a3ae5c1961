/* SPDX-License-Identifier: Apache-2.0 */
/* What is bounded beside the printed limit: requests at once, their weight, and every queue. */
#include "tests/things.h"

enum { AT_ONCE = 100 };

static void crowd_is(struct world *w, size_t n)
{
    for (int i = 0; i < 1000 && park_count(world_app(w)->park) != n; i++)
        usleep(2000);
    CHECK_EQ(park_count(world_app(w)->park), n);
}

TEST(a_hundred_requests_of_a_credential_run_at_once_and_no_more)
{
    static const char *const keys[] = { "test-crowd", "test-testmode-crowd" };

    for (size_t k = 0; k < ARRAY_LEN(keys); k++) {
        _cleanup_(world_freep) struct world *w = world_new();
        int fds[AT_ONCE];

        for (int i = 0; i < AT_ONCE; i++)
            fds[i] = ask_begin(w, GET, "/wait?wait=20", keys[k], NULL, NULL);
        crowd_is(w, AT_ONCE);
        struct reply r = ask(w, GET, "/things", keys[k], NULL, NULL);
        CHECK_EQ(r.status, 429);
        CHECK_STR(r.code, "rate_limited");
        CHECK_STR(header(r, "Retry-After"), "1");
        CHECK(strstr(member(r, "error.message"), "100 requests") != NULL);
        CHECK_EQ(get(w, "/things").status, 200);
        close(fds[0]);
        crowd_is(w, AT_ONCE - 1);
        int status = 429; /* who left the park is answered next */
        for (int i = 0; i < 500 && status == 429; i++, usleep(2000))
            status = ask(w, GET, "/things", keys[k], NULL, NULL).status;
        CHECK_EQ(status, 200);
        for (int i = 1; i < AT_ONCE; i++)
            close(fds[i]);
        crowd_is(w, 0);
    }
}

static int many(struct world *w, int n, enum method m, const char *key, const char *headers)
{
    static int name;

    for (int i = 0; i < n; i++) {
        const char *body = m == POST ? fmt("{'name':'w%d'}", name++) : NULL;
        struct reply r = ask(w, m, "/things", key, headers, body);

        if (r.status == 429)
            return i;
    }
    return n;
}

TEST(a_write_weighs_five_a_read_one_and_a_304_nothing)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply list = get(w, "/things");
    const char *same =
        arena_printf(&world_app(w)->arena, "If-None-Match: %s", header(list, "ETag"));

    /* A limit of 3 and a burst of 3: six requests, and a weight of fifteen. */
    CHECK_EQ(many(w, 10, GET, "test-bursting-a", NULL), 6);
    CHECK_EQ(many(w, 10, GET, "test-bursting-b", same), 6);
    CHECK_EQ(many(w, 2, GET, "test-bursting-c", same), 2);
    CHECK_EQ(many(w, 10, POST, "test-bursting-c", NULL), 3);
    CHECK_EQ(many(w, 2, GET, "test-bursting-d", NULL), 2);
    CHECK_EQ(many(w, 10, POST, "test-bursting-d", NULL), 2);
    CHECK_EQ(many(w, 10, POST, "test-bursting-e", NULL), 3);
    struct reply r = ask(w, GET, "/things", "test-bursting-e", NULL, NULL);
    CHECK_EQ(r.status, 429);
    CHECK_STR(header(r, "Retry-After"), "60");
    CHECK_STR(header(r, "X-RateLimit-Limit"), "3");
    CHECK(strstr(member(r, "error.message"), "weight") != NULL);
    world_sleep(w, SECONDS(61));
    CHECK_EQ(many(w, 3, POST, "test-bursting-e", NULL), 3);
}

/* What holds every thread of a queue until it is let go. */
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    bool open;
    int ran;
};
#define GATE                                                          \
    {                                                                 \
        PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0 \
    }

static void gate_pass(struct gate *g)
{
    pthread_mutex_lock(&g->lock);
    while (!g->open)
        pthread_cond_wait(&g->moved, &g->lock);
    g->ran++;
    pthread_cond_broadcast(&g->moved);
    pthread_mutex_unlock(&g->lock);
}

/* Opens it and waits until all have passed. */
static void gate_open(struct gate *g, int all)
{
    pthread_mutex_lock(&g->lock);
    g->open = true;
    pthread_cond_broadcast(&g->moved);
    while (g->ran < all)
        pthread_cond_wait(&g->moved, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

static void pool_waits(void *ctx, void *worker _unused_)
{
    gate_pass(ctx);
}

static int job_runs(struct db *db _unused_, void *ctx _unused_, struct err *e _unused_)
{
    return 0;
}

static int job_waits(struct db *db _unused_, void *ctx, struct err *e _unused_)
{
    struct gate *g = ctx;

    pthread_mutex_lock(&g->lock);
    while (!g->open)
        pthread_cond_wait(&g->moved, &g->lock);
    pthread_mutex_unlock(&g->lock);
    return 0;
}

static void job_done(void *ctx, int rc _unused_, struct err *e _unused_)
{
    gate_pass(ctx);
}

static void is_overloaded(struct reply r)
{
    CHECK_EQ(r.status, 503);
    CHECK_STR(r.code, "overloaded");
    CHECK_STR(header(r, "Retry-After"), "1");
}

TEST(a_full_queue_of_the_workers_is_503_with_retry_after)
{
    _cleanup_(world_freep) struct world *w = world_new();
    static const enum lane lanes[] = { LANE_FRONT, LANE_READ, LANE_CALL };
    struct gate g = GATE;
    int n = 0;

    CHECK_EQ(get(w, "/things").status, 200); /* its credential is remembered */
    /* Each thread takes one out of the queue; then it is full for good. */
    for (int i = 0; i < 50; i++, usleep(2000))
        for (size_t lane = 0; lane < ARRAY_LEN(lanes); lane++)
            while (pool_submit(world_app(w)->lanes[lanes[lane]], pool_waits, &g))
                n++;
    struct reply wait = get(w, "/wait"), slow = post(w, "/long-things", "{'name':'one'}");
    struct reply stranger = ask(w, GET, "/things", "test-never-seen", NULL, NULL);
    int quick = get(w, "/v1/things").status;
    gate_open(&g, n);
    is_overloaded(wait);
    is_overloaded(slow);
    is_overloaded(stranger);
    if (!world_is_postgres(w))
        CHECK_EQ(quick, 200);
    CHECK(n > 1000);
    for (int i = 0; i < 100 && get(w, "/wait").status != 200; i++)
        usleep(10000);
    CHECK_EQ(get(w, "/wait").status, 200);
    CHECK_EQ(get(w, "/things").len, 0);
}

TEST(a_full_queue_of_the_writer_is_503_with_retry_after)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct gate g = GATE;
    struct db_job *jobs = calloc(100000, sizeof(*jobs));
    int n = 0;

    CHECK_EQ(get(w, "/things").status, 200);
    CHECK_EQ(as(w, AS_VIEWER, GET, "/things", NULL).status, 200);
    for (int i = 0; i < 50; i++, usleep(2000))
        for (; n < 100000; n++) {
            jobs[n] = (struct db_job){ n < 8 ? job_waits : job_runs, .done = job_done, .ctx = &g };
            if (!store_submit(world_app(w)->store, &jobs[n]))
                break;
        }
    struct reply r = with(w, POST, "/things", "Idempotency-Key: k", "{'name':'one'}");
    struct reply denied = as(w, AS_VIEWER, POST, "/things", "{'name':'one'}");
    gate_open(&g, n);
    is_overloaded(r);
    is_overloaded(denied);
    /* It was not done, and its key is free. */
    CHECK_EQ(with(w, POST, "/things", "Idempotency-Key: k", "{'name':'one'}").status, 201);
    free(jobs);
}

TEST(over_so_many_streams_there_is_no_room_for_one_more)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct shares *shares = world_app(w)->shares;
    struct flow all = { .key = FLOW_SYSTEM };
    struct fair_counts c;

    CHECK_EQ(get(w, "/stream").status, 200);
    shares_counts(shares, SHARE_STREAMS, &c);
    for (int i = 0; i < 500 && c.used > 0; i++, usleep(2000))
        shares_counts(shares, SHARE_STREAMS, &c);
    CHECK_EQ(shares_take(shares, SHARE_STREAMS, &all, c.seats), FAIR_OK);
    struct reply r = get(w, "/stream");
    shares_give(shares, SHARE_STREAMS, FLOW_SYSTEM, c.seats);
    is_overloaded(r);
    CHECK_EQ(get(w, "/stream").status, 200);
}

TESTS(bounds)
