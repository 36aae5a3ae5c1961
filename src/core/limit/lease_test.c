/* SPDX-License-Identifier: Apache-2.0 */
/* Windows that several processes share: what is let through by all of them together. */
#include "core/limit/lease.h"
#include "tests/things.h"

enum { REPLICAS = 3 };

struct replica {
    struct world *w;
    struct leases *l;
    const char *key;
    int64_t limit, burst;
    int most, allowed, denied;
    struct ratelimit_answer last;
};

static bool one(struct replica *r)
{
    struct clock *clock = world_clock(r->w);
    struct err e;

    if (!lease_take(r->l, r->key, r->limit, clock_wall(clock), clock_mono(clock), &r->last) &&
        lease_ask(r->l, world_app(r->w)->store, clock, r->key, r->limit, r->burst, &r->last, &e) <
            0)
        abort();
    r->allowed += r->last.allowed;
    r->denied += !r->last.allowed;
    return r->last.allowed;
}

static void *run(void *arg)
{
    struct replica *r = arg;

    for (int i = 0; i < r->most; i++)
        one(r);
    return NULL;
}

/* All at once, each 'most' requests; how many were let through. */
static int all(struct replica *r, int most)
{
    pthread_t threads[REPLICAS];
    int sum = 0;

    for (int i = 0; i < REPLICAS; i++) {
        r[i].allowed = r[i].denied = 0;
        r[i].most = most;
        threads[i] = thread_start("replica", run, &r[i]);
    }
    for (int i = 0; i < REPLICAS; i++) {
        pthread_join(threads[i], NULL);
        sum += r[i].allowed;
    }
    return sum;
}

static void begin(struct replica *r, struct world *w, const char *key, int64_t limit, int64_t burst)
{
    for (int i = 0; i < REPLICAS; i++)
        r[i] = (struct replica){
            .w = w, .l = leases_new(100), .key = key, .limit = limit, .burst = burst
        };
}

static void end(struct replica *r)
{
    for (int i = 0; i < REPLICAS; i++)
        leases_free(r[i].l);
}

TEST(replicas_together_let_exactly_the_plans_number_through)
{
    _cleanup_(world_freep) struct world *w = world_new();
    static const int64_t limits[] = { 1, 7, 60, 1000 };
    struct replica r[REPLICAS];

    if (!world_is_postgres(w))
        return;
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        begin(r, w, fmt("key-%zu", i), limits[i], 0);
        CHECK_EQ(all(r, 1100), limits[i]);
        for (int k = 0; k < REPLICAS; k++) {
            CHECK(!one(&r[k]));
            CHECK_EQ(r[k].last.remaining, 0);
            CHECK_EQ(r[k].last.retry_after, 60);
            CHECK_EQ(r[k].last.reset, clock_wall(world_clock(w)) + SECONDS(60));
        }
        clock_advance(world_clock(w), SECONDS(59));
        CHECK_EQ(all(r, 10), 0);
        CHECK_EQ(r[0].last.retry_after, 1);
        clock_advance(world_clock(w), SECONDS(1));
        CHECK_EQ(all(r, 1100), limits[i]);
        end(r);
    }
}

TEST(what_a_replica_has_taken_ends_with_the_window)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct replica r[REPLICAS];

    if (!world_is_postgres(w))
        return;
    begin(r, w, "key", 800, 0);
    CHECK(one(&r[0]));
    CHECK_EQ(r[0].last.remaining, 799);
    CHECK(one(&r[0])); /* of what it has */
    CHECK_EQ(r[0].last.remaining, 798);
    CHECK(one(&r[1]));
    CHECK(r[1].last.remaining < 798 && r[1].last.remaining >= 600);
    clock_advance(world_clock(w), SECONDS(60));
    CHECK_EQ(all(r, 1000), 800);
    end(r);
}

TEST(a_burst_allowance_is_shared_too_and_refilled)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct replica r[REPLICAS];

    if (!world_is_postgres(w))
        return;
    begin(r, w, "key", 20, 40);
    CHECK_EQ(all(r, 200), 60);
    clock_advance(world_clock(w), SECONDS(60)); /* a window, and a tenth of the burst */
    CHECK_EQ(all(r, 200), 24);
    clock_advance(world_clock(w), SECONDS(600));
    CHECK_EQ(all(r, 200), 60);
    end(r);
}

TEST(a_limit_is_counted_by_requests_and_kept_over_a_restart)
{
    _cleanup_(world_freep) struct world *w = world_new();
    int passed = 0;

    if (!world_is_postgres(w))
        return;
    for (int i = 0; i < 2; i++) {
        passed += ask(w, GET, "/things", "test-poor", NULL, NULL).status == 200;
        world_restart(w);
    }
    for (int i = 0; i < 5; i++)
        passed += ask(w, GET, "/things", "test-poor", NULL, NULL).status == 200;
    CHECK_EQ(passed, 3);
    world_sleep(w, HOURS(2)); /* the sweep */
    CHECK_EQ(world_int(w, "SELECT count(*) FROM core_rate"), 0);
    CHECK_EQ(ask(w, GET, "/things", "test-poor", NULL, NULL).status, 200);
}

TESTS(lease)
