/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/world.h"

#include <sodium.h>

#include "codec/text.h"
#include "services/webhook/webhook_private.h"

static const char URL[] = "https://hook.example/";

/* ---- what was sent */

static size_t sent(struct world *w)
{
    return outgoing_fake_count(world_outgoing(w));
}

static struct outgoing_seen seen(struct world *w, size_t i)
{
    static struct arena a = ARENA(64 << 20);
    struct outgoing_seen s = { 0 };

    CHECK(outgoing_fake_seen(world_outgoing(w), i, &a, &s));
    return s;
}

static const char *sent_header(const struct outgoing_seen *s, const char *name)
{
    for (size_t i = 0; i < s->n_headers; i++)
        if (strcmp(s->headers[i].name, name) == 0)
            return s->headers[i].value;
    return NULL;
}

static void answers(struct world *w, const char *prefix, int times, int status, int64_t retry_after)
{
    outgoing_fake_answer(
        world_outgoing(w),
        &(struct outgoing_script){
            .prefix = prefix,
            .times = times,
            .result = { .status = status, .retry_after = retry_after, .body = STR("answer") } });
}

static struct reply hook(struct world *w, const char *more)
{
    struct reply r = post(w, "/webhooks", fmt("{'url':'%s'%s%s}", URL, *more ? "," : "", more));

    CHECK_EQ(r.status, 201);
    world_settle(w);
    return r;
}

static const char *queue(struct world *w, const char *name)
{
    struct reply r = post(w, "/queues", fmt("{'name':'%s'}", name));

    CHECK_EQ(r.status, 201);
    return r.id;
}

static struct reply newest(struct world *w, const char *hook_id)
{
    struct reply r = get(w, "/webhooks/%s/deliveries?sort=-created_at&limit=1", hook_id);

    CHECK_EQ(r.len, 1);
    return get(w, "/webhooks/%s/deliveries/%s", hook_id, member(r, "0.id"));
}

/* The signature over id.timestamp.body by a secret, as the Standard Webhooks say. */
static const char *signature(const char *secret, const struct outgoing_seen *s)
{
    static struct arena a = ARENA(1 << 20);
    crypto_auth_hmacsha256_state h;
    uint8_t sum[32];
    size_t n;
    const uint8_t *key = base64_decode(&a, str_of(secret + 6), false, &n);
    const char *head =
        fmt("%s.%s.", sent_header(s, "webhook-id"), sent_header(s, "webhook-timestamp"));

    CHECK(key && n == 32);
    crypto_auth_hmacsha256_init(&h, key, n);
    crypto_auth_hmacsha256_update(&h, (const uint8_t *)head, strlen(head));
    crypto_auth_hmacsha256_update(&h, (const uint8_t *)s->body.p, s->body.n);
    crypto_auth_hmacsha256_final(&h, sum);
    return fmt("v1,%s", base64_encode(&a, sum, 32, false));
}

/* ---- the object */

TEST(a_webhook_is_made_shown_changed_and_deleted_and_its_secret_is_seen_once)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r = hook(w, "'description':'mine'");
    const char *id = r.id;

    CHECK(strncmp(member(r, "secret"), "whsec_", 6) == 0);
    CHECK_STR(member(r, "retry_policy"), "standard");
    CHECK_STR(member(r, "events.0"), "*");
    r = get(w, "/webhooks/%s", id);
    CHECK_EQ(r.status, 200);
    CHECK(member(r, "secret") == NULL && member(r, "sealed") == NULL);
    CHECK_EQ(get(w, "/v1/webhooks").len, 1);
    r = patch(w, fmt("/webhooks/%s", id), "{'enabled':false,'events':['queue.*']}");
    CHECK_EQ(r.status, 200);
    CHECK_STR(member(r, "enabled"), "false");
    CHECK_EQ(post(w, fmt("/webhooks/%s/test", id), "").status, 409);
    CHECK_EQ(del(w, "/webhooks/%s", id).status, 200);
    CHECK_EQ(get(w, "/webhooks/%s", id).status, 404);
}

