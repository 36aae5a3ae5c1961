/* SPDX-License-Identifier: Apache-2.0 */
#include "db/fixture.h"

#include <pthread.h>

#include "core/request/request.h"

static const char sql_schema[] = "CREATE TABLE core_quota (tenant_id TEXT NOT NULL, name TEXT NOT"
                                 " NULL, used BIGINT NOT NULL, PRIMARY KEY (tenant_id, name))";

struct taking {
    struct app *app;
    struct store *s;
    const char *tenant, *plan, *what;
    int64_t n;
};

static int take_run(struct db *db, void *ctx, struct err *e)
{
    const struct taking *t = ctx;
    struct principal who = { 0 };
    struct call c = { .app = t->app, .db = db, .who = &who };

    snprintf(who.plan, sizeof(who.plan), "%s", t->plan);
    snprintf(c.tenant.s, sizeof(c.tenant.s), "%s", t->tenant);
    return quota_take(&c, t->what, t->n, e);
}

static int take(struct fixture *f, const char *tenant, const char *plan, const char *what,
                int64_t n)
{
    struct app app = { 0 };
    struct taking t = { &app, f->s, tenant, plan, what, n };

    return store_write(f->s, take_run, &t, &f->e);
}

static void what_is_over_a_quota_is_refused_with_its_numbers(void **state)
{
    struct fixture *f = *state;

    fixture_open(f);
    ok(f, fixture_write(f, sql_schema));
    for (int i = 0; i < 10; i++)
        ok(f, take(f, "a", "starter", "instances", 1));
    fails_with(f, take(f, "a", "starter", "instances", 1), ERR_QUOTA_EXCEEDED);
    assert_string_equal(f->e.msg, "quota 'instances' is 10 and 10 are in use");
    ok(f, take(f, "b", "starter", "instances", 10));
    ok(f, take(f, "a", "starter", "queues", 1));
    ok(f, take(f, "a", "starter", "instances", -3));
    ok(f, take(f, "a", "starter", "instances", 2));
    fails_with(f, take(f, "a", "starter", "instances", 2), ERR_QUOTA_EXCEEDED);
    ok(f, take(f, "a", "starter", "instances", 1));
    fails_with(f, take(f, "c", "starter", "instances", 11), ERR_QUOTA_EXCEEDED);
    assert_string_equal(f->e.msg, "quota 'instances' is 10 and 0 are in use");
}

static void giving_back_never_goes_below_nothing(void **state)
{
    struct fixture *f = *state;

    fixture_open(f);
    ok(f, fixture_write(f, sql_schema));
    ok(f, take(f, "a", "starter", "instances", -5));
    ok(f, take(f, "a", "starter", "instances", 2));
    ok(f, take(f, "a", "starter", "instances", -5));
    assert_int_equal(fixture_int(f, "SELECT used FROM core_quota"), 0);
    ok(f, take(f, "a", "free", "instances", 1));
    ok(f, take(f, "a", "enterprise", "instances", 50));
    ok(f, take(f, "a", "free", "instances", -1)); /* over the plan, and still given back */
    assert_int_equal(fixture_int(f, "SELECT used FROM core_quota"), 50);
    ok(f, take(f, "", "free", "instances", 1)); /* of no tenant */
    assert_int_equal(fixture_int(f, "SELECT COUNT(*) FROM core_quota"), 1);
    ok(f, take(f, "a", "free", "unheard of", INT64_C(1) << 40));
}

struct racer {
    struct fixture *f;
    int taken;
};

static void *racer_main(void *arg)
{
    struct racer *r = arg;
    struct app app = { 0 };
    struct taking t = { &app, r->f->s, "a", "standard", "instances", 1 };
    struct err e;

    for (int i = 0; i < 30; i++)
        r->taken += store_write(r->f->s, take_run, &t, &e) == 0;
    return NULL;
}

static void takers_at_once_never_share_the_last_one(void **state)
{
    struct fixture *f = *state;
    struct racer r[4];
    pthread_t t[4];
    int all = 0;

    fixture_open(f);
    ok(f, fixture_write(f, sql_schema));
    for (int i = 0; i < 4; i++) {
        r[i] = (struct racer){ f, 0 };
        pthread_create(&t[i], NULL, racer_main, &r[i]);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], NULL);
        all += r[i].taken;
    }
    assert_int_equal(all, 50);
    assert_int_equal(fixture_int(f, "SELECT used FROM core_quota"), 50);
}

int main(void)
{
    static const struct fixture_test tests[] = {
        BOTH(what_is_over_a_quota_is_refused_with_its_numbers),
        BOTH(giving_back_never_goes_below_nothing),
        BOTH(takers_at_once_never_share_the_last_one),
    };

    return fixture_run("quota", tests, ARRAY_LEN(tests));
}
