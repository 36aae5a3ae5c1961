/* SPDX-License-Identifier: Apache-2.0 */
#include "db/fixture.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "core/loop/due.h"
#include "core/loop/reconcile.h"
#include "core/request/request.h"

struct thing {
    struct uuid id, tenant_id;
    enum mode mode;
    int64_t revision;
    int64_t steps;
};

/* clang-format off */
#define T struct thing
static const struct field thing_fields[] = {
    FIELD_UUID(T, id,              0, .doc = "Id."),
    FIELD_UUID(T, tenant_id,       0, .doc = "Tenant."),
    FIELD_ENUM(T, mode, enum mode, 0, .names = mode_names, .doc = "Mode."),
    FIELD_INT (T, revision,        0, .doc = "Revision."),
    FIELD_INT (T, steps,           0, .doc = "Steps."),
};
#undef T
static const struct record thing_record = RECORD(thing, "things", thing_fields);
/* clang-format on */

static const char sql_schema[] =
    "CREATE TABLE things (id TEXT NOT NULL PRIMARY KEY, tenant_id TEXT NOT NULL, mode TEXT NOT"
    " NULL, revision BIGINT NOT NULL, steps BIGINT NOT NULL)";
static const int64_t T0 = INT64_C(1767225600000000);

/* ---- a loop whose visits do what the test says */

static struct {
    _Atomic int visits, now, most;
    enum { DO_SETTLE, DO_AGAIN, DO_FAIL, DO_FORGET, DO_SIGNAL, DO_STEP, DO_SLEEP } what;
    int64_t in;
    _Atomic int64_t attempts; /* as the last visit was told */
    _Atomic bool gone;
    bool ran, forgets;
} script;

static int thing_visit(struct visit *v, struct err *e);
static const struct reconciler restless = {
    .name = "restless",
    .record = &thing_record,
    .visit = thing_visit,
    .every = SECONDS(30),
    .backoff = { SECONDS(1), SECONDS(8) },
    .sweep = "SELECT id FROM things WHERE steps < 0",
};
static const struct reconciler calm = {
    .name = "calm",
    .record = &thing_record,
    .visit = thing_visit,
    .backoff = { SECONDS(1), SECONDS(8) },
};
/* Its visits hang until the test lets them go. */
static atomic_bool hang;
static atomic_int hanging;
static int hung_visit(struct visit *v, struct err *e _unused_)
{
    hanging++;
    while (hang)
        usleep(1000);
    return visit_settled(v);
}
static const struct reconciler hung = {
    .name = "hung",
    .record = &thing_record,
    .visit = hung_visit,
};
static const struct reconciler *const loops[] = { &restless, &calm, &hung, NULL };
static const struct service service = { .name = "thing", .loops = loops };
static const struct service *const services[] = { &service, NULL };

struct due_call {
    const struct reconciler *r;
    struct uuid id;
    int64_t at;
};

static int due_call_run(struct call *c, void *arg, struct err *e)
{
    const struct due_call *d = arg;

    return call_due(c, d->r, &d->id, d->at, e);
}

static void signal_row(struct app *app, const struct reconciler *r, const char *id, int64_t at)
{
    struct due_call d = { .r = r, .at = at };
    struct err e;

    snprintf(d.id.s, sizeof(d.id.s), "%s", id);
    if (app_write(app, due_call_run, &d, &e) < 0)
        fail_msg("%s (%s)", e.msg, e.cause);
}

static int step_run(struct visit *v, struct call *c, void *arg, struct err *e)
{
    struct thing *t = v->row;

    (void)arg;
    assert_ptr_equal(v->call, c);
    assert_true(uuid_eq(&c->tenant, &t->tenant_id));
    assert_int_equal(c->who->mode, t->mode);
    t->steps++;
    t->revision++;
    return db_update(c->db, c->arena, &thing_record, t, FIELD_SET(thing, steps, revision), e);
}

