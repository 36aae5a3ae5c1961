/* SPDX-License-Identifier: Apache-2.0 */
#include "db/fixture.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "core/loop/consumer.h"
#include "core/loop/happen.h"
#include "core/loop/sweep.h"
#include "core/request/request.h"
#include "os/thread.h"

struct thing {
    struct uuid id;
    int64_t n;
};

/* clang-format off */
#define T struct thing
static const struct field thing_fields[] = {
    FIELD_UUID(T, id, 0, .doc = "Id."),
    FIELD_INT (T, n,  0, .doc = "Number."),
};
#undef T
static const struct record thing_record = RECORD(thing, "things", thing_fields, .prefix = "thing");
/* clang-format on */

static const char sql_seen[] =
    "CREATE TABLE seen (at /*lite: INTEGER PRIMARY KEY AUTOINCREMENT */"
    " /*pg: BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY */, consumer TEXT NOT NULL,"
    " event TEXT NOT NULL, seq BIGINT NOT NULL, n BIGINT NOT NULL, tenant TEXT, mode BIGINT)";
static const int64_t T0 = INT64_C(1767225600000000);
static const struct uuid one = { "01890000-0000-7000-8000-000000000001" };
static const struct uuid two = { "01890000-0000-7000-8000-000000000002" };

/* ---- consumers that do what the test says */

static struct {
    _Atomic int64_t poison; /* the event of this number fails; -1: none */
    _Atomic int64_t stop;   /* at this number the process stops; -1: nowhere */
    _Atomic int calls;
    _Atomic int told; /* where it says so */
    _Atomic int slow; /* microseconds an event takes */
} script = { -1, -1, 0, -1, 0 };

static int see(struct call *c, const char *consumer, const struct happened *h, struct err *e)
{
    int64_t n = json_get_int(h->object, "n", -1);

    script.calls++;
    usleep((useconds_t)script.slow);
    assert_true(uuid_eq(&c->tenant, &h->tenant));
    assert_int_equal(c->who->mode, h->mode);
    if (n == script.stop && script.told >= 0 && write(script.told, "x", 1) == 1)
        pause();
    TRY(db_exec(c->db,
                "INSERT INTO seen (consumer, event, seq, n, tenant, mode)"
                " VALUES ($1, $2, $3, $4, $5, $6)",
                ARGS(A(consumer), A(h->id), A(h->seq), A(n), A(&h->tenant), A((int)h->mode)), e));
    if (n == script.poison && strcmp(consumer, "made") == 0)
        return err_set(e, ERR_INVALID_STATE, "as it was told");
    return 0;
}

static int see_made(struct call *c, const struct happened *h, struct err *e)
{
    return see(c, "made", h, e);
}

static int see_all(struct call *c, const struct happened *h, struct err *e)
{
    return see(c, "all", h, e);
}

static int echo(struct call *c, const struct happened *h, struct err *e)
{
    struct thing t = { .id = one, .n = json_get_int(h->object, "n", -1) };

    return call_event(c, "echo.heard", &thing_record, &t, e);
}

static const struct consumer made = {
    .name = "made",
    .types = (const char *const[]){ "thing.made", "other.*", NULL },
    .handle = see_made,
    .backoff = { SECONDS(2), SECONDS(8) },
};
static const struct consumer all = {
    .name = "all",
    .types = (const char *const[]){ "*", NULL },
    .handle = see_all,
    .from_start = true,
};
static const struct consumer echoes = {
    .name = "echoes",
    .types = (const char *const[]){ "thing.loud", NULL },
    .handle = echo,
};
static const struct consumer *const consumers[] = { &made, &all, &echoes, NULL };
static const struct service service = { .name = "thing", .consumers = consumers };
static const struct service *const services[] = { &service, NULL };
static const struct service quiet = { .name = "thing" };
static const struct service *const none[] = { &quiet, NULL };

/* ---- a small app around them */

struct small {
    struct fixture *f;
    struct store *own; /* a second process' */
    struct app app;
    struct config config;
    struct clock clock;
};

static void small_app(struct small *s, struct store *store, const struct service *const *list,
                      bool real)
{
    s->clock = clock_fake(T0);
    s->config.region = "local";
    s->config.default_plan = "free";
    s->config.events_days = 1;
    s->config.audit_days = 1;
    s->app = (struct app){ .config = &s->config,
                           .clock = real ? clock_system() : &s->clock,
                           .store = store,
                           .services = list,
                           .idem = idem_new(),
                           .postgres = s->f->postgres };
    s->app.park = park_new(&s->app);
    s->app.o.services = list;
    ok(s->f, consumers_open(&s->app, &s->f->e));
    if (real)
        consumers_start(&s->app);
}

