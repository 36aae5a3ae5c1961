/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/clock.h"
#include "core/limit/ratelimit.h"

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

/* ---- kept in a file */

enum { HEAD = 64, PLACE = 72, FORM_AT = 8 };
static const uint8_t secret[17] = "sixteen letters!";
static char kept_path[64];

static struct ratelimit *kept(int64_t now)
{
    struct ratelimit *r = ratelimit_new(300);
    struct err e;

    if (ratelimit_keep(r, kept_path, secret, now, &e) < 0)
        fail_msg("%s: %s", e.msg, e.cause);
    return r;
}

/* What a killed process leaves: all that was written, and no farewell. */
static void fill(int64_t now)
{
    struct ratelimit *r = kept(now);
    int64_t after;

    take(r, "a", 2, 0, now);
    take(r, "a", 2, 0, now);
    take(r, "b", 2, 0, now);
    take(r, "c", 0, 1, now); /* its burst */
    assert_true(ratelimit_weight(r, "d", 1, 5, 5, now, &after));
    ratelimit_save(r);
    take(r, "b", 2, 0, now); /* of the last second */
    ratelimit_free(r);
}

/* Changes one byte of the file; the byte before. */
static uint8_t poke(long at, uint8_t flip)
{
    FILE *f = fopen(kept_path, "r+b");

    assert_non_null(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    int c = fgetc(f);
    assert_true(c >= 0);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    assert_true(fputc(c ^ flip, f) >= 0);
    assert_int_equal(fclose(f), 0);
    return (uint8_t)c;
}

static void what_was_saved_holds_after_a_restart(void **state _unused_)
{
    int64_t after;

    fill(T0);
    for (int i = 0; i < 3; i++) { /* also over restarts in which nothing happens */
        struct ratelimit *r = kept(T0 + SECONDS(1));

        ratelimit_free(r);
    }
    struct ratelimit *r = kept(T0 + SECONDS(30));
    struct ratelimit_answer a = take(r, "a", 2, 0, T0 + SECONDS(30));
    assert_false(a.allowed);
    assert_int_equal(a.reset, T0 + SECONDS(60));
    assert_true(take(r, "b", 2, 0, T0 + SECONDS(30)).allowed);
    assert_false(take(r, "b", 2, 0, T0 + SECONDS(30)).allowed);
    assert_false(take(r, "c", 0, 1, T0 + SECONDS(30)).allowed);
    assert_false(ratelimit_weight(r, "d", 1, 5, 5, T0 + SECONDS(30), &after));
    assert_true(take(r, "new", 1, 0, T0 + SECONDS(30)).allowed);
    ratelimit_save(r);
    ratelimit_free(r);
    r = kept(T0 + SECONDS(31));
    assert_false(take(r, "b", 2, 0, T0 + SECONDS(31)).allowed);
    assert_false(take(r, "new", 1, 0, T0 + SECONDS(31)).allowed);
    ratelimit_free(r);
}

static void windows_that_are_over_are_not_taken_up(void **state _unused_)
{
    int64_t after;

    fill(T0);
    struct ratelimit *r = kept(T0 + SECONDS(60));
    assert_true(take(r, "a", 2, 0, T0 + SECONDS(60)).allowed);
    assert_true(ratelimit_weight(r, "d", 1, 5, 5, T0 + SECONDS(60), &after));
    assert_false(take(r, "c", 0, 1, T0 + SECONDS(60)).allowed); /* a burst comes back slowly */
    ratelimit_free(r);
    unlink(kept_path);
    fill(T0);
    r = kept(T0 - HOURS(1)); /* the clock was set back */
    assert_true(take(r, "a", 2, 0, T0 - HOURS(1)).allowed);
    ratelimit_free(r);
}

static void an_entry_that_was_written_in_part_is_ignored(void **state _unused_)
{
    int torn = 0;

    fill(T0);
    for (long i = 0; i < 300; i++)
        if (poke(HEAD + i * PLACE + 24, 0)) { /* the lowest byte of 'used' */
            poke(HEAD + i * PLACE + 24, 0x40);
            torn++;
        }
    assert_int_equal(torn, 2); /* a and b */
    struct ratelimit *r = kept(T0 + 1);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(take(r, "a", 2, 0, T0 + 1).remaining, 1 - i);
        assert_int_equal(take(r, "b", 2, 0, T0 + 1).remaining, 1 - i);
    }
    assert_false(take(r, "c", 0, 1, T0 + 1).allowed); /* the others hold */
    ratelimit_free(r);
}