static int thing_visit(struct visit *v, struct err *e)
{
    int at_once = atomic_fetch_add(&script.now, 1) + 1;
    int rc = 0;

    if (at_once > script.most)
        script.most = at_once;
    atomic_fetch_add(&script.visits, 1);
    script.attempts = v->attempts;
    script.gone = v->row == NULL;
    switch (script.what) {
    case DO_SETTLE:
        rc = visit_settled(v);
        break;
    case DO_AGAIN:
        rc = visit_again(v, script.in);
        break;
    case DO_FAIL:
        rc = err_set(e, ERR_ENGINE_UNAVAILABLE, "as it was told");
        break;
    case DO_FORGET:
        rc = visit_forget(v);
        break;
    case DO_SIGNAL:
        script.what = DO_SETTLE;
        signal_row(v->app, v->loop, v->id.s, v->now + script.in);
        rc = script.forgets ? visit_forget(v) : visit_settled(v);
        break;
    case DO_STEP:
        rc = visit_write(v, step_run, NULL, &script.ran, e);
        if (rc == 0)
            rc = visit_write(v, step_run, NULL, &script.ran, e);
        break;
    case DO_SLEEP:
        usleep(2000);
        rc = visit_settled(v);
        break;
    }
    atomic_fetch_sub(&script.now, 1);
    return rc;
}

/* ---- a small app around it */

struct small {
    struct fixture *f;
    struct app app;
    struct config config;
    struct clock clock;
};

static void small_open(struct small *s, struct fixture *f, bool real)
{
    static const struct migration_set set = { "core", core_migrations };

    memset(&script, 0, sizeof(script));
    fixture_open(f);
    ok(f, store_migrate(f->s, &set, 1, &f->e));
    if (fixture_write(f, "UPDATE things SET steps = steps") < 0)
        ok(f, fixture_write(f, sql_schema));
    *s = (struct small){ .f = f };
    s->clock = clock_fake(T0);
    s->config.region = "local";
    s->config.reconcilers = 4;
    s->config.default_plan = "free";
    s->app = (struct app){ .config = &s->config,
                           .clock = real ? clock_system() : &s->clock,
                           .store = f->s,
                           .postgres = f->postgres };
    s->app.o = (struct app_opts){ .services = services, .workers = 4, .manual_loops = !real };
    ok(f, reconcile_open(&s->app, &f->e));
    ok(f, reconcile_start(&s->app, &f->e));
}

static void small_close(struct small *s)
{
    reconcile_stop(&s->app);
    reconcile_close(&s->app);
}
#define SMALL(s, real)                     \
    _cleanup_(small_close) struct small s; \
    small_open(&s, *state, real)

static void drain(struct small *s)
{
    ok(s->f, reconcile_drain(&s->app, &s->f->e));
}

static int visits_after(struct small *s, int64_t later)
{
    int before = script.visits;

    clock_advance(&s->clock, later);
    drain(s);
    return script.visits - before;
}

static int64_t due_rows(struct small *s)
{
    return fixture_int(s->f, "SELECT COUNT(*) FROM core_due");
}

static void make_thing(struct small *s, const char *id, int steps)
{
    char sql[200];

    snprintf(sql, sizeof(sql), "INSERT INTO things VALUES ('%s', 'tenant', 'test', 1, %d)", id,
             steps);
    ok(s->f, fixture_write(s->f, sql));
}

/* ---- */

static void a_settled_row_comes_again_after_its_time_and_on_a_signal(void **state)
{
    SMALL(s, false);

    drain(&s);
    assert_int_equal(script.visits, 0);
    signal_row(&s.app, &restless, "a", T0);
    assert_int_equal(visits_after(&s, 0), 1);
    assert_true(script.gone);
    assert_int_equal(visits_after(&s, SECONDS(29)), 0);
    assert_int_equal(visits_after(&s, SECONDS(1)), 1);
    signal_row(&s.app, &restless, "a", T0);
    assert_int_equal(visits_after(&s, 0), 1);
    signal_row(&s.app, &restless, "a", T0 + SECONDS(40)); /* in ten seconds */
    assert_int_equal(visits_after(&s, SECONDS(9)), 0);
    assert_int_equal(visits_after(&s, SECONDS(1)), 1);
}

static void a_row_without_a_time_rests_until_a_signal(void **state)
{
    SMALL(s, false);

    signal_row(&s.app, &calm, "a", T0);
    assert_int_equal(visits_after(&s, 0), 1);
    assert_int_equal(due_rows(&s), 0);
    assert_int_equal(visits_after(&s, SECONDS(100000)), 0);
    signal_row(&s.app, &calm, "a", 0);
    assert_int_equal(visits_after(&s, 0), 1);
}

