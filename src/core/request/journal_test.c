/* SPDX-License-Identifier: Apache-2.0 */
/* What outlives a request: idempotency, audit, events; and many requests at once. */
#include "tests/things.h"

/* ---- idempotency */

TEST(a_retry_with_its_key_is_answered_byte_for_byte_and_done_once)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply a = with(w, POST, "/things", "Idempotency-Key: \"k1\"", "{'name':'one'}");
    struct reply b = with(w, POST, "/things", "Idempotency-Key: k1", "{'name':'one'}");

    CHECK_EQ(a.status, 201);
    CHECK_EQ(b.status, 201);
    CHECK(header(a, "Idempotent-Replayed") == NULL);
    CHECK_STR(header(b, "Idempotent-Replayed"), "true");
    CHECK_STR(header(b, "X-Made"), "yes");
    CHECK_STR(header(b, "ETag"), header(a, "ETag"));
    CHECK(str_eq(a.body, b.body));
    CHECK_EQ(get(w, "/things").len, 1);
    /* Another caller's key is another key. */
    CHECK_EQ(
        ask(w, POST, "/things", "test-stranger", "Idempotency-Key: k1", "{'name':'one'}").status,
        201);
}

TEST(an_idempotency_key_that_is_no_string_is_400)
{
    _cleanup_(world_freep) struct world *w = world_new();
    static const char *const bad[] = { "\"open", "open\"",   "\"",      "\"\"",
                                       "a\"b",   "\"a\"b\"", "\"a\\\"", "\"a\\b\"",
                                       "a\tb",   "\"a\tb\"", "\xc3\xa4" };
    static const char *const good[] = { "a b", "\"a \\\" b\"", "\"a\\\\\"", "a\\b", "it's" };

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct reply r =
            with(w, POST, "/things", fmt("Idempotency-Key: %s", bad[i]), "{'name':'x'}");

        CHECK_EQ(r.status, 400);
        CHECK_STR(member(r, "error.details.0.field"), "Idempotency-Key");
    }
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        CHECK_EQ(with(w, POST, "/things", fmt("Idempotency-Key: %s", good[i]),
                      fmt("{'name':'good%zu'}", i))
                     .status,
                 201);
}

TEST(a_key_used_with_another_request_is_422_and_a_bad_key_400)
{
    _cleanup_(world_freep) struct world *w = world_new();

    with(w, POST, "/things", "Idempotency-Key: k1", "{'name':'one'}");
    CHECK_EQ(with(w, POST, "/things", "Idempotency-Key: k1", "{'name':'two'}").status, 422);
    CHECK_EQ(with(w, POST, "/v1/things", "Idempotency-Key: k1", "{'name':'one'}").status, 422);
    CHECK_EQ(
        with(w, POST, "/things", "Idempotency-Key: k1\nX-API-Version: 2026-01-01", "{'name':'one'}")
            .status,
        422);
    char longest[300];
    memset(longest, 'k', 256);
    longest[256] = '\0';
    CHECK_EQ(with(w, POST, "/things", fmt("Idempotency-Key: %s", longest), "{'name':'x'}").status,
             400);
    longest[255] = '\0';
    CHECK_EQ(with(w, POST, "/things", fmt("Idempotency-Key: %s", longest), "{'name':'x'}").status,
             201);
}

