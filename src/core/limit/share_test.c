/* SPDX-License-Identifier: Apache-2.0 */
/* One tenant holds all it may of each kind; what another one sees. */
#include "tests/things.h"

#include <fcntl.h>

#include "core/loop/sweep.h"

enum { CROWD = 400 };
static int fds[CROWD];

/* Of tenant one, by credentials of which none has too many requests at once. */
static const char *nth_key(int i)
{
    return fmt("test-hog%d", i / 50);
}

static void parked_are(struct world *w, size_t n)
{
    for (int i = 0; i < 1000 && park_count(world_app(w)->park) != n; i++)
        usleep(2000);
    CHECK_EQ(park_count(world_app(w)->park), n);
}

/* Those at work that hold a thread, and streams. */
static int64_t held_now(struct world *w)
{
    struct fair_counts c;

    shares_counts(world_app(w)->shares, SHARE_STREAMS, &c);
    return holding + c.used;
}

/* Begins 'n' requests and waits until 'held' of them are at work. */
static void hold_many(struct world *w, enum method m, const char *path, int n, int held)
{
    hold = true;
    for (int i = 0; i < n; i++) {
        fds[i] = ask_begin(w, m, path, nth_key(i), NULL, NULL);
        for (int k = 0; i == held - 1 && k < 2000 && held_now(w) < held; k++)
            usleep(2000);
    }
    CHECK_EQ(held_now(w), held);
}

/* Lets them end: how many were answered 200, 429 and 503. */
static void let_go(struct world *w, int n, int *ok, int *own, int *full)
{
    release(w);
    *ok = *own = *full = 0;
    for (int i = 0; i < n; i++) {
        struct reply r = ask_end(w, fds[i]);

        *ok += r.status == 200;
        *own += r.status == 429;
        *full += r.status == 503;
        if (r.status != 200)
            CHECK(atoll(header(r, "Retry-After")) >= 1);
        if (r.status == 429)
            CHECK_STR(r.code, "rate_limited");
    }
}

/* All kinds of work of another tenant, sign-in and health. */
static void others_notice_nothing(struct world *w)
{
    static int name;

    CHECK_EQ(as(w, AS_STRANGER, GET, "/things", NULL).status, 200);
    CHECK_EQ(as(w, AS_STRANGER, GET, "/v1/things", NULL).status, 200);
    CHECK_EQ(as(w, AS_STRANGER, GET, "/wait", NULL).status, 200);
    CHECK_EQ(as(w, AS_STRANGER, POST, "/things", fmt("{'name':'n%d'}", name++)).status, 201);
    CHECK_EQ(as(w, AS_STRANGER, POST, "/long-things", fmt("{'name':'n%d'}", name++)).status, 201);
    CHECK_EQ(as(w, AS_STRANGER, GET, "/stream", NULL).status, 200);
    CHECK_EQ(ask(w, GET, "/things", fmt("test-stranger-new%d", name++), NULL, NULL).status, 200);
    CHECK_EQ(as(w, AS_NOBODY, GET, "/health", NULL).status, 200);
    CHECK_EQ(as(w, AS_NOBODY, POST, "/auth/sign", NULL).status, 200);
}

TEST(long_calls_of_one_tenant_keep_no_other_waiting)
{
    _cleanup_(world_freep) struct world *w = world_new();
    int ok, own, full;

    hold_many(w, POST, "/hold", 100, 24);
    struct fair_counts c = { 0 };
    for (int i = 0; i < 2000 && c.waiting + c.held_back < 76; i++, usleep(2000))
        pool_counts(world_app(w)->lanes[LANE_CALL], &c);
    others_notice_nothing(w);
    CHECK_EQ(get(w, "/things").status, 200); /* nor do its own short ones wait */
    let_go(w, 100, &ok, &own, &full);
    CHECK_EQ(ok, 24 + 48); /* at work, and behind them in its own queue */
    CHECK_EQ(own + full, 28);
}

