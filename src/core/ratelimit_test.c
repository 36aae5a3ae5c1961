/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "core/ratelimit.h"

static const int64_t T0 = INT64_C(1767225600000000); /* 2026-01-01T00:00:00Z */

static struct ratelimit_answer take(struct ratelimit *r, const char *key, int64_t limit,
                                    int64_t burst, int64_t now)
{
    struct ratelimit_answer a;

    ratelimit_take(r, key, strlen(key), limit, burst, now, &a);
    return a;
}

static void exactly_the_limit_passes_in_a_window(void **state _unused_)
{
    struct ratelimit *r = ratelimit_new(100);

    for (int i = 0; i < 60; i++) {
        struct ratelimit_answer a = take(r, "a", 60, 0, T0 + i);

        assert_true(a.allowed);
        assert_int_equal(a.remaining, 59 - i);
        assert_int_equal(a.limit, 60);
        assert_int_equal(a.reset, T0 + SECONDS(60));
    }
    for (int i = 0; i < 5; i++)
        assert_false(take(r, "a", 60, 0, T0 + SECONDS(59)).allowed);
    assert_true(take(r, "b", 60, 0, T0 + SECONDS(59)).allowed);
    ratelimit_free(r);
}

static void a_window_begins_with_the_first_request(void **state _unused_)
{
    struct ratelimit *r = ratelimit_new(100);

    assert_true(take(r, "a", 1, 0, T0).allowed);
    assert_false(take(r, "a", 1, 0, T0 + SECONDS(60) - 1).allowed);
    struct ratelimit_answer a = take(r, "a", 1, 0, T0 + SECONDS(75));
    assert_true(a.allowed);
    assert_int_equal(a.reset, T0 + SECONDS(135));
    ratelimit_free(r);
}

static void retry_after_is_never_earlier_than_the_reset(void **state _unused_)
{
    struct ratelimit *r = ratelimit_new(100);

    for (int64_t first = 0; first < SECONDS(1); first += 130001)
        for (int64_t later = 0; later < SECONDS(60); later += 1710001) {
            char key[64];

            snprintf(key, sizeof(key), "%lld-%lld", (long long)first, (long long)later);
            take(r, key, 1, 0, T0 + first);
            int64_t now = T0 + first + later;
            struct ratelimit_answer a = take(r, key, 1, 0, now);
            assert_false(a.allowed);
            assert_true(a.retry_after >= 1);
            assert_true(now / SECONDS(1) * SECONDS(1) + SECONDS(a.retry_after) >= a.reset);
            assert_true(take(r, key, 1, 0, now + SECONDS(a.retry_after)).allowed);
        }
    ratelimit_free(r);
}

static void a_burst_serves_what_is_over_and_is_refilled_over_ten_minutes(void **state _unused_)
{
    struct ratelimit *r = ratelimit_new(100);
    int passed = 0;

    for (int i = 0; i < 100; i++)
        passed += take(r, "a", 10, 20, T0 + i).allowed;
    assert_int_equal(passed, 30);
    passed = 0;
    for (int i = 0; i < 100; i++) /* a minute later: the limit, and a tenth of the burst */
        passed += take(r, "a", 10, 20, T0 + SECONDS(60) + SECONDS(1) + i).allowed;
    assert_int_equal(passed, 12);
    passed = 0;
    for (int i = 0; i < 100; i++)
        passed += take(r, "a", 10, 20, T0 + SECONDS(7200) + i).allowed;
    assert_int_equal(passed, 30);
    ratelimit_free(r);
}

static void a_clock_that_steps_back_locks_nobody_out(void **state _unused_)
{
    struct ratelimit *r = ratelimit_new(100);

    assert_true(take(r, "a", 1, 0, T0).allowed);
    assert_false(take(r, "a", 1, 0, T0 - 500).allowed);
    assert_true(take(r, "a", 1, 0, T0 - SECONDS(3600)).allowed);
    ratelimit_free(r);
}