TEST(what_a_handler_decided_is_kept_and_what_it_never_saw_is_not)
{
    _cleanup_(world_freep) struct world *w = world_new();

    post(w, "/things", "{'name':'taken'}");
    CHECK_EQ(with(w, POST, "/things", "Idempotency-Key: a", "{'name':'taken'}").status, 409);
    struct reply r = with(w, POST, "/things", "Idempotency-Key: a", "{'name':'taken'}");
    CHECK_EQ(r.status, 409);
    CHECK_STR(header(r, "Idempotent-Replayed"), "true");
    CHECK_EQ(with(w, POST, "/things", "Idempotency-Key: b", "{'name':'over quota'}").status, 403);
    CHECK_STR(header(with(w, POST, "/things", "Idempotency-Key: b", "{'name':'over quota'}"),
                     "Idempotent-Replayed"),
              "true");
    CHECK_EQ(with(w, POST, "/things", "Idempotency-Key: c", "{}").status, 400);
    CHECK_EQ(with(w, POST, "/things", "Idempotency-Key: c", "{'name':'c'}").status, 201);
    const char *none = "/things/01890000-0000-7000-8000-000000000000";
    CHECK_EQ(with(w, PATCH, none, "Idempotency-Key: d", "{'size':1}").status, 404);
    CHECK(header(with(w, PATCH, none, "Idempotency-Key: d", "{'size':1}"), "Idempotent-Replayed") ==
          NULL);
}

TEST(records_outlive_a_restart_and_end_after_a_day)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply a = with(w, POST, "/things", "Idempotency-Key: k1", "{'name':'one'}");

    CHECK_EQ(with(w, POST, "/long-things", "Idempotency-Key: l1", "{'name':'long'}").status, 201);
    world_restart(w);
    struct reply b = with(w, POST, "/things", "Idempotency-Key: k1", "{'name':'one'}");
    CHECK_STR(header(b, "Idempotent-Replayed"), "true");
    CHECK(str_eq(a.body, b.body));
    b = with(w, POST, "/long-things", "Idempotency-Key: l1", "{'name':'long'}");
    CHECK_EQ(b.status, 201);
    CHECK_STR(header(b, "Idempotent-Replayed"), "true");
    world_sleep(w, HOURS(25));
    b = with(w, POST, "/things", "Idempotency-Key: k1", "{'name':'one'}");
    CHECK_EQ(b.status, 409);
    CHECK(header(b, "Idempotent-Replayed") == NULL);
}

static struct reply put_raw(struct world *w, const char *key, const char *body)
{
    return with(w, PUT, "/raw",
                fmt("Content-Type: application/octet-stream\nIdempotency-Key: %s", key), body);
}

TEST(another_raw_body_under_the_same_key_is_422)
{
    _cleanup_(world_freep) struct world *w = world_new();
    static char text[300001];

    memset(text, 'a', sizeof(text) - 1);
    struct reply a = put_raw(w, "r1", text), b = put_raw(w, "r1", text);
    CHECK_EQ(a.status, 200);
    CHECK(header(a, "Idempotent-Replayed") == NULL);
    CHECK_STR(header(b, "Idempotent-Replayed"), "true");
    CHECK(str_eq(a.body, b.body));
    text[299999] = 'b';
    struct reply c = put_raw(w, "r1", text);
    CHECK_EQ(c.status, 422);
    CHECK_STR(c.code, "idempotency_key_reused");
    text[299999] = '\0';
    CHECK_EQ(put_raw(w, "r1", text).status, 422);
    CHECK_EQ(put_raw(w, "r2", text).status, 200);
    world_restart(w);
    CHECK_STR(header(put_raw(w, "r2", text), "Idempotent-Replayed"), "true");
    CHECK_EQ(put_raw(w, "r2", "another").status, 422);
    CHECK_EQ(with(w, POST, "/things", "Idempotency-Key: r2", "{'name':'one'}").status, 422);
}

TEST(a_long_call_that_was_cut_short_goes_on_where_it_ended)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *h = "Idempotency-Key: cut";

    cut_short = true;
    CHECK_EQ(with(w, POST, "/twice-things", h, "{'name':'one'}").status, 503);
    cut_short = false;
    CHECK_EQ(get(w, "/things").len, 1);
    CHECK_EQ(with(w, POST, "/twice-things", h, "{'name':'other'}").status, 422);
    world_restart(w);
    CHECK_EQ(with(w, POST, "/twice-things", h, "{'name':'other'}").status, 422);
    struct reply a = with(w, POST, "/twice-things", h, "{'name':'one'}");
    CHECK_EQ(a.status, 201);
    CHECK(header(a, "Idempotent-Replayed") == NULL);
    CHECK_STR(a.id, member(get(w, "/things"), "0.id"));
    struct reply b = with(w, POST, "/twice-things", h, "{'name':'one'}");
    CHECK_STR(header(b, "Idempotent-Replayed"), "true");
    CHECK(str_eq(a.body, b.body));
    CHECK_EQ(get(w, "/things").len, 1);
    world_restart(w);
    CHECK_STR(header(with(w, POST, "/twice-things", h, "{'name':'one'}"), "Idempotent-Replayed"),
              "true");
}