TEST(who_makes_many_tenants_has_one_share)
{
    _cleanup_(world_freep) struct world *w = world_new();

    hold = true;
    for (int i = 0; i < 40; i++)
        fds[i] = ask_begin(w, POST, "/hold", fmt("test-sybil%d", i), NULL, NULL);
    for (int i = 0; i < 2000 && holding < 24; i++)
        usleep(2000);
    usleep(50000);
    CHECK_EQ(holding, 24);
    others_notice_nothing(w);
    release(w);
    for (int i = 0; i < 40; i++)
        ask_end(w, fds[i]);
}

TEST(slow_reads_of_one_tenant_leave_threads_for_others)
{
    _cleanup_(world_freep) struct world *w = world_new();
    int ok, own, full;

    hold_many(w, GET, "/hold-read", 40, 2); /* of four threads */
    others_notice_nothing(w);
    let_go(w, 40, &ok, &own, &full);
    CHECK_EQ(ok, 40);
}

static void few_streams(struct config *c)
{
    c->share[SHARE_STREAMS].total = 256;
    c->share[SHARE_STREAMS].limit[4] = 96;
}

TEST(streams_of_one_tenant_leave_streams_for_others)
{
    world_configure = few_streams;
    _cleanup_(world_freep) struct world *w = world_new();
    world_configure = NULL;
    int ok, own, full;

    hold_many(w, GET, "/hold-stream", 120, 96);
    struct reply r = get(w, "/hold-stream");
    CHECK_EQ(r.status, 429);
    CHECK(strstr(member(r, "error.message"), "96 streams at once") != NULL);
    others_notice_nothing(w);
    /* Those that are refused may come after those that are not. */
    const char *refused = "brume_share_held_back{share=\"streams\"} 25\n";
    r = as(w, AS_OPERATOR, GET, "/metrics", NULL);
    for (int i = 0; i < 2000 && !strstr(r.body.p, refused); i++, usleep(2000))
        r = as(w, AS_OPERATOR, GET, "/metrics", NULL);
    CHECK(strstr(r.body.p, refused) != NULL);
    CHECK(strstr(r.body.p, "brume_share_used{share=\"streams\"} 96\n") != NULL);
    CHECK(strstr(r.body.p, "brume_share_seats{share=\"streams\"} 256\n") != NULL);
    CHECK(strstr(r.body.p, "brume_share_seats{share=\"visits\"}") != NULL);
    let_go(w, 120, &ok, &own, &full);
    CHECK_EQ(ok, 96);
    CHECK_EQ(own, 24);
}

static void few(struct config *c)
{
    for (int kind = 0; kind < SHARE_KINDS; kind++)
        c->share[kind].total = 8;
}

/* A world where there are eight of each. */
static struct world *small_world(void)
{
    void (*before)(struct config * c) = world_configure;

    world_configure = few;
    struct world *w = world_new();
    world_configure = before;
    return w;
}

TEST(parked_requests_of_one_tenant_leave_room_for_others)
{
    int refused = 0;

    _cleanup_(world_freep) struct world *w = small_world();

    for (int i = 0; i < 8; i++)
        fds[i] = ask_begin(w, GET, "/wait?wait=20", nth_key(i), NULL, NULL);
    usleep(50000);
    parked_are(w, 3); /* three eighths */
    int theirs = ask_begin(w, GET, "/wait?wait=20", "test-stranger", NULL, NULL);
    parked_are(w, 4);
    CHECK_EQ(as(w, AS_STRANGER, POST, "/things", "{'name':'x'}").status, 201);
    CHECK_EQ(ask_end(w, theirs).status, 200);
    CHECK_EQ(post(w, "/things", "{'name':'x'}").status, 201);
    for (int i = 0; i < 8; i++)
        refused += ask_end(w, fds[i]).status == 503;
    CHECK_EQ(refused, 5);
    /* What was held is free again. */
    struct fair_counts c;
    for (int i = 0; i < 500; i++, usleep(2000)) {
        shares_counts(world_app(w)->shares, SHARE_PARKED, &c);
        if (!c.used)
            break;
    }
    CHECK_EQ(c.used, 0);
}