static void a_visit_says_when_to_come_again(void **state)
{
    SMALL(s, false);

    script.what = DO_AGAIN;
    script.in = SECONDS(5);
    signal_row(&s.app, &calm, "a", T0);
    assert_int_equal(visits_after(&s, 0), 1);
    assert_int_equal(visits_after(&s, SECONDS(4)), 0);
    assert_int_equal(visits_after(&s, SECONDS(1)), 1);
    script.what = DO_FORGET;
    assert_int_equal(visits_after(&s, SECONDS(5)), 1);
    assert_int_equal(due_rows(&s), 0);
}

static void a_failing_visit_backs_off_and_counts(void **state)
{
    static const int64_t waits[] = { 1, 2, 4, 8, 8 };
    SMALL(s, false);

    script.what = DO_FAIL;
    signal_row(&s.app, &restless, "a", T0);
    assert_int_equal(visits_after(&s, 0), 1);
    for (size_t i = 0; i < ARRAY_LEN(waits); i++) {
        assert_int_equal(visits_after(&s, SECONDS(waits[i]) * 7 / 10), 0);
        assert_int_equal(visits_after(&s, SECONDS(waits[i]) * 3 / 10), 1);
        assert_int_equal(script.attempts, i + 1);
    }
    script.what = DO_SETTLE;
    assert_int_equal(visits_after(&s, SECONDS(8)), 1);
    assert_int_equal(visits_after(&s, SECONDS(30)), 1);
    assert_int_equal(script.attempts, 0);
}

static void a_signal_during_a_visit_is_not_lost(void **state)
{
    static const int64_t when[] = { 0, SECONDS(5), SECONDS(7200) };
    SMALL(s, false);

    for (size_t i = 0; i < 2 * ARRAY_LEN(when); i++) {
        script.what = DO_SIGNAL;
        script.forgets = i % 2;
        script.in = when[i / 2];
        signal_row(&s.app, &calm, "a", 0);
        int n = visits_after(&s, 0);
        n += visits_after(&s, MIN(script.in, SECONDS(60)));
        assert_int_equal(n, 2);
        assert_int_equal(due_rows(&s), 0);
    }
}

static int claim_run(struct db *db, void *ctx, struct err *e)
{
    return due_claim(db, ctx, e);
}

struct renewing {
    struct uuid id;
    int64_t until;
};

static int renew_run(struct db *db, void *ctx, struct err *e)
{
    struct renewing *r = ctx;

    return due_renew(db, "calm", &r->id, "dead.1", r->until, e);
}

static void a_visit_that_was_cut_short_is_made_again_when_its_lease_ends(void **state)
{
    SMALL(s, false);
    struct due_claim c = {
        .loop = "calm", .now = T0, .until = T0 + SECONDS(60), .want = 9, .seats = 9
    };

    c.by = "dead.1";
    signal_row(&s.app, &calm, "a", T0);
    ok(s.f, store_write(s.f->s, claim_run, &c, &s.f->e));
    assert_int_equal(c.n, 1);
    assert_string_equal(c.got[0].id.s, "a");
    assert_true(c.next == DUE_NEVER);
    assert_int_equal(visits_after(&s, SECONDS(59)), 0);
    struct renewing r = { c.got[0].id, T0 + SECONDS(100) };
    ok(s.f, store_write(s.f->s, renew_run, &r, &s.f->e));
    assert_int_equal(visits_after(&s, SECONDS(40)), 0);
    assert_int_equal(visits_after(&s, SECONDS(1)), 1);
    assert_int_equal(due_rows(&s), 0);
}

static void a_signal_of_a_leased_row_waits_for_the_lease(void **state)
{
    SMALL(s, false);
    struct due_claim c = {
        .loop = "calm", .now = T0, .until = T0 + SECONDS(60), .want = 9, .seats = 9
    };

    c.by = "other.1";
    signal_row(&s.app, &calm, "a", T0);
    ok(s.f, store_write(s.f->s, claim_run, &c, &s.f->e));
    signal_row(&s.app, &calm, "a", T0);
    assert_int_equal(visits_after(&s, SECONDS(59)), 0);
    assert_int_equal(visits_after(&s, SECONDS(1)), 1);
}