TEST(a_long_call_that_failed_gives_its_key_back_and_one_that_decided_keeps_it)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *h = "Idempotency-Key: once";
    int before = effects;

    CHECK_EQ(with(w, POST, "/once", h, "{'name':'refused'}").status, 400);
    CHECK_EQ(effects, before);
    CHECK_EQ(with(w, POST, "/once", h, "{'name':'done'}").status, 200);
    CHECK_STR(header(with(w, POST, "/once", h, "{'name':'done'}"), "Idempotent-Replayed"), "true");
    CHECK_EQ(effects, before + 1);
    h = "Idempotency-Key: lost";
    CHECK_EQ(with(w, POST, "/once", h, "{'name':'lost'}").status, 503);
    for (int i = 0; i < 2; i++) {
        struct reply r = with(w, POST, "/once", h, "{'name':'lost'}");

        CHECK_EQ(r.status, 409);
        CHECK_STR(r.code, "invalid_state");
        if (i == 0)
            world_restart(w);
    }
    CHECK_EQ(effects, before + 2);
}

static int others_claim(struct db *db, void *ctx _unused_, struct err *e)
{
    return db_exec(db,
                   "UPDATE journal SET idem_answer = 'begun ' || object_id || ' another'"
                   " WHERE idem_answer LIKE 'begun %'",
                   NO_ARGS, e);
}

/* As another process does whose retry got the lock, for the connection that held it ended. */
static void taken_over(struct call *c)
{
    struct err e;

    between = NULL;
    CHECK_EQ(store_write(c->app->store, others_claim, NULL, &e), 0);
}

static int64_t claims(struct world *w, const char *like)
{
    return world_int(w, fmt("SELECT count(*) FROM journal WHERE idem_answer LIKE '%s'", like));
}

TEST(a_run_that_a_retry_has_taken_over_does_nothing_more)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *h = "Idempotency-Key: long";

    if (!world_is_postgres(w))
        return; /* one process, which knows what it runs */
    between = taken_over;
    struct reply r = with(w, POST, "/twice-things", h, "{'name':'one'}");
    CHECK_EQ(r.status, 409);
    CHECK_STR(r.code, "idempotency_in_progress");
    CHECK_EQ(claims(w, "begun % another"), 1);
    r = with(w, POST, "/twice-things", h, "{'name':'one'}");
    CHECK_EQ(r.status, 201);
    CHECK_EQ(claims(w, "begun %"), 0);
    CHECK_STR(header(with(w, POST, "/twice-things", h, "{'name':'one'}"), "Idempotent-Replayed"),
              "true");
    CHECK_EQ(get(w, "/things").len, 1);
}

TEST(an_answer_that_is_larger_than_a_request_may_be_is_kept_and_one_without_bound_is_not)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *h = "Idempotency-Key: large";
    int before = effects;
    struct reply a = with(w, POST, "/once", h, "{'name':'large'}");

    CHECK_EQ(a.status, 200);
    for (int i = 0; i < 2; i++) {
        struct reply b = with(w, POST, "/once", h, "{'name':'large'}");

        CHECK_STR(header(b, "Idempotent-Replayed"), "true");
        CHECK(str_eq(a.body, b.body));
        if (i == 0)
            world_restart(w);
    }
    h = "Idempotency-Key: huge";
    CHECK_EQ(with(w, POST, "/once", h, "{'name':'huge'}").status, 200);
    CHECK_EQ(with(w, POST, "/once", h, "{'name':'huge'}").status, 409);
    CHECK_EQ(effects, before + 2);
}