TEST(what_cannot_be_a_webhook_is_refused_with_every_fault)
{
    static const char *const bad[] = { "ftp://a.example/",
                                       "http://127.0.0.1/",
                                       "http://[::1]:80/",
                                       "http://10.1.2.3/",
                                       "http://169.254.169.254/latest",
                                       "http://u:p@a.example/",
                                       "no url",
                                       "http://0x7f.1/" };
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        r = post(w, "/webhooks", fmt("{'url':'%s'}", bad[i]));
        if (r.status != 400)
            fail_msg("%s: %d", bad[i], r.status);
    }
    r = post(w, "/v1/webhooks", "{'url':'http://10.0.0.1/','events':['A b'],'retry_policy':'no'}");
    CHECK_EQ(r.status, 400);
    CHECK(member(r, "error.details.2.field") != NULL);
    const char *id = hook(w, "").id;
    CHECK_EQ(patch(w, fmt("/webhooks/%s", id), "{'url':'http://10.0.0.1/'}").status, 400);
    CHECK_EQ(post(w, fmt("/webhooks/%s/rotate", id), "{'x':1}").status, 400);
    CHECK_EQ(post(w, fmt("/webhooks/%s/test", id), "{'x':1}").status, 400);
    CHECK_EQ(get(w, "/webhooks?limit=x").status, 400);
    CHECK_EQ(get(w, "/webhooks/%s/deliveries?limit=x", id).status, 400);
}

TEST(patterns_have_stars_anywhere)
{
    static const struct {
        const char *pattern, *type;
        bool fits;
    } cases[] = {
        { "*", "a.b", true },
        { "queue.*", "queue.created", true },
        { "queue.*", "queues.x", false },
        { "*.created", "queue.created", true },
        { "*.created", "queue.createdx", false },
        { "a*b*c", "axxbyyc", true },
        { "a*b*c", "axxbyy", false },
        { "queue.created", "queue.created", true },
        { "queue", "queue.created", false },
        { "**", "", true },
        { "", "", true },
        { "", "a", false },
        { "*a", "aaab", false },
        { "*ab", "aaab", true },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (pattern_fits(cases[i].pattern, cases[i].type) != cases[i].fits)
            fail_msg("%s and %s", cases[i].pattern, cases[i].type);
}

/* ---- what is sent */

TEST(an_event_is_sent_once_signed_as_the_standard_says)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r = hook(w, "'events':['queue.created']");
    const char *id = r.id, *secret = member(r, "secret");
    const char *q = queue(w, "one");
    crypto_auth_hmacsha256_state h;
    uint8_t sum[32];
    char hex[65];

    del(w, "/queues/%s", q);
    world_settle(w);
    CHECK_EQ(sent(w), 1);
    struct outgoing_seen s = seen(w, 0);
    CHECK_STR(s.method, "POST");
    CHECK_STR(s.url, URL);
    CHECK_EQ(s.timeout, SECONDS(10));
    CHECK_STR(sent_header(&s, "Content-Type"), "application/json");
    CHECK_STR(sent_header(&s, "webhook-signature"), signature(secret, &s));
    crypto_auth_hmacsha256_init(&h, (const uint8_t *)secret, strlen(secret));
    crypto_auth_hmacsha256_update(&h, (const uint8_t *)s.body.p, s.body.n);
    crypto_auth_hmacsha256_final(&h, sum);
    hex_encode(sum, 32, hex);
    CHECK_STR(sent_header(&s, "X-Signature-256"), fmt("sha256=%s", hex));
    struct reply event = get(w, "/v1/events?type=queue.created");
    CHECK_STR(sent_header(&s, "webhook-id"), member(event, "data.0.id"));
    CHECK(strstr(s.body.p, "\"type\":\"queue.created\"") && strstr(s.body.p, "\"object\":{"));
    r = newest(w, id);
    CHECK_STR(member(r, "status"), "succeeded");
    CHECK_EQ(member_int(r, "attempt_count"), 1);
    CHECK_EQ(member_int(r, "attempts.0.status_code"), 200);
    CHECK_STR(member(r, "payload.type"), "queue.created");
    world_sleep(w, HOURS(80));
    CHECK_EQ(sent(w), 1);
}

TEST(who_is_not_meant_gets_nothing)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *id = hook(w, "'events':['instance.*']").id;
    struct reply r;

    queue(w, "one");
    r = as(w, AS_STRANGER, POST, "/webhooks", "{'url':'https://stranger.example/'}");
    CHECK_EQ(r.status, 201);
    world_settle(w);
    size_t before = sent(w);
    queue(w, "two");
    world_settle(w);
    CHECK_EQ(sent(w), before);
    CHECK_EQ(patch(w, fmt("/webhooks/%s", id), "{'events':['queue.*'],'enabled':false}").status,
             200);
    world_settle(w);
    queue(w, "three");
    world_settle(w);
    CHECK_EQ(get(w, "/webhooks/%s/deliveries", id).len, 0);
}