static void the_next_process_on_sqlite_does_not_wait_for_leases(void **state)
{
    SMALL(s, false);
    struct due_claim c = {
        .loop = "calm", .now = T0, .until = T0 + SECONDS(60), .want = 9, .seats = 9
    };

    c.by = "dead.1";
    signal_row(&s.app, &calm, "a", T0);
    ok(s.f, store_write(s.f->s, claim_run, &c, &s.f->e));
    ok(s.f, reconcile_start(&s.app, &s.f->e));
    assert_int_equal(visits_after(&s, 0), 1);
}

/* A claim of "calm" that goes on where the last one ended. */
static void claim_on(struct small *s, struct due_claim *c, int64_t later)
{
    c->now += later;
    c->until = c->now + SECONDS(60);
    c->from = c->front;
    ok(s->f, store_write(s->f->s, claim_run, c, &s->f->e));
}

static void backlog_of_hog(struct small *s)
{
    for (int i = 10; i < 50; i++) {
        char sql[200];

        snprintf(sql, sizeof(sql),
                 "INSERT INTO core_due (loop, id, due_at, lease_until, attempts, tenant_id)"
                 " VALUES ('calm', 'hog-%d', %lld, 0, 0, 'hog')",
                 i, (long long)T0 + i);
        ok(s->f, fixture_write(s->f, sql));
    }
}

static void claims_pass_over_the_backlog_of_who_holds_his_share_once(void **state)
{
    SMALL(s, false);
    struct due_claim c = { .loop = "calm", .now = T0, .want = 1, .seats = 8, .used = 3 };

    c.by = "us.1";
    for (c.n_holds = 0; c.n_holds < 3; c.n_holds++)
        c.holds[c.n_holds] = (struct uuid){ "hog" };
    backlog_of_hog(&s);
    claim_on(&s, &c, SECONDS(1));
    assert_int_equal(c.n, 0);
    assert_true(c.held_back && c.next == DUE_NEVER);
    assert_int_equal(c.front.n_passed, 1);
    assert_true(c.front.floor == c.now - 1);
    signal_row(&s.app, &calm, "nobodys", c.now);
    claim_on(&s, &c, SECONDS(1));
    assert_int_equal(c.n, 1);
    assert_string_equal(c.got[0].id.s, "nobodys");
    /* The same claim again, as after a transaction that was undone. */
    ok(s.f, fixture_write(s.f, "UPDATE core_due SET due_at = lease_until - 60000000,"
                               " lease_until = 0 WHERE id = 'nobodys'"));
    c.from.floor = MIN(c.from.floor, c.now);
    ok(s.f, store_write(s.f->s, claim_run, &c, &s.f->e));
    assert_int_equal(c.n, 1);
    /* His come in their order when he holds less, before what came later. */
    signal_row(&s.app, &calm, "later", c.now);
    c.n_holds = 0;
    c.used = 0;
    c.want = 3;
    claim_on(&s, &c, SECONDS(1));
    assert_int_equal(c.n, 3);
    assert_string_equal(c.got[0].id.s, "hog-10");
    assert_string_equal(c.got[1].id.s, "hog-11");
    assert_true(c.next <= c.now); /* as many as were wanted: there are more */
    c.want = 9;
    claim_on(&s, &c, SECONDS(1));
    assert_true(c.n > 1);
    assert_int_equal(fixture_int(s.f, "SELECT COUNT(*) FROM core_due WHERE id = 'later'"
                                      " AND lease_until > 0"),
                     1);
}

static void what_is_made_due_before_the_floor_is_found_when_it_is_lowered(void **state)
{
    SMALL(s, false);
    struct due_claim c = { .loop = "calm", .now = T0, .want = 9, .seats = 9 };

    c.by = "us.1";
    claim_on(&s, &c, SECONDS(9));
    assert_int_equal(c.n, 0);
    signal_row(&s.app, &calm, "a", T0);
    claim_on(&s, &c, SECONDS(1));
    assert_int_equal(c.n, 0);
    c.front.floor = T0; /* as the signal says */
    claim_on(&s, &c, SECONDS(1));
    assert_int_equal(c.n, 1);
}