static void small_open(struct small *s, struct fixture *f, const struct service *const *list,
                       bool real)
{
    static const struct migration_set set = { "core", core_migrations };

    *s = (struct small){ .f = f };
    fixture_open(f);
    ok(f, store_migrate(f->s, &set, 1, &f->e));
    if (fixture_write(f, "UPDATE seen SET n = n") < 0)
        ok(f, fixture_write(f, sql_seen));
    small_app(s, f->s, list, real);
}

static void small_close(struct small *s)
{
    consumers_stop(&s->app);
    consumers_close(&s->app);
    park_free(s->app.park);
    idem_free(s->app.idem);
    store_free(s->own);
    script.poison = -1;
    script.stop = -1;
    script.told = -1;
    script.calls = 0;
    script.slow = 0;
}
#define SMALL(s, list, real)               \
    _cleanup_(small_close) struct small s; \
    small_open(&s, *state, list, real)

struct tell {
    const char *type;
    int64_t from, n;
};

static int tell_run(struct call *c, void *arg, struct err *e)
{
    const struct tell *t = arg;
    struct thing thing = { .id = one };

    for (int64_t i = 0; i < t->n; i++) {
        thing.n = t->from + i;
        TRY(call_event(c, t->type, &thing_record, &thing, e));
    }
    return 0;
}

/* One row of the journal with 'n' events. */
static void tell(struct app *app, const struct uuid *tenant, const char *type, int64_t from,
                 int64_t n)
{
    struct tell t = { type, from, n };
    struct err e;

    if (system_call_run(app, tenant, MODE_TEST, tell_run, &t, &e) < 0)
        fail_msg("%s (%s)", e.msg, e.cause);
}

static void drain(struct small *s)
{
    ok(s->f, consumers_drain(&s->app, &s->f->e));
}

static int64_t seen(struct small *s, const char *consumer)
{
    char sql[100];

    snprintf(sql, sizeof(sql), "SELECT COUNT(*) FROM seen WHERE consumer = '%s'", consumer);
    return fixture_int(s->f, sql);
}

/* Each number of 0 to n - 1 once, and in their order. */
static void in_order(struct small *s, const char *consumer, int64_t n)
{
    char sql[200];

    assert_int_equal(seen(s, consumer), n);
    snprintf(sql, sizeof(sql),
             "SELECT COUNT(*) FROM (SELECT n, ROW_NUMBER() OVER (ORDER BY at) - 1 AS i FROM seen"
             " WHERE consumer = '%s') AS x WHERE n <> i",
             consumer);
    assert_int_equal(fixture_int(s->f, sql), 0);
}

static void wait_seen(struct small *s, const char *consumer, int64_t n)
{
    for (int i = 0; i < 2000 && seen(s, consumer) < n; i++)
        usleep(5000);
    assert_int_equal(seen(s, consumer), n);
}

/* ---- */

static void a_pattern_fits_a_type(void **state)
{
    static const char *const types[] = { "queue.created", "instance.*", NULL };
    static const char *const any[] = { "*", NULL };

    (void)state;
    assert_true(happen_fits(types, STR("queue.created")));
    assert_false(happen_fits(types, STR("queue.created2")));
    assert_false(happen_fits(types, STR("queue.create")));
    assert_true(happen_fits(types, STR("instance.")));
    assert_true(happen_fits(types, STR("instance.running")));
    assert_false(happen_fits(types, STR("instance")));
    assert_true(happen_fits(any, STR("")));
    assert_true(happen_fits(any, STR("a.b")));
}

static void events_come_once_and_in_order_in_their_tenant(void **state)
{
    SMALL(s, services, false);

    for (int i = 0; i < 20; i++)
        tell(&s.app, i % 2 ? &two : &one, i % 3 ? "thing.made" : "other.made", i, 1);
    tell(&s.app, &one, "third.made", 20, 1);
    drain(&s);
    in_order(&s, "made", 20);
    in_order(&s, "all", 21);
    assert_int_equal(fixture_int(s.f, "SELECT COUNT(DISTINCT event) FROM seen"), 21);
    assert_int_equal(fixture_int(s.f, "SELECT COUNT(*) FROM seen WHERE tenant LIKE '%2'"
                                      " AND mode = 1 AND n % 2 = 1"),
                     20);
    drain(&s);
    assert_int_equal(seen(&s, "all"), 21);
}