TEST(a_long_handler_that_answers_after_its_last_transaction_is_an_error)
{
    _cleanup_(world_freep) struct world *w = world_new();

    CHECK_EQ(with(w, POST, "/long-things", "Idempotency-Key: l", "{'name':'late'}").status, 500);
    CHECK_EQ(get(w, "/things").len, 1);
    CHECK_EQ(with(w, POST, "/long-things", "Idempotency-Key: m", "{'name':'fine'}").status, 201);
}

TEST(while_a_keyed_request_runs_another_with_its_key_is_409)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct idem *i = world_app(w)->idem;
    struct call_private *p = calloc(1, sizeof(*p));
    struct err e;

    /* One that stands for a request that is running. */
    call_init(p, world_app(w), &world_app(w)->arena);
    struct principal who;
    struct uuid none = { "" };
    CHECK(test_lookup(NULL, NULL, NULL, STR("test-owner"), &none, &who, &e) == 0);
    p->idem.scope = idem_scope(&world_app(w)->arena, &who);
    p->idem.key = "k1";
    CHECK_EQ(idem_begin(p, NULL, &e), 0);
    struct reply r = with(w, POST, "/things", "Idempotency-Key: k1", "{'name':'one'}");
    CHECK_EQ(r.status, 409);
    CHECK_STR(r.code, "idempotency_in_progress");
    idem_end(p);
    CHECK_EQ(with(w, POST, "/things", "Idempotency-Key: k1", "{'name':'one'}").status, 201);
    CHECK(i != NULL);
    free(p);
}

TEST(a_v4_request_id_is_the_key_of_a_new_resource)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *h = "X-Request-Id: 7d444840-9dc0-41d1-b245-5ffdce74fad2";
    struct reply a = with(w, POST, "/v1/resources", h, "{'name':'one'}");
    struct reply b = with(w, POST, "/v1/resources", h, "{'name':'one'}");

    CHECK_EQ(a.status, 201);
    CHECK_STR(header(b, "Idempotent-Replayed"), "true");
    CHECK_EQ(with(w, POST, "/v1/resources", h, "{'name':'two'}").status, 201);
    CHECK_EQ(with(w, POST, "/v1/things", h, "{'name':'one'}").status, 409);
}

/* ---- the journal */

TEST(every_write_and_every_403_is_in_the_audit)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *id = arena_strdup(&world_app(w)->arena, post(w, "/things", "{'name':'one'}").id);

    post(w, "/things", "{'name':'one'}");
    as(w, AS_VIEWER, DELETE, fmt("/things/%s", id), NULL);
    del(w, "/things/%s", id);
    get(w, "/wait-write");
    struct reply r = get(w, "/audit");
    CHECK_EQ(r.len, 4);
    CHECK_STR(member(r, "0.action"), "THING_DELETE");
    CHECK_STR(member(r, "0.resource"), fmt("thing/%s", id));
    CHECK_STR(member(r, "0.status"), "success");
    CHECK_STR(member(r, "0.ip_address"), "127.0.0.1");
    CHECK_STR(member(r, "0.actor"), "owner@example.test");
    CHECK_STR(member(r, "1.status"), "denied");
    CHECK_STR(member(r, "1.actor"), "viewer@example.test");
    CHECK_STR(member(r, "2.status"), "failure");
    CHECK_STR(member(r, "3.status"), "success");
    CHECK_STR(member(r, "3.resource"), fmt("thing/%s", id));
    CHECK_EQ(as(w, AS_STRANGER, GET, "/audit", NULL).len, 0);
    r = get(w, "/v1/audit?limit=3");
    CHECK_EQ(r.len, 3);
    r = get(w, "/v1/audit?cursor=%s", member(r, "next_cursor"));
    CHECK_EQ(r.len, 1);
    CHECK_EQ(get(w, "/v1/audit?status=denied").len, 1);
    CHECK_EQ(get(w, "/v1/audit?cursor=forged").status, 400);
}