TEST(a_rotated_secret_signs_beside_the_old_one_for_a_day)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r = hook(w, "'events':['queue.*']");
    const char *id = r.id, *old = member(r, "secret");

    r = post(w, fmt("/webhooks/%s/rotate", id), "");
    CHECK_EQ(r.status, 200);
    const char *new = member(r, "secret");
    CHECK(strcmp(old, new) != 0);
    queue(w, "one");
    world_settle(w);
    struct outgoing_seen s = seen(w, 0);
    CHECK_STR(sent_header(&s, "webhook-signature"),
              fmt("%s %s", signature(new, &s), signature(old, &s)));
    world_sleep(w, HOURS(24) + SECONDS(1));
    queue(w, "two");
    world_settle(w);
    s = seen(w, 1);
    CHECK_STR(sent_header(&s, "webhook-signature"), signature(new, &s));
}

/* Delays between the attempts at one delivery that always fails, in seconds. */
static void has_schedule(struct world *w, const int64_t *delays, size_t n)
{
    size_t before = sent(w);

    queue(w, fmt("q%zu", before));
    world_settle(w);
    CHECK_EQ(sent(w), before + 1);
    for (size_t i = 0; i < n; i++) {
        world_sleep(w, SECONDS(delays[i]) * 89 / 100);
        CHECK_EQ(sent(w), before + 1 + i);
        world_sleep(w, SECONDS(delays[i]) * 22 / 100 + 1000);
        CHECK_EQ(sent(w), before + 2 + i);
    }
    world_sleep(w, HOURS(80));
    CHECK_EQ(sent(w), before + 1 + n);
}

TEST(retries_come_as_the_standard_policy_says)
{
    static const int64_t delays[] = { 5, 30, 120, 300 };
    _cleanup_(world_freep) struct world *w = world_new();
    const char *id = hook(w, "'events':['queue.*']").id;

    answers(w, URL, 0, 500, -1);
    has_schedule(w, delays, ARRAY_LEN(delays));
    struct reply r = newest(w, id);
    CHECK_STR(member(r, "status"), "failed");
    CHECK_EQ(member_int(r, "attempts.4.number"), 5);
    CHECK_EQ(member_int(r, "attempts.4.status_code"), 500);
    CHECK_STR(member(r, "attempts.4.response"), "answer");
    struct outgoing_seen first = seen(w, 0), last = seen(w, 4);
    CHECK_STR(sent_header(&first, "webhook-id"), member(r, "event_id"));
    CHECK_STR(sent_header(&last, "webhook-id"), member(r, "event_id"));
    CHECK(strcmp(sent_header(&first, "webhook-timestamp"),
                 sent_header(&last, "webhook-timestamp")) != 0);
}

TEST(the_extended_policy_lasts_for_three_days)
{
    static const int64_t delays[] = { 60, 300, 1800, 7200, 21600 };
    _cleanup_(world_freep) struct world *w = world_new();
    const char *id = hook(w, "'events':['queue.*'],'retry_policy':'extended'").id;

    answers(w, URL, 0, 500, -1);
    queue(w, "one");
    world_settle(w);
    for (size_t i = 0; i < ARRAY_LEN(delays); i++) {
        world_sleep(w, SECONDS(delays[i]) * 111 / 100);
        CHECK_EQ(sent(w), i + 2);
    }
    for (int i = 0; i < 240; i++)
        world_sleep(w, MINUTES(20));
    CHECK(sent(w) == 11 || sent(w) == 12); /* by chance */
    struct reply r = newest(w, id);
    CHECK_STR(member(r, "status"), "failed");
    int64_t begun = world_int(w, "SELECT created_at FROM core_deliveries");
    CHECK(world_int(w, "SELECT completed_at FROM core_deliveries") - begun < HOURS(74));
    CHECK(world_int(w, "SELECT completed_at FROM core_deliveries") - begun >= HOURS(70));
}