static void a_file_of_another_form_is_begun_anew(void **state _unused_)
{
    struct ratelimit *r;
    struct err e;

    fill(T0);
    poke(FORM_AT, 2);
    r = kept(T0 + 1);
    assert_int_equal(take(r, "a", 2, 0, T0 + 1).remaining, 1);
    ratelimit_save(r);
    ratelimit_free(r);
    r = kept(T0 + 2);
    assert_int_equal(take(r, "a", 2, 0, T0 + 2).remaining, 0);
    ratelimit_free(r);
    r = ratelimit_new(1000); /* another size */
    assert_int_equal(ratelimit_keep(r, kept_path, secret, T0 + 3, &e), 0);
    assert_int_equal(take(r, "a", 2, 0, T0 + 3).remaining, 1);
    ratelimit_free(r);
    fill(T0);
    r = ratelimit_new(300);
    assert_int_equal(ratelimit_keep(r, kept_path, (const uint8_t *)"another secret..", T0, &e), 0);
    assert_int_equal(take(r, "a", 2, 0, T0).remaining, 1);
    ratelimit_free(r);
}

static void a_file_that_is_not_ours_alone_is_refused(void **state _unused_)
{
    struct ratelimit *first = kept(T0), *second = ratelimit_new(300);
    struct err e;

    assert_int_equal(ratelimit_keep(second, kept_path, secret, T0, &e), -1);
    assert_int_equal(e.code, ERR_INVALID_STATE);
    assert_true(take(second, "a", 1, 0, T0).allowed); /* it does without */
    assert_false(take(second, "a", 1, 0, T0).allowed);
    ratelimit_save(second);
    ratelimit_free(first);
    assert_int_equal(chmod(kept_path, 0644), 0);
    assert_int_equal(ratelimit_keep(second, kept_path, secret, T0, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
    assert_int_equal(ratelimit_keep(second, "/nowhere/at/all", secret, T0, &e), -1);
    ratelimit_free(second);
}

static void only_what_changed_is_written(void **state _unused_)
{
    struct ratelimit *r = ratelimit_new(65536);
    struct err e;

    assert_int_equal(ratelimit_keep(r, kept_path, secret, T0, &e), 0);
    for (int i = 0; i < 60000; i++) {
        char key[16];

        snprintf(key, sizeof(key), "%d", i);
        take(r, key, 10, 0, T0);
    }
    int64_t began = clock_mono(clock_system());
    ratelimit_save(r);
    int64_t all = clock_mono(clock_system()) - began;
    take(r, "1", 10, 0, T0);
    began = clock_mono(clock_system());
    for (int i = 0; i < 100; i++)
        ratelimit_save(r);
    int64_t none = clock_mono(clock_system()) - began;
    print_message("ratelimit_save: %lld us for 60,000, %lld us for none\n", (long long)all,
                  (long long)(none / 100));
    assert_true(none / 100 < all);
    ratelimit_free(r);
    r = ratelimit_new(65536);
    assert_int_equal(ratelimit_keep(r, kept_path, secret, T0 + 1, &e), 0);
    assert_int_equal(take(r, "1", 10, 0, T0 + 1).remaining, 7);
    assert_int_equal(take(r, "59999", 10, 0, T0 + 1).remaining, 8);
    ratelimit_free(r);
}

static int no_file(void **state _unused_)
{
    unlink(kept_path);
    return 0;
}

int main(void)
{
    snprintf(kept_path, sizeof(kept_path), "/tmp/brume-ratelimit-%d", (int)getpid());

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
        cmocka_unit_test_teardown(what_was_saved_holds_after_a_restart, no_file),
        cmocka_unit_test_teardown(windows_that_are_over_are_not_taken_up, no_file),
        cmocka_unit_test_teardown(an_entry_that_was_written_in_part_is_ignored, no_file),
        cmocka_unit_test_teardown(a_file_of_another_form_is_begun_anew, no_file),
        cmocka_unit_test_teardown(a_file_that_is_not_ours_alone_is_refused, no_file),
        cmocka_unit_test_teardown(only_what_changed_is_written, no_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