static int forget_records(struct db *db, void *ctx _unused_, struct err *e)
{
    return db_exec(db, "DELETE FROM journal WHERE idem_key IS NOT NULL", NO_ARGS, e);
}

static int64_t journal_rows(struct world *w)
{
    return world_int(w, "SELECT count(*) FROM journal");
}

/* The ticker sweeps too, and may be at it. */
static bool swept_to(struct world *w, int64_t rows)
{
    for (int i = 0; i < 500 && journal_rows(w) != rows; i++)
        usleep(2000);
    return journal_rows(w) == rows;
}

static void short_audit(struct config *c)
{
    c->audit_days = 2;
    c->events_days = 5;
}

static void short_events(struct config *c)
{
    c->audit_days = 5;
    c->events_days = 2;
}

static size_t parts_left(struct world *w)
{
    return get(w, "/audit").len + get(w, "/v1/events").len;
}

TEST(audit_and_events_are_kept_for_their_own_days)
{
    static void (*const settings[])(struct config *) = { short_audit, short_events };

    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        world_configure = settings[i];
        _cleanup_(world_freep) struct world *w = world_new();
        world_configure = configure;

        post(w, "/things", "{'name':'old'}");
        world_sleep(w, DAYS(2) - HOURS(2));
        post(w, "/things", "{'name':'new'}");
        world_sleep(w, HOURS(4));
        for (int n = 0; n < 500 && parts_left(w) == 4; n++)
            usleep(2000);
        CHECK_EQ(get(w, "/audit").len, i == 0 ? 1 : 2);
        CHECK_EQ(get(w, "/v1/events").len, i == 0 ? 2 : 1);
        CHECK(swept_to(w, 2));
        world_sleep(w, DAYS(3) - HOURS(1));
        CHECK(swept_to(w, 1));
        CHECK_EQ(get(w, "/audit").len, i == 0 ? 0 : 1);
        CHECK_EQ(get(w, "/v1/events").len, i == 0 ? 1 : 0);
        world_sleep(w, DAYS(2));
        CHECK(swept_to(w, 0));
        CHECK_EQ(get(w, "/things").len, 2);
    }
}

static void long_keys(struct config *c)
{
    c->audit_days = c->events_days = 1;
    c->idempotency_hours = 720;
}

TEST(an_answer_outlives_the_audit_and_one_that_was_swept_is_a_new_request)
{
    world_configure = long_keys;
    _cleanup_(world_freep) struct world *w = world_new();
    world_configure = configure;
    const char *h = "Idempotency-Key: long";
    struct reply a = with(w, POST, "/things", h, "{'name':'one'}");

    CHECK_EQ(a.status, 201);
    world_sleep(w, DAYS(3));
    struct reply b = with(w, POST, "/things", h, "{'name':'one'}");
    CHECK_STR(header(b, "Idempotent-Replayed"), "true");
    CHECK(str_eq(a.body, b.body));
    CHECK(swept_to(w, 1));

    struct err e;
    CHECK_EQ(store_write(world_app(w)->store, forget_records, NULL, &e), 0);
    b = with(w, POST, "/things", h, "{'name':'one'}");
    CHECK_EQ(b.status, 409);
    CHECK_STR(b.code, "already_exists");
    CHECK_EQ(with(w, POST, "/things", "Idempotency-Key: next", "{'name':'two'}").status, 201);
    CHECK_EQ(store_write(world_app(w)->store, forget_records, NULL, &e), 0);
    world_sleep(w, DAYS(31));
    CHECK(swept_to(w, 0));
}

static int64_t rows_given(struct world *w)
{
    struct reply r = as(w, AS_OPERATOR, GET, "/metrics", NULL);
    const char *at = memmem(r.body.p, r.body.n, "\nbrume_db_rows_total ", 21);

    return at ? strtoll(at + 21, NULL, 10) : 0;
}