TEST(retry_after_makes_the_endpoint_rest)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *id = hook(w, "'events':['queue.*']").id;

    answers(w, URL, 1, 429, 600);
    queue(w, "one");
    world_settle(w);
    CHECK_EQ(sent(w), 1);
    queue(w, "two"); /* is not sent either */
    world_sleep(w, SECONDS(590));
    CHECK_EQ(sent(w), 1);
    world_sleep(w, SECONDS(11));
    CHECK_EQ(sent(w), 3);
    CHECK_STR(member(newest(w, id), "status"), "succeeded");
}

TEST(an_endpoint_that_is_gone_is_disabled_with_an_event)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *id = hook(w, "'events':['queue.*']").id;

    answers(w, URL, 1, 410, -1);
    queue(w, "one");
    world_settle(w);
    struct reply r = get(w, "/webhooks/%s", id);
    CHECK_STR(member(r, "enabled"), "false");
    CHECK_STR(member(r, "disabled_reason"), "gone");
    CHECK_EQ(get(w, "/v1/events?type=webhook.disabled").len, 1);
    CHECK_STR(member(newest(w, id), "status"), "failed");
    queue(w, "two");
    world_sleep(w, HOURS(1));
    CHECK_EQ(sent(w), 1);
    CHECK_EQ(patch(w, fmt("/webhooks/%s", id), "{'enabled':true}").status, 200);
    CHECK(member(get(w, "/webhooks/%s", id), "disabled_reason") == NULL);
    queue(w, "three");
    world_settle(w);
    CHECK_EQ(sent(w), 2);
}

TEST(an_endpoint_that_fails_for_five_days_is_disabled)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *id = hook(w, "'events':['queue.*']").id;

    answers(w, URL, 0, 503, -1);
    for (int i = 0; i < 5; i++) {
        queue(w, fmt("q%d", i));
        world_sleep(w, HOURS(23));
    }
    CHECK_STR(member(get(w, "/webhooks/%s", id), "enabled"), "true");
    world_sleep(w, HOURS(12));
    queue(w, "last");
    world_settle(w);
    CHECK_STR(member(get(w, "/webhooks/%s", id), "disabled_reason"), "failing");
    CHECK_EQ(get(w, "/v1/events?type=webhook.disabled").len, 1);
    world_sleep(w, HOURS(1));
    CHECK_STR(member(newest(w, id), "status"), "canceled");
}

TEST(no_answer_of_any_kind_is_an_attempt_that_says_why)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *id = hook(w, "'events':['queue.*']").id;

    outgoing_fake_answer(
        world_outgoing(w),
        &(struct outgoing_script){ .prefix = URL,
                                   .times = 1,
                                   .result = { .end = OUTGOING_TIMED_OUT, .retry_after = -1 } });
    answers(w, URL, 1, 302, -1);
    queue(w, "one");
    world_sleep(w, SECONDS(10));
    struct reply r = newest(w, id);
    CHECK(strncmp(member(r, "attempts.0.error"), "timed_out", 9) == 0);
    CHECK(member(r, "attempts.0.status_code") == NULL ||
          strcmp(member(r, "attempts.0.status_code"), "null") == 0);
    CHECK_EQ(member_int(r, "attempts.1.status_code"), 302);
    CHECK_STR(member(r, "status"), "pending");
    world_sleep(w, SECONDS(40));
    CHECK_STR(member(newest(w, id), "status"), "succeeded");
}

/* ---- order */

static const char *body_type(struct world *w, size_t i)
{
    const char *at = strstr(seen(w, i).body.p, "\"type\":\"");

    return fmt("%.*s", (int)strcspn(at + 8, "\""), at + 8);
}

TEST(of_one_object_one_is_under_way_and_those_that_failed_are_overtaken)
{
    _cleanup_(world_freep) struct world *w = world_new();

    hook(w, "'events':['queue.*']");
    outgoing_fake_hold(world_outgoing(w), true);
    const char *one = queue(w, "one");
    CHECK_EQ(patch(w, fmt("/queues/%s", one), "{'delay_seconds':1}").status, 200);
    del(w, "/queues/%s", one);
    world_settle(w);
    CHECK_EQ(sent(w), 1);
    CHECK_STR(body_type(w, 0), "queue.created");
    answers(w, URL, 1, 500, -1); /* for the next that is sent */
    outgoing_fake_hold(world_outgoing(w), false);
    world_settle(w);
    CHECK_EQ(sent(w), 3);
    CHECK_STR(body_type(w, 1), "queue.updated");
    CHECK_STR(body_type(w, 2), "queue.deleted");
    world_sleep(w, SECONDS(6));
    CHECK_EQ(sent(w), 4);
    CHECK_STR(body_type(w, 3), "queue.updated");
}