static void a_new_consumer_begins_where_it_says(void **state)
{
    SMALL(before, none, false);

    for (int i = 0; i < 3; i++)
        tell(&before.app, &one, "thing.made", i, 1);
    _cleanup_(small_close) struct small s = { .f = *state };
    small_app(&s, s.f->s, services, false);
    tell(&s.app, &one, "thing.made", 3, 1);
    drain(&s);
    assert_int_equal(seen(&s, "made"), 1);
    in_order(&s, "all", 4);
}

static void a_row_of_many_events_takes_several_turns(void **state)
{
    SMALL(s, services, false);

    tell(&s.app, &one, "thing.made", 0, 1300);
    script.slow = 100; /* more than a turn's time for a few dozens */
    tell(&s.app, &one, "thing.made", 1300, 100);
    drain(&s);
    in_order(&s, "made", 1400);
    in_order(&s, "all", 1400);
    assert_int_equal(fixture_int(s.f, "SELECT SUM(part) FROM core_cursor"), 0);
}

static void an_event_that_fails_holds_up_its_own_consumer_alone(void **state)
{
    SMALL(s, services, false);

    for (int i = 0; i < 9; i++)
        tell(&s.app, &one, "thing.made", i, 1);
    script.poison = 5;
    drain(&s);
    in_order(&s, "made", 5);
    in_order(&s, "all", 9);
    int calls = script.calls;
    clock_advance(&s.clock, SECONDS(1)); /* its time has not come */
    drain(&s);
    assert_int_equal(script.calls, calls);
    for (int i = 0; i < 4; i++) { /* 2, 4, 8, 8 seconds */
        clock_advance(&s.clock, SECONDS(8));
        drain(&s);
        assert_int_equal(script.calls, ++calls);
    }
    in_order(&s, "made", 5);
    script.poison = -1;
    clock_advance(&s.clock, SECONDS(8));
    drain(&s);
    in_order(&s, "made", 9);
    in_order(&s, "all", 9);
}

static void what_a_handler_tells_is_of_its_events_tenant(void **state)
{
    SMALL(s, services, false);

    tell(&s.app, &one, "thing.loud", 1, 2);
    tell(&s.app, &two, "thing.loud", 3, 1);
    drain(&s);
    assert_int_equal(fixture_int(s.f, "SELECT COUNT(*) FROM seen WHERE consumer = 'all'"), 6);
    assert_int_equal(fixture_int(s.f, "SELECT COUNT(*) FROM journal WHERE tenant_id LIKE '%1'"
                                      " AND events LIKE '%echo.heard%'"),
                     2);
    assert_int_equal(fixture_int(s.f, "SELECT COUNT(*) FROM journal WHERE tenant_id LIKE '%2'"
                                      " AND events LIKE '%echo.heard%'"),
                     1);
}

static void a_commit_wakes_the_thread(void **state)
{
    SMALL(s, services, true);

    for (int i = 0; i < 10; i++) {
        int64_t began = clock_mono(clock_system());

        tell(&s.app, &one, "thing.made", i, 1);
        for (int k = 0; k < 2000 && seen(&s, "made") <= i; k++)
            usleep(1000);
        if (!s.f->postgres) /* it polls once a second */
            assert_true(clock_mono(clock_system()) - began < MILLIS(900));
    }
    in_order(&s, "made", 10);
}

static void a_sweep_leaves_what_is_not_read(void **state)
{
    SMALL(s, services, false);

    for (int i = 0; i < 4; i++)
        tell(&s.app, &one, "thing.made", i, 1);
    script.poison = 2;
    drain(&s);
    clock_advance(&s.clock, DAYS(2));
    journal_sweep(&s.app);
    assert_int_equal(fixture_int(s.f, "SELECT COUNT(*) FROM journal"), 2);
    script.poison = -1;
    drain(&s);
    journal_sweep(&s.app);
    assert_int_equal(fixture_int(s.f, "SELECT COUNT(*) FROM journal"), 0);
    in_order(&s, "made", 4);
    tell(&s.app, &one, "thing.made", 4, 1);
    drain(&s);
    in_order(&s, "made", 5);
}

/* A process whose handler has come to an event amid a turn, and goes no further. */
static void victim(struct fixture *f, int told, int64_t stop)
{
    struct small s;

    script.stop = stop;
    script.told = told;
    small_open(&s, f, services, true);
    for (;;)
        pause();
}