TEST(a_page_of_events_reads_no_more_rows_than_it_needs)
{
    _cleanup_(world_freep) struct world *w = world_new();
    char last[64] = "";
    size_t seen = 0;

    for (int i = 0; i < 300; i++)
        CHECK_EQ(post(w, "/things", fmt("{'name':'n%d'}", i)).status, 201);
    CHECK_EQ(patch(w, fmt("/things/%s", member(get(w, "/things"), "299.id")), "{'size':1}").status,
             200);
    int64_t before = rows_given(w);
    CHECK_EQ(get(w, "/v1/events?limit=1").len, 1);
    int64_t rows = rows_given(w) - before; /* counted on PostgreSQL alone */
    CHECK(rows < 20 && (rows > 0) == world_is_postgres(w));
    CHECK_EQ(get(w, "/v1/events?limit=1&type=thing.updated").len, 1);
    for (const char *next = ""; next; seen++) {
        struct reply r =
            get(w, "/v1/events?limit=97&type=thing.created%s%s", *next ? "&cursor=" : "", next);

        for (size_t i = 0; i < r.len; i++) {
            const char *id = member(r, fmt("data.%zu.id", i));

            CHECK(!*last || strcmp(id, last) < 0);
            snprintf(last, sizeof(last), "%s", id);
        }
        seen += r.len - 1;
        next = member(r, "next_cursor");
    }
    CHECK_EQ(seen, 300);
}

enum { LARGE_EVENTS = 10 };

/* Events of 30 MB each, as many as no arena holds. */
static int large_events(struct db *db, void *ctx _unused_, struct err *e)
{
    for (int i = 0; i < LARGE_EVENTS; i++)
        TRY(db_exec(db,
                    "INSERT INTO journal (id, at, tenant_id, mode, status, events) VALUES ($1, $2,"
                    " $3, 'live', 200, '[{\"id\":\"evt_1\",\"type\":\"thing.made\",'"
                    " || '\"created_at\":\"2026-01-01T00:00:00.000Z\",\"object\":{\"note\":\"' ||"
                    " /*lite: replace(hex(zeroblob(15000000)), '00', 'ab') */"
                    " /*pg: repeat('ab', 15000000) */ || '\"}}]')",
                    ARGS(A(fmt("e%d", i)), A((int64_t)i), A((const char *)tenant_one)), e));
    return 0;
}

TEST(a_page_of_large_events_ends_early_and_goes_on)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct err e;

    CHECK_EQ(store_write(world_app(w)->store, large_events, NULL, &e), 0);
    struct reply r = get(w, "/v1/events?limit=500");
    CHECK_EQ(r.len, 1);
    r = get(w, "/v1/events?limit=500&cursor=%s", member(r, "next_cursor"));
    CHECK_EQ(r.len, 1);
    CHECK(member(r, "next_cursor") != NULL);
}

TEST(a_cut_through_a_character_of_what_the_client_calls_itself_costs_nothing)
{
    _cleanup_(world_freep) struct world *w = world_new();
    static const char euro[] = "\xe2\x82\xac";

    for (int before = 253; before <= 256; before++) {
        const char *h = fmt("User-Agent: %0*d%s%s", before, 1, euro, euro);

        CHECK_EQ(with(w, POST, "/things", h, fmt("{'name':'n%d'}", before)).status, 201);
        size_t n = strlen(member(get(w, "/audit"), "0.user_agent"));
        CHECK_EQ(n, before == 253 ? 256 : before);
    }
}

TEST(each_change_is_an_event_without_its_secrets)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *id = arena_strdup(&world_app(w)->arena, post(w, "/things", "{'name':'one'}").id);

    patch(w, fmt("/things/%s", id), "{'size':9}");
    del(w, "/things/%s", id);
    struct reply r = get(w, "/v1/events");
    CHECK_EQ(r.len, 3);
    CHECK_STR(member(r, "data.0.type"), "thing.deleted");
    CHECK_STR(member(r, "data.1.type"), "thing.updated");
    CHECK_EQ(member_int(r, "data.1.data.object.size"), 9);
    CHECK_EQ(member_int(r, "data.1.data.previous.size"), 7);
    CHECK(member(r, "data.1.data.previous.name") == NULL);
    CHECK_STR(member(r, "data.2.type"), "thing.created");
    CHECK(!strstr(r.body.p, "hush"));
    CHECK_EQ(get(w, "/v1/events?type=thing.d*").len, 1);
    r = get(w, "/v1/events?limit=2");
    r = get(w, "/v1/events?cursor=%s", member(r, "next_cursor"));
    CHECK_STR(member(r, "data.0.type"), "thing.created");
}

