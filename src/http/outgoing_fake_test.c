/* SPDX-License-Identifier: Apache-2.0 */
#include "http/outgoing_fake.h"
#include "tests/http/peer.h"

static struct err err;

struct outcome {
    _Atomic int calls;
    struct outgoing_result r;
    char body[64];
};

static void keep(void *ctx, uint64_t id _unused_, const struct outgoing_result *r)
{
    struct outcome *o = ctx;

    o->r = *r;
    snprintf(o->body, sizeof(o->body), STR_FMT, STR_ARG(r->body));
    atomic_fetch_add(&o->calls, 1);
}

static uint64_t ask(struct outgoing *o, const char *url, struct outcome *out)
{
    struct client_header h = { "X-One", "1" };
    struct outgoing_request q = { .flow.key = 7,
                                  .method = "POST",
                                  .url = url,
                                  .headers = &h,
                                  .n_headers = 1,
                                  .body = STR("sent") };

    memset(out, 0, sizeof(*out));
    return outgoing_send(o, &q, keep, out, &err);
}

static void await(struct outgoing *o, const char *url, struct outcome *out)
{
    assert_true(ask(o, url, out));
    EVENTUALLY(atomic_load(&out->calls) == 1);
}

static void the_script_answers_and_requests_are_on_record(void **state _unused_)
{
    _cleanup_(outgoing_freep) struct outgoing *o = outgoing_fake_new();
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    struct outgoing_script twice = { "http://a/", 2, 0, { .status = 503, .retry_after = 9 } };
    struct outgoing_script then = { "http://a/", 0, 0, { .status = 201, .body = STR("made") } };
    struct outgoing_script cut = { "http://b/", 0, MILLIS(20), { .end = OUTGOING_CUT } };
    struct outgoing_seen seen;
    struct outcome out;

    outgoing_fake_answer(o, &twice);
    outgoing_fake_answer(o, &then);
    outgoing_fake_answer(o, &cut);
    for (int i = 0; i < 2; i++) {
        await(o, "http://a/x", &out);
        assert_int_equal(out.r.status, 503);
        assert_int_equal(out.r.retry_after, 9);
    }
    await(o, "http://a/x", &out);
    assert_int_equal(out.r.status, 201);
    assert_string_equal(out.body, "made");
    await(o, "http://b/", &out);
    assert_int_equal(out.r.end, OUTGOING_CUT);
    assert_int_equal(out.r.err.code, ERR_ENGINE_UNAVAILABLE);
    await(o, "http://c/", &out);
    assert_int_equal(out.r.status, 200);
    assert_int_equal(outgoing_fake_count(o), 5);
    assert_true(outgoing_fake_seen(o, 3, &a, &seen));
    assert_string_equal(seen.url, "http://b/");
    assert_string_equal(seen.headers[0].value, "1");
    assert_true(str_is(seen.body, "sent"));
    assert_int_equal(seen.flow, 7);
    assert_false(outgoing_fake_seen(o, 5, &a, &seen));
}

static void it_refuses_what_the_real_one_refuses(void **state _unused_)
{
    _cleanup_(outgoing_freep) struct outgoing *o = outgoing_fake_new();
    struct outcome out;

    assert_int_equal(ask(o, "ftp://a/", &out), 0);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(outgoing_fake_count(o), 0);
}

static void what_is_held_waits_and_can_be_cancelled(void **state _unused_)
{
    struct outgoing *o = outgoing_fake_new();
    struct outcome one, two, three;

    outgoing_fake_hold(o, true);
    uint64_t id = ask(o, "http://a/", &one);
    ask(o, "http://a/", &two);
    nap(20);
    assert_int_equal(atomic_load(&one.calls) + atomic_load(&two.calls), 0);
    assert_true(outgoing_cancel(o, id));
    EVENTUALLY(atomic_load(&one.calls) == 1);
    assert_int_equal(one.r.end, OUTGOING_CANCELLED);
    assert_false(outgoing_cancel(o, id));
    outgoing_fake_hold(o, false);
    EVENTUALLY(atomic_load(&two.calls) == 1);
    assert_int_equal(two.r.status, 200);
    outgoing_fake_hold(o, true);
    ask(o, "http://a/", &three);
    outgoing_free(o);
    assert_int_equal(three.calls, 1);
    assert_int_equal(three.r.end, OUTGOING_CANCELLED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_script_answers_and_requests_are_on_record),
        cmocka_unit_test(it_refuses_what_the_real_one_refuses),
        cmocka_unit_test(what_is_held_waits_and_can_be_cancelled),
    };

    return cmocka_run_group_tests_name("outgoing_fake", tests, NULL, NULL);
}