static void a_process_killed_amid_a_turn_leaves_no_gap_and_does_nothing_twice(void **state)
{
    struct fixture *f = *state;
    {
        SMALL(s, services, false);
        for (int i = 0; i < 100; i++)
            tell(&s.app, &one, "thing.made", i, 1);
    }
    for (int64_t stop = 0; stop < 100; stop += 33) {
        int pipe_[2];
        char c;

        store_free(TAKE(f->s));
        assert_int_equal(pipe(pipe_), 0);
        pid_t pid = fork();
        if (pid == 0)
            victim(f, pipe_[1], stop);
        close(pipe_[1]);
        assert_int_equal(read(pipe_[0], &c, 1), 1);
        close(pipe_[0]);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        _cleanup_(small_close) struct small s;
        small_open(&s, f, services, false);
        /* The dead process' lease, by another clock. */
        ok(f, fixture_write(f, "UPDATE core_cursor SET lease_until = 0"));
        if (stop == 99)
            drain(&s);
    }
    _cleanup_(small_close) struct small s = { .f = f };
    small_app(&s, f->s, services, false);
    drain(&s);
    in_order(&s, "made", 100);
    in_order(&s, "all", 100);
}

/* ---- PostgreSQL: commits come in any order, and from several processes */

static void a_late_commit_is_not_passed_over(void **state)
{
    SMALL(s, services, true);
    PGconn *late = PQconnectdb(s.f->url);

    PQclear(PQexec(late, "BEGIN"));
    PQclear(PQexec(late, "INSERT INTO journal (id, at, mode, status, tenant_id, events) VALUES"
                         " ('x', 1, 'test', 200, '01890000-0000-7000-8000-000000000001',"
                         " '[{\"id\":\"evt_0\",\"type\":\"thing.made\",\"object\":{\"n\":0}}]')"));
    for (int i = 1; i < 4; i++)
        tell(&s.app, &one, "thing.made", i, 1);
    usleep(300000);
    assert_int_equal(seen(&s, "made"), 0);
    PQclear(PQexec(late, "COMMIT"));
    PQfinish(late);
    wait_seen(&s, "made", 4);
    wait_seen(&s, "all", 4);
    in_order(&s, "made", 4);
}

struct teller {
    struct small *s;
    const struct uuid *tenant;
};

static void *teller_run(void *arg)
{
    const struct teller *t = arg;

    for (int i = 0; i < 300; i++)
        tell(&t->s->app, t->tenant, "thing.made", i, 1);
    return NULL;
}

static void of_two_processes_one_runs_a_consumer_and_the_other_takes_over(void **state)
{
    SMALL(a, services, true);
    _cleanup_(small_close) struct small b = { .f = a.f };
    struct teller tellers[4] = { { &a, &one }, { &b, &two }, { &a, &one }, { &b, &two } };
    pthread_t threads[4];

    b.own = store_open(&(struct store_opts){ .url = a.f->url, .workers = 4 }, &a.f->e);
    assert_non_null(b.own);
    small_app(&b, b.own, services, true);
    for (int i = 0; i < 4; i++)
        threads[i] = thread_start("teller", teller_run, &tellers[i]);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    wait_seen(&a, "made", 1200);
    wait_seen(&a, "all", 1200);
    assert_int_equal(fixture_int(a.f, "SELECT COUNT(DISTINCT event) FROM seen"), 1200);
    assert_int_equal(fixture_int(a.f, "SELECT COUNT(*) FROM (SELECT seq, LAG(seq) OVER (PARTITION"
                                      " BY consumer ORDER BY at) AS p FROM seen) AS x"
                                      " WHERE seq < p"),
                     0);
    consumers_stop(&a.app); /* it gives its leases back */
    tell(&a.app, &one, "thing.made", 300, 1);
    wait_seen(&a, "made", 1201);
}

int main(void)
{
    static const struct fixture_test tests[] = {
        SQLITE(a_pattern_fits_a_type),
        BOTH(events_come_once_and_in_order_in_their_tenant),
        BOTH(a_new_consumer_begins_where_it_says),
        BOTH(a_row_of_many_events_takes_several_turns),
        BOTH(an_event_that_fails_holds_up_its_own_consumer_alone),
        BOTH(what_a_handler_tells_is_of_its_events_tenant),
        BOTH(a_commit_wakes_the_thread),
        BOTH(a_sweep_leaves_what_is_not_read),
        BOTH(a_process_killed_amid_a_turn_leaves_no_gap_and_does_nothing_twice),
        POSTGRES(a_late_commit_is_not_passed_over),
        POSTGRES(of_two_processes_one_runs_a_consumer_and_the_other_takes_over),
    };

    return fixture_run("consumer", tests, ARRAY_LEN(tests));
}