static struct reply keyed(struct world *w, const char *who, int i)
{
    return ask(w, POST, "/things", who, fmt("Idempotency-Key: k%d", i),
               fmt("{'name':'%s-%d'}", strstr(who, "stranger") ? "s" : "t", i));
}

TEST(idempotency_records_are_shared_too)
{
    _cleanup_(world_freep) struct world *w = small_world();

    if (world_is_postgres(w)) /* there they are rows among the journal's own */
        return;
    for (int i = 0; i < 3; i++)
        CHECK_EQ(keyed(w, "test-owner", i).status, 201);
    CHECK_EQ(keyed(w, "test-owner", 3).status, 503);
    CHECK_EQ(post(w, "/things", "{'name':'without'}").status, 201);
    CHECK_EQ(keyed(w, "test-stranger", 0).status, 201);
    CHECK_STR(header(keyed(w, "test-owner", 1), "Idempotent-Replayed"), "true");
    world_restart(w);
    CHECK_STR(header(keyed(w, "test-owner", 1), "Idempotent-Replayed"), "true");
    CHECK_EQ(keyed(w, "test-owner", 3).status, 503);
    CHECK_EQ(keyed(w, "test-stranger", 1).status, 201);
    world_sleep(w, HOURS(25)); /* they have had their time */
    journal_sweep(world_app(w));
    CHECK_EQ(keyed(w, "test-owner", 3).status, 201);
}

TEST(idempotency_records_of_many_tenants_are_one_share_after_a_restart_too)
{
    _cleanup_(world_freep) struct world *w = small_world();

    if (world_is_postgres(w))
        return;
    for (int i = 0; i < 3; i++)
        CHECK_EQ(keyed(w, fmt("test-sybil%d", i), i).status, 201);
    CHECK_EQ(keyed(w, "test-sybil3", 3).status, 503);
    world_restart(w);
    CHECK_EQ(keyed(w, "test-sybil3", 3).status, 503);
    CHECK_EQ(keyed(w, "test-owner", 4).status, 201);
}

/* ---- what lasts ends with its credential */

static int revoke_run(struct call *c, void *key_id, struct err *e _unused_)
{
    call_revoke(c, NULL, key_id);
    return 0;
}

static void revoke_doomed(struct world *w)
{
    bool was = atomic_exchange(&doom, false), was_mute = atomic_exchange(&mute, false);
    struct principal who = { 0 };
    struct uuid none = { "" };
    struct err e;

    CHECK_EQ(test_lookup(NULL, NULL, NULL, STR("test-doomed"), &none, &who, &e), 0);
    doom = was;
    mute = was_mute;
    CHECK_EQ(app_write(world_app(w), revoke_run, &who.key_id, &e), 0);
}

TEST(a_parked_request_ends_with_its_credential)
{
    static const char *const paths[] = { "/wait?wait=20", "/wait-write?wait=20" };
    _cleanup_(world_freep) struct world *w = world_new();

    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        doom = false;
        int theirs = ask_begin(w, GET, paths[i], "test-owner", NULL, NULL);
        int fd = ask_begin(w, GET, paths[i], "test-doomed", NULL, NULL);
        parked_are(w, 2);
        revoke_doomed(w);
        usleep(50000);
        parked_are(w, 2); /* it looked, and still is somebody's */
        doom = true;
        revoke_doomed(w);
        if (world_is_postgres(w))
            world_sleep(w, SECONDS(1));
        CHECK_EQ(ask_end(w, fd).status, 401);
        parked_are(w, 1); /* the other one waits on */
        close(theirs);
    }
    doom = false;
}