/* A process whose visit has begun and does not end. */
static void victim(struct fixture *f, int told)
{
    struct small s;

    small_open(&s, f, true);
    hang = true;
    signal_row(&s.app, &hung, "a", 0);
    while (!hanging)
        usleep(1000);
    if (write(told, "x", 1) == 1)
        pause();
    _exit(1);
}

static void a_process_killed_amid_a_visit_loses_none(void **state)
{
    struct fixture *f = *state;
    struct small s;
    int pipe_[2];
    char c;

    assert_int_equal(pipe(pipe_), 0);
    pid_t pid = fork();
    if (pid == 0)
        victim(f, pipe_[1]);
    close(pipe_[1]);
    assert_int_equal(read(pipe_[0], &c, 1), 1);
    close(pipe_[0]);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);

    small_open(&s, f, false);
    assert_int_equal(due_rows(&s), 1);
    hang = false;
    hanging = 0;
    drain(&s);
    assert_int_equal(hanging, 1);
    assert_int_equal(due_rows(&s), 0);
    small_close(&s);
}

static void a_sweep_makes_due_what_the_table_lacks(void **state)
{
    SMALL(s, false);
    char id[16];

    for (int i = 0; i < 600; i++) {
        snprintf(id, sizeof(id), "swept-%d", i);
        make_thing(&s, id, i < 300 ? -1 : 1);
    }
    assert_int_equal(visits_after(&s, 0), 300);
    assert_int_equal(due_rows(&s), 300);
    assert_int_equal(visits_after(&s, 0), 0);
}

static void a_visit_writes_only_the_row_it_knows(void **state)
{
    SMALL(s, false);

    make_thing(&s, "a", 0);
    script.what = DO_STEP;
    signal_row(&s.app, &calm, "a", T0);
    assert_int_equal(visits_after(&s, 0), 1);
    assert_true(script.ran);
    assert_int_equal(fixture_int(s.f, "SELECT steps FROM things"), 2);
    assert_int_equal(fixture_int(s.f, "SELECT revision FROM things"), 3);
    script.ran = true;
    signal_row(&s.app, &calm, "gone", T0);
    assert_int_equal(visits_after(&s, 0), 1);
    assert_false(script.ran);
}

static int meddle_step(struct visit *v, struct call *c, void *arg, struct err *e)
{
    (void)v, (void)c, (void)e;
    *(bool *)arg = true;
    return 0;
}

static void a_row_that_changed_meanwhile_is_not_written(void **state)
{
    SMALL(s, false);
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    struct thing stale = { .id = { "a" }, .tenant_id = { "tenant" }, .revision = 1 };
    struct visit v = { .app = &s.app, .arena = &a, .loop = &calm, .id = stale.id, .row = &stale };
    bool ran = true, called = false;

    make_thing(&s, "a", 0);
    ok(s.f, fixture_write(s.f, "UPDATE things SET revision = 2"));
    ok(s.f, visit_write(&v, meddle_step, &called, &ran, &s.f->e));
    assert_false(ran);
    assert_false(called);
    assert_ptr_equal(v.row, &stale);
    ok(s.f, fixture_write(s.f, "UPDATE things SET revision = 1"));
    ok(s.f, visit_write(&v, meddle_step, &called, &ran, &s.f->e));
    assert_true(ran);
    assert_true(called);
}

static void wait_visits(int n)
{
    for (int i = 0; i < 2000 && script.visits < n; i++)
        usleep(5000);
    assert_int_equal(script.visits, n);
}

static void threads_visit_what_is_signalled_each_row_once(void **state)
{
    SMALL(s, true);
    char id[16];

    script.what = DO_SLEEP;
    for (int i = 0; i < 200; i++) {
        snprintf(id, sizeof(id), "row-%d", i);
        signal_row(&s.app, &calm, id, 0);
    }
    wait_visits(200);
    assert_true(script.most > 1 && script.most <= 4);
    usleep(50000);
    assert_int_equal(script.visits, 200);
    assert_int_equal(due_rows(&s), 0);
}

static void a_signal_wakes_a_worker_at_once(void **state)
{
    enum { ROUNDS = 100 };
    SMALL(s, true);

    usleep(100000);
    for (int i = 0; i < ROUNDS; i++) {
        signal_row(&s.app, &calm, "a", 0);
        wait_visits(i + 1); /* long before the timer's next round */
        usleep(3000);
    }
}