static void the_least_recently_used_windows_are_forgotten(void **state _unused_)
{
    struct ratelimit *r = ratelimit_new(3);

    take(r, "a", 1, 0, T0);
    take(r, "b", 1, 0, T0);
    take(r, "c", 1, 0, T0);
    assert_false(take(r, "a", 1, 0, T0).allowed);
    take(r, "d", 1, 0, T0); /* drives out b */
    assert_false(take(r, "a", 1, 0, T0).allowed);
    assert_false(take(r, "c", 1, 0, T0).allowed);
    assert_true(take(r, "b", 1, 0, T0).allowed);
    ratelimit_free(r);
}

static void a_key_with_requests_running_is_not_forgotten(void **state _unused_)
{
    struct ratelimit *r = ratelimit_new(2);

    assert_true(ratelimit_enter(r, "a", 1, 1));
    for (int i = 0; i < 50; i++) {
        char key[8];

        snprintf(key, sizeof(key), "k%d", i);
        take(r, key, 1, 0, T0);
    }
    assert_false(ratelimit_enter(r, "a", 1, 1));
    ratelimit_leave(r, "a", 1);
    assert_true(ratelimit_enter(r, "a", 1, 1));
    ratelimit_leave(r, "unknown", 7);
    ratelimit_free(r);
}

static void weights_are_counted_apart_from_requests(void **state _unused_)
{
    struct ratelimit *r = ratelimit_new(100);
    int64_t after;

    for (int i = 0; i < 10; i++)
        assert_true(ratelimit_weight(r, "a", 1, 5, 50, T0, &after));
    assert_false(ratelimit_weight(r, "a", 1, 1, 50, T0, &after));
    assert_int_equal(after, 60);
    assert_true(ratelimit_weight(r, "a", 1, 0, 50, T0, &after));
    assert_true(ratelimit_weight(r, "a", 1, -5, 50, T0, &after)); /* a 304 gives back */
    assert_true(ratelimit_weight(r, "a", 1, 5, 50, T0, &after));
    assert_true(take(r, "a", 1, 0, T0).allowed);
    assert_true(ratelimit_weight(r, "a", 1, 5, 50, T0 + SECONDS(60), &after));
    ratelimit_free(r);
}

struct share {
    struct ratelimit *r;
    int passed;
};

static void *share_main(void *arg)
{
    struct share *s = arg;

    for (int i = 0; i < 20000; i++)
        s->passed += take(s->r, "one", 7777, 100, T0 + i).allowed;
    return NULL;
}

static void threads_share_a_window_exactly(void **state _unused_)
{
    struct ratelimit *r = ratelimit_new(100);
    struct share s[4] = { { r, 0 }, { r, 0 }, { r, 0 }, { r, 0 } };
    pthread_t t[4];
    int all = 0;

    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, share_main, &s[i]);
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], NULL);
        all += s[i].passed;
    }
    assert_int_equal(all, 7777 + 100);
    ratelimit_free(r);
}

static void a_request_costs_little(void **state _unused_)
{
    enum { ROUNDS = 1000000, KEYS = 1000 };
    struct ratelimit *r = ratelimit_new(100000);
    static char keys[KEYS][37];

    for (int i = 0; i < KEYS; i++)
        snprintf(keys[i], sizeof(keys[i]), "01900000-0000-7000-8000-%012d", i);
    int64_t began = clock_mono(clock_system());
    for (int i = 0; i < ROUNDS; i++) {
        struct ratelimit_answer a;

        ratelimit_take(r, keys[i % KEYS], 36, 1000, 0, T0 + i, &a);
    }
    int64_t took = clock_mono(clock_system()) - began;
    print_message("ratelimit_take: %lld ns\n", (long long)(took * 1000 / ROUNDS));
    assert_true(took < SECONDS(5));
    ratelimit_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exactly_the_limit_passes_in_a_window),
        cmocka_unit_test(a_window_begins_with_the_first_request),
        cmocka_unit_test(retry_after_is_never_earlier_than_the_reset),
        cmocka_unit_test(a_burst_serves_what_is_over_and_is_refilled_over_ten_minutes),
        cmocka_unit_test(a_clock_that_steps_back_locks_nobody_out),
        cmocka_unit_test(the_least_recently_used_windows_are_forgotten),
        cmocka_unit_test(a_key_with_requests_running_is_not_forgotten),
        cmocka_unit_test(weights_are_counted_apart_from_requests),
        cmocka_unit_test(threads_share_a_window_exactly),
        cmocka_unit_test(a_request_costs_little),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