/* ---- many at once */

struct client {
    int port, n;
    int made, busy, wrong;
    char id[37];
};

/* One request and its answer on a connection of its own; the status, and the body's end in 'out'.
 */
static int speak(int port, const char *request, char *out, size_t n)
{
    struct sockaddr_in to = { .sin_family = AF_INET,
                              .sin_port = htons((uint16_t)port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    size_t got = 0;
    struct err e;

    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 ||
        fd_write_all(fd, request, strlen(request), &e) < 0)
        return -1;
    for (;;) {
        ssize_t k = read(fd, out + got, n - 1 - got);

        if (k <= 0)
            break;
        got += (size_t)k;
    }
    out[got] = '\0';
    return got > 12 ? (int)strtoul(out + 9, NULL, 10) : -1;
}

static void write_request(char *out, size_t n, const char *method, const char *path,
                          const char *key, const char *body)
{
    snprintf(out, n,
             "%s %s HTTP/1.1\r\nHost: x\r\nX-API-Key: test-owner\r\nConnection: close\r\n%s%s%s"
             "Content-Length: %zu\r\n\r\n%s",
             method, path, key ? "Idempotency-Key: " : "", key ? key : "", key ? "\r\n" : "",
             strlen(body), body);
}

/* Sends what all others send, and changes a thing of its own which it must then see as it made it.
 */
static void *client_run(void *arg)
{
    struct client *c = arg;
    char request[1024], answer[8192], path[80], body[80], want[40];

    for (int i = 0; i < 20; i++) {
        snprintf(path, sizeof(path), "key-%d", i);
        snprintf(body, sizeof(body), "{\"name\":\"shared-%d\"}", i);
        write_request(request, sizeof(request), "POST", "/things", path, body);
        int status = speak(c->port, request, answer, sizeof(answer));
        c->made += status == 201;
        c->busy += status == 409 && strstr(answer, "idempotency_in_progress");
        c->wrong += status != 201 && !(status == 409 && strstr(answer, "in_progress"));

        snprintf(path, sizeof(path), "/things/%s", c->id);
        snprintf(body, sizeof(body), "{\"size\":%d}", i);
        snprintf(want, sizeof(want), "\"size\":%d", i);
        write_request(request, sizeof(request), "PATCH", path, NULL, body);
        c->wrong += speak(c->port, request, answer, sizeof(answer)) != 200;
        write_request(request, sizeof(request), "GET", path, NULL, "");
        c->wrong += speak(c->port, request, answer, sizeof(answer)) != 200 || !strstr(answer, want);
    }
    return NULL;
}

TEST(many_clients_at_once_do_each_keyed_thing_once_and_see_their_own_writes)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct client clients[8] = { 0 };
    pthread_t threads[8];
    int made = 0, busy = 0;

    for (int i = 0; i < 8; i++) {
        clients[i].port = world_port(w);
        clients[i].n = i;
        snprintf(clients[i].id, sizeof(clients[i].id), "%s",
                 post(w, "/things", fmt("{'name':'own-%d'}", i)).id);
    }
    for (int i = 0; i < 8; i++)
        threads[i] = thread_start("client", client_run, &clients[i]);
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
        CHECK_EQ(clients[i].wrong, 0);
        made += clients[i].made;
        busy += clients[i].busy;
    }
    CHECK_EQ(made + busy, 160);
    CHECK(made >= 20);
    CHECK_EQ(get(w, "/things").len, 28);
}

TESTS(journal)