static void a_loop_that_hangs_does_not_hold_up_the_others(void **state)
{
    SMALL(s, true);
    char id[16];

    hang = true;
    for (int i = 0; i < 20; i++) {
        snprintf(id, sizeof(id), "hung-%d", i);
        signal_row(&s.app, &hung, id, 0);
    }
    for (int i = 0; i < 20; i++) {
        snprintf(id, sizeof(id), "calm-%d", i);
        signal_row(&s.app, &calm, id, 0);
    }
    wait_visits(20);
    for (int i = 0; i < 2000 && due_rows(&s) != 20; i++)
        usleep(5000); /* a visit is counted before its row is done with */
    assert_int_equal(due_rows(&s), 20);
    hang = false;
    for (int i = 0; i < 1000 && due_rows(&s); i++)
        usleep(5000);
    assert_int_equal(due_rows(&s), 0);
}

static void rows_of_a_tenant(struct small *s, const char *tenant, int n)
{
    char text[160];

    for (int i = 0; i < n; i++) {
        struct uuid id;

        snprintf(id.s, sizeof(id.s), "%s-%d", tenant, i);
        make_thing(s, id.s, 0);
        snprintf(text, sizeof(text), "UPDATE things SET tenant_id = '%s' WHERE id = '%s'", tenant,
                 id.s);
        ok(s->f, fixture_write(s->f, text));
        reconcile_signal(&s->app, &hung, &id);
    }
}

static void wait_hanging(int n)
{
    for (int i = 0; i < 2000 && hanging < n; i++)
        usleep(2000);
    usleep(100000);
    assert_int_equal(hanging, n);
}

static void slow_visits_of_one_tenant_do_not_hold_up_another(void **state)
{
    SMALL(s, true);

    hang = true;
    hanging = 0;
    rows_of_a_tenant(&s, "hog", 20);
    wait_hanging(2); /* of four seats */
    rows_of_a_tenant(&s, "other", 1);
    wait_hanging(3);
    hang = false;
    for (int i = 0; i < 1000 && due_rows(&s); i++)
        usleep(5000);
    assert_int_equal(due_rows(&s), 0); /* those that were held back came, too */
    assert_int_equal(hanging, 21);
}

static void a_later_time_is_kept_by_the_timer(void **state)
{
    SMALL(s, true);

    signal_row(&s.app, &calm, "a", clock_wall(clock_system()) + MILLIS(200));
    usleep(100000);
    assert_int_equal(script.visits, 0);
    wait_visits(1);
    struct uuid b = { "b" };
    reconcile_signal(&s.app, &calm, &b);
    wait_visits(2);
}

int main(void)
{
    static const struct fixture_test tests[] = {
        BOTH(a_settled_row_comes_again_after_its_time_and_on_a_signal),
        BOTH(a_row_without_a_time_rests_until_a_signal),
        BOTH(a_visit_says_when_to_come_again),
        BOTH(a_failing_visit_backs_off_and_counts),
        BOTH(a_signal_during_a_visit_is_not_lost),
        BOTH(a_visit_that_was_cut_short_is_made_again_when_its_lease_ends),
        BOTH(a_signal_of_a_leased_row_waits_for_the_lease),
        BOTH(claims_pass_over_the_backlog_of_who_holds_his_share_once),
        BOTH(what_is_made_due_before_the_floor_is_found_when_it_is_lowered),
        SQLITE(the_next_process_on_sqlite_does_not_wait_for_leases),
        SQLITE(a_process_killed_amid_a_visit_loses_none),
        BOTH(a_sweep_makes_due_what_the_table_lacks),
        BOTH(a_visit_writes_only_the_row_it_knows),
        BOTH(a_row_that_changed_meanwhile_is_not_written),
        BOTH(threads_visit_what_is_signalled_each_row_once),
        BOTH(a_signal_wakes_a_worker_at_once),
        BOTH(a_loop_that_hangs_does_not_hold_up_the_others),
        BOTH(slow_visits_of_one_tenant_do_not_hold_up_another),
        BOTH(a_later_time_is_kept_by_the_timer),
    };

    return fixture_run("reconcile", tests, ARRAY_LEN(tests));
}