TEST(a_dozen_objects_are_sent_side_by_side_each_in_its_order)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *ids[12];

    hook(w, "'events':['queue.*']");
    outgoing_fake_answer(world_outgoing(w),
                         &(struct outgoing_script){
                             .prefix = URL, .delay = MILLIS(5), .result = { .status = 200 } });
    for (size_t i = 0; i < ARRAY_LEN(ids); i++)
        ids[i] = queue(w, fmt("q%zu", i));
    for (int n = 1; n < 8; n++)
        for (size_t i = 0; i < ARRAY_LEN(ids); i++)
            CHECK_EQ(patch(w, fmt("/queues/%s", ids[i]), fmt("{'delay_seconds':%d}", n)).status,
                     200);
    world_settle(w);
    CHECK_EQ(sent(w), 8 * ARRAY_LEN(ids));
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        int n = 0;

        for (size_t k = 0; k < sent(w); k++) {
            const char *body = seen(w, k).body.p;

            if (!strstr(body, fmt("\"name\":\"q%zu\"", i)))
                continue;
            CHECK(strstr(body, fmt("\"delay_seconds\":%d,", n)) != NULL);
            n++;
        }
        CHECK_EQ(n, 8);
    }
}

/* ---- what is seen and done with it */

TEST(a_test_is_sent_and_a_delivery_is_sent_again_under_its_id)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *id = hook(w, "'events':['queue.created']").id;
    struct reply r = post(w, fmt("/webhooks/%s/test", id), "");

    CHECK_EQ(r.status, 202);
    CHECK_STR(member(r, "status"), "pending");
    const char *d = r.id;
    world_settle(w);
    CHECK_STR(body_type(w, 0), "webhook.test");
    r = get(w, "/webhooks/%s/deliveries/%s", id, d);
    CHECK_STR(member(r, "status"), "succeeded");
    r = post(w, fmt("/webhooks/%s/deliveries/%s/redeliver", id, d), "");
    CHECK_EQ(r.status, 202);
    CHECK_STR(member(r, "status"), "pending");
    world_settle(w);
    CHECK_EQ(sent(w), 2);
    struct outgoing_seen a = seen(w, 0), b = seen(w, 1);
    CHECK_STR(sent_header(&a, "webhook-id"), sent_header(&b, "webhook-id"));
    r = get(w, "/webhooks/%s/deliveries/%s", id, d);
    CHECK_EQ(member_int(r, "attempts.1.number"), 2);
    CHECK_EQ(get(w, "/webhooks/%s/deliveries?status=succeeded", id).len, 1);
    const char *other = hook(w, "'enabled':false").id;
    CHECK_EQ(get(w, "/webhooks/%s/deliveries/%s", other, d).status, 404);
    CHECK_EQ(post(w, fmt("/webhooks/%s/deliveries/%s/redeliver", other, d), "").status, 404);
    CHECK_EQ(post(w, fmt("/webhooks/%s/deliveries/%s/redeliver", id, d), "{'x':1}").status, 400);
    CHECK_EQ(get(w, "/webhooks/%s/deliveries/nonsense", id).status, 404);
}

TEST(deliveries_go_with_their_webhook_and_after_thirty_days)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *id = hook(w, "'events':['queue.*']").id;

    answers(w, "https://dead.example", 0, 500, -1);
    queue(w, "one");
    world_settle(w);
    const char *dead =
        post(w, "/webhooks", "{'url':'https://dead.example','events':['queue.*']}").id;
    world_settle(w);
    queue(w, "two");
    world_settle(w);
    CHECK_EQ(get(w, "/webhooks/%s/deliveries", id).len, 2);
    CHECK_EQ(world_int(w, "SELECT count(*) FROM core_deliveries"), 3);
    CHECK_EQ(world_int(w, "SELECT count(*) FROM core_endpoints"), 1);
    del(w, "/webhooks/%s", dead);
    world_settle(w);
    CHECK_EQ(world_int(w, "SELECT count(*) FROM core_deliveries"), 2);
    CHECK_EQ(world_int(w, "SELECT count(*) FROM core_endpoints"), 0);
    CHECK_EQ(world_int(w, "SELECT count(*) FROM core_due WHERE loop = 'deliver'"), 0);
    world_sleep(w, DAYS(29));
    CHECK_EQ(get(w, "/webhooks/%s/deliveries", id).len, 2);
    world_sleep(w, DAYS(1) + HOURS(2));
    world_sleep(w, HOURS(2));
    CHECK_EQ(get(w, "/webhooks/%s/deliveries", id).len, 0);
}