TEST(a_stream_ends_with_its_credential)
{
    _cleanup_(world_freep) struct world *w = world_new();

    doom = false;
    hold = true;
    int theirs = ask_begin(w, GET, "/hold-stream", "test-owner", NULL, NULL);
    int fd = ask_begin(w, GET, "/hold-stream", "test-doomed", NULL, NULL);
    for (int i = 0; i < 1000 && held_now(w) < 2; i++)
        usleep(2000);
    CHECK_EQ(held_now(w), 2);
    doom = true;
    revoke_doomed(w);
    for (int i = 0; i < 2000 && held_now(w) > 1; i++)
        usleep(2000);
    CHECK_EQ(held_now(w), 1);
    close(fd);
    release(w);
    CHECK_EQ(ask_end(w, theirs).status, 200);
    doom = false;
}

TEST(a_long_call_ends_with_its_peer_and_its_credential)
{
    _cleanup_(world_freep) struct world *w = world_new();

    doom = false;
    hold = true;
    int theirs = ask_begin(w, POST, "/hold", "test-owner", NULL, NULL);
    int leaves = ask_begin(w, POST, "/hold", "test-member", NULL, NULL);
    int fd = ask_begin(w, POST, "/hold", "test-doomed", NULL, NULL);
    int keyed_fd = ask_begin(w, POST, "/hold", "test-owner", "Idempotency-Key: k", NULL);
    for (int i = 0; i < 1000 && holding < 4; i++)
        usleep(2000);
    CHECK_EQ(holding, 4);
    close(leaves);
    close(keyed_fd); /* its answer is kept for its retry */
    for (int i = 0; i < 2000 && holding > 3; i++)
        usleep(2000);
    CHECK_EQ(holding, 3);
    doom = true;
    revoke_doomed(w);
    for (int i = 0; i < 2000 && holding > 2; i++)
        usleep(2000);
    CHECK_EQ(holding, 2);
    CHECK_EQ(ask_end(w, fd).status, 503);
    release(w);
    CHECK_EQ(ask_end(w, theirs).status, 200);
    doom = false;
}

TEST(what_lasts_outlives_a_store_that_does_not_answer)
{
    _cleanup_(world_freep) struct world *w = world_new();

    doom = false;
    hold = true;
    int stream = ask_begin(w, GET, "/hold-stream", "test-doomed", NULL, NULL);
    int fd = ask_begin(w, POST, "/hold", "test-doomed", NULL, NULL);
    for (int i = 0; i < 1000 && held_now(w) < 2; i++)
        usleep(2000);
    CHECK_EQ(held_now(w), 2);
    mute = true;
    unsaid = 0;
    revoke_doomed(w);
    for (int i = 0; i < 2000 && unsaid < 4; i++) {
        clock_advance(world_clock(w), MILLIS(10));
        usleep(2000);
    }
    CHECK(unsaid >= 4); /* each asks until it is told */
    usleep(20000);
    CHECK_EQ(held_now(w), 2);
    doom = true;
    mute = false;
    for (int i = 0; i < 2000 && held_now(w) > 0; i++) {
        clock_advance(world_clock(w), MILLIS(10));
        usleep(2000);
    }
    CHECK_EQ(held_now(w), 0);
    CHECK_EQ(ask_end(w, fd).status, 503);
    close(stream);
    release(w);
    doom = false;
}

/* ---- bodies */

static const char part_of_a_body[] =
    "Content-Type: application/octet-stream\nContent-Length: 1000000";

static int64_t used(struct world *w, enum share_kind kind)
{
    struct fair_counts c;

    shares_counts(world_app(w)->shares, kind, &c);
    return c.used;
}