TEST(in_test_mode_nothing_is_sent_and_all_can_be_looked_at)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r = as(w, AS_TEST_KEY, POST, "/webhooks", "{'url':'https://hook.example'}");
    const char *id = r.id;

    CHECK_EQ(r.status, 201);
    CHECK_EQ(as(w, AS_TEST_KEY, POST, "/queues", "{'name':'one'}").status, 201);
    world_settle(w);
    CHECK_EQ(sent(w), 0);
    r = as(w, AS_TEST_KEY, GET, fmt("/webhooks/%s/deliveries?event_type=queue.created", id), NULL);
    CHECK_EQ(r.len, 1);
    CHECK_STR(member(r, "0.status"), "succeeded");
    CHECK_EQ(get(w, "/webhooks/%s", id).status, 404);
}

TEST(a_restart_goes_on_with_what_was_under_way)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *id = hook(w, "'events':['queue.*']").id;

    outgoing_fake_hold(world_outgoing(w), true);
    queue(w, "one");
    world_settle(w);
    CHECK_EQ(sent(w), 1);
    world_restart(w);
    outgoing_fake_hold(world_outgoing(w), false);
    world_settle(w);
    CHECK_EQ(sent(w), 2);
    struct reply r = newest(w, id);
    CHECK_STR(member(r, "status"), "succeeded");
    CHECK_EQ(member_int(r, "attempt_count"), 1);
}

TEST(two_hundred_hanging_endpoints_of_one_tenant_hold_up_no_other)
{
    _cleanup_(world_freep) struct world *w = world_new();
    int hogs = 200;

    for (int i = 0; i < hogs; i++)
        CHECK_EQ(
            post(w, "/webhooks", fmt("{'url':'https://dead.example/%d','events':['queue.*']}", i))
                .status,
            201);
    CHECK_EQ(as(w, AS_STRANGER, POST, "/webhooks",
                "{'url':'https://other.example/','events':['queue.*']}")
                 .status,
             201);
    world_settle(w);
    outgoing_fake_answer(world_outgoing(w), &(struct outgoing_script){ .prefix = "https://dead",
                                                                       .delay = MINUTES(5) });
    queue(w, "one");
    world_settle(w);
    size_t hanging = sent(w);
    CHECK(hanging >= 30 && hanging < 60); /* three eighths of what there is */
    CHECK_EQ(as(w, AS_STRANGER, POST, "/queues", "{'name':'two'}").status, 201);
    world_settle(w);
    CHECK_EQ(sent(w), hanging + 1);
    CHECK_STR(seen(w, hanging).url, "https://other.example/");
}

/* ---- who may */

TEST(strangers_and_those_without_a_right_are_refused)
{
    static const struct {
        enum method m;
        const char *path, *body;
    } all[] = {
        { GET, "/webhooks", NULL },
        { POST, "/webhooks", "{'url':'https://a.example'}" },
        { GET, "/webhooks/%s", NULL },
        { PATCH, "/webhooks/%s", "{'enabled':false}" },
        { DELETE, "/webhooks/%s", NULL },
        { POST, "/webhooks/%s/rotate", "" },
        { POST, "/webhooks/%s/test", "" },
        { GET, "/webhooks/%s/deliveries", NULL },
        { GET, "/webhooks/%s/deliveries/%s", NULL },
        { POST, "/webhooks/%s/deliveries/%s/redeliver", "" },
    };
    _cleanup_(world_freep) struct world *w = world_new();
    const char *id = hook(w, "").id;
    const char *d = post(w, fmt("/webhooks/%s/test", id), "").id;

    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        const char *path = fmt(all[i].path, id, d);
#pragma GCC diagnostic pop

        CHECK_EQ(as(w, AS_NOBODY, all[i].m, path, all[i].body).status, 401);
        CHECK_EQ(as(w, AS_NO_SCOPE, all[i].m, path, all[i].body).status, 403);
        if (i > 1)
            CHECK_EQ(as(w, AS_STRANGER, all[i].m, path, all[i].body).status, 404);
    }
}

TESTS(webhook, x)