TEST(uploads_that_come_slowly_hold_no_thread)
{
    _cleanup_(world_freep) struct world *w = world_new();
    static char piece[300000];

    memset(piece, 'x', sizeof(piece));
    for (int i = 0; i < 32; i++) {
        fds[i] = ask_begin(w, PUT, "/raw", nth_key(i), part_of_a_body, NULL);
        CHECK_EQ(write(fds[i], piece, sizeof(piece)), sizeof(piece));
    }
    /* What has come is on the disk, and no handler runs. */
    for (int i = 0; i < 2000; i++, usleep(2000))
        if (used(w, SHARE_UPLOADS) == 32 && used(w, SHARE_UPLOAD_BYTES) >= 32 * 131072)
            break;
    CHECK_EQ(used(w, SHARE_UPLOADS), 32);
    CHECK(used(w, SHARE_UPLOAD_BYTES) >= 32 * 131072);
    struct fair_counts c;
    pool_counts(world_app(w)->lanes[LANE_CALL], &c);
    CHECK_EQ(c.used + c.waiting, 0);
    struct reply r = ask(w, PUT, "/raw", NULL, "Content-Type: application/octet-stream", "mine");
    CHECK_EQ(r.status, 429);
    CHECK(strstr(member(r, "error.message"), "32 uploads at once") != NULL);
    others_notice_nothing(w);
    r = ask(w, PUT, "/raw", "test-stranger", "Content-Type: application/octet-stream", "theirs");
    CHECK_EQ(member_int(r, "n"), 6);
    for (int i = 0; i < 32; i++) {
        for (int k = 0; i % 2 && k < 1000000 - 300000; k += 100000)
            CHECK_EQ(write(fds[i], piece, 100000), 100000);
        if (i % 2)
            CHECK_EQ(member_int(ask_end(w, fds[i]), "n"), 1000000);
        else
            close(fds[i]);
    }
    for (int i = 0; i < 1000 && used(w, SHARE_UPLOADS); i++)
        usleep(2000);
    CHECK_EQ(used(w, SHARE_UPLOADS), 0);
    CHECK_EQ(used(w, SHARE_UPLOAD_BYTES), 0);
}

static void few_bytes(struct config *c)
{
    c->share[SHARE_BODY_BYTES].total = 1 << 20;
    c->share[SHARE_UPLOAD_BYTES].total = 1 << 20;
}

TEST(bodies_in_memory_are_bounded_for_each_tenant)
{
    void (*before)(struct config * c) = world_configure;
    static char piece[100000], thing[100000], archive[450001];

    snprintf(thing, sizeof(thing), "{\"name\":\"x\",\"note\":\"%090000d\"}", 0);
    memset(archive, 'x', sizeof(archive) - 1);
    world_configure = few_bytes;
    _cleanup_(world_freep) struct world *w = world_new();
    world_configure = before;
    memset(piece, ' ', sizeof(piece));
    for (int i = 0; i < 4; i++) { /* most of it, and then no more */
        fds[i] = ask_begin(w, POST, "/things", nth_key(i),
                           "Content-Type: application/json\nContent-Length: 200000", NULL);
        CHECK_EQ(write(fds[i], piece, sizeof(piece)), sizeof(piece));
    }
    for (int i = 0; i < 1000 && used(w, SHARE_BODY_BYTES) < 4 * 6 * 16384; i++)
        usleep(2000);
    CHECK_EQ(used(w, SHARE_BODY_BYTES), 4 * 6 * 16384);
    struct reply r = post(w, "/things", thing);
    CHECK_EQ(r.status, 503);
    CHECK_STR(header(r, "Retry-After"), "1");
    r = as(w, AS_STRANGER, POST, "/things", thing);
    CHECK_EQ(r.status, 201);
    /* Over three eighths of what is for uploads, and over the piece that may come before that is
     * seen. */
    r = ask(w, PUT, "/raw", NULL, "Content-Type: application/octet-stream", archive);
    CHECK_EQ(r.status, 503);
    for (int i = 0; i < 4; i++)
        close(fds[i]);
    for (int i = 0; i < 1000 && used(w, SHARE_BODY_BYTES); i++)
        usleep(2000);
    CHECK_EQ(used(w, SHARE_BODY_BYTES), 0);
}

/* How often SQLite's log has begun anew: salt-1 of its header ("The WAL File Format"). */
static uint32_t log_begun(const char *log)
{
    _cleanup_close_ int fd = open(log, O_RDONLY | O_CLOEXEC);
    uint8_t salt[4] = { 0 };

    CHECK(fd >= 0);
    CHECK_EQ(pread(fd, salt, sizeof(salt), 16), (ssize_t)sizeof(salt));
    return (uint32_t)salt[0] << 24 | (uint32_t)salt[1] << 16 | (uint32_t)salt[2] << 8 | salt[3];
}

/* SQLite's log cannot be put back into the database past what somebody still reads. */
TEST(what_lasts_holds_no_snapshot_of_the_database)
{
    enum { MOST = 4000 }; /* 360 MB; the log begins anew after some 32 MiB */
    _cleanup_(world_freep) struct world *w = world_new();
    static char thing[100000];
    char log[300];
    int n = 0;

    if (world_is_postgres(w))
        return;
    snprintf(log, sizeof(log), "%s/store.db-wal", app_config(world_app(w))->state_dir);
    hold = true;
    int stream = ask_begin(w, GET, "/hold-stream", "test-owner", NULL, NULL);
    int call = ask_begin(w, POST, "/hold", "test-owner", NULL, NULL);
    for (int i = 0; i < 1000 && held_now(w) < 2; i++)
        usleep(2000);
    CHECK_EQ(held_now(w), 2);
    for (uint32_t before = log_begun(log); n < MOST && log_begun(log) == before; n++) {
        snprintf(thing, sizeof(thing), "{\"name\":\"n%d\",\"note\":\"%090000d\"}", n, 0);
        CHECK_EQ(ask(w, POST, "/things", "test-rich", NULL, thing).status, 201);
    }
    CHECK(n < MOST);
    release(w);
    ask_end(w, stream);
    ask_end(w, call);
}

/* ---- the writer's queue */

static _Atomic int order;
struct marked {
    struct db_job job;
    int at;
};

static int mark(struct db *db _unused_, void *ctx, struct err *e _unused_)
{
    struct marked *m = ctx;

    m->at = ++order;
    return 0;
}

static int wait_for_test(struct db *db _unused_, void *ctx _unused_, struct err *e _unused_)
{
    hold_on();
    return 0;
}

static _Atomic int answered;
static void done(void *ctx _unused_, int rc _unused_, struct err *e _unused_)
{
    answered++;
}

TEST(a_write_takes_its_tenants_turn_and_not_the_end_of_the_queue)
{
    enum { MANY = 1000 };
    _cleanup_(world_freep) struct world *w = world_new();
    struct store *s = world_app(w)->store;
    struct marked *many = calloc(MANY + 1, sizeof(*many));
    struct db_job gates[8];
    struct uuid one = { "one" }, two = { "two" };

    CHECK_EQ(get(w, "/things").status, 200);
    hold = true;
    order = answered = 0;
    for (int i = 0; i < 2; i++) { /* as many as the world has writers */
        gates[i] = (struct db_job){ .run = wait_for_test, .done = done };
        CHECK(store_submit(s, &gates[i]));
    }
    for (int i = 0; i < 1000 && holding < (world_is_postgres(w) ? 2 : 1); i++)
        usleep(2000);
    for (int i = 0; i <= MANY; i++) {
        many[i].job = (struct db_job){ .run = mark, .done = done, .ctx = &many[i] };
        many[i].job.turn.flow.key = flow_of(i < MANY ? &one : &two);
        CHECK(store_submit(s, &many[i].job));
    }
    release(w);
    for (int i = 0; i < 5000 && answered < MANY + 3; i++)
        usleep(2000);
    CHECK_EQ(answered, MANY + 3);
    CHECK(many[MANY].at <= 4);
    free(many);
}

TESTS(shares)
