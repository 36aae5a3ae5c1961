/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "os/thread.h"

static _Atomic int ran, workers_made, workers_freed;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

static void *make_worker(void *arg)
{
    atomic_fetch_add(&workers_made, 1);
    return arg;
}

static void free_worker(void *worker)
{
    assert_non_null(worker);
    atomic_fetch_add(&workers_freed, 1);
}

static void count(void *ctx, void *worker)
{
    assert_non_null(worker);
    atomic_fetch_add(&ran, *(int *)ctx);
}

static void wait_at(void *ctx, void *worker _unused_)
{
    pthread_mutex_lock(ctx);
    pthread_mutex_unlock(ctx);
    atomic_fetch_add(&ran, 1);
}

static void every_job_runs_once_even_if_the_pool_ends(void **state _unused_)
{
    int one = 1;
    struct err e;
    struct pool_opts o = { .name = "test",
                           .threads = 3,
                           .queue = 5000,
                           .arg = &one,
                           .worker_new = make_worker,
                           .worker_free = free_worker };
    struct pool *p = pool_new(&o, &e);

    ran = 0;
    assert_non_null(p);
    for (int i = 0; i < 5000; i++)
        assert_true(pool_submit(p, count, &one));
    pool_free(p);
    assert_int_equal(ran, 5000);
    assert_int_equal(workers_made, 3);
    assert_int_equal(workers_freed, 3);
}

static void a_full_queue_refuses(void **state _unused_)
{
    struct err e;
    struct pool *p = pool_new(&(struct pool_opts){ .name = "t", .threads = 1, .queue = 4 }, &e);
    int taken = 0;

    ran = 0;
    pthread_mutex_lock(&gate);
    for (int i = 0; i < 20; i++)
        taken += pool_submit(p, wait_at, &gate);
    assert_true(taken == 4 || taken == 5); /* one may be at work already */
    pthread_mutex_unlock(&gate);
    pool_free(p);
    assert_int_equal(ran, taken);
}

static void a_job_that_takes_long_keeps_no_other_waiting(void **state _unused_)
{
    int one = 1;
    struct err e;
    struct pool_opts o = {
        .name = "t", .threads = 2, .queue = 100, .arg = &one, .worker_new = make_worker
    };
    struct pool *p = pool_new(&o, &e);

    assert_non_null(p);
    for (int round = 0; round < 20; round++) { /* both sleep before all but the first */
        ran = 0;
        pthread_mutex_lock(&gate);
        assert_true(pool_submit(p, wait_at, &gate));
        for (int i = 0; i < 50; i++)
            assert_true(pool_submit(p, count, &one));
        for (int ms = 0; ran < 50 && ms < 10000; ms++)
            usleep(1000);
        assert_int_equal(ran, 50);
        pthread_mutex_unlock(&gate);
        for (int ms = 0; ran < 51 && ms < 10000; ms++)
            usleep(1000);
        assert_int_equal(ran, 51);
    }
    pool_free(p);
}

static void wait_for_counts(struct pool *p, int64_t used, int done)
{
    struct fair_counts counts = { .used = -1 };

    for (int ms = 0; (counts.used != used || ran != done) && ms < 10000; ms++) {
        usleep(1000);
        pool_counts(p, &counts);
    }
    assert_int_equal(counts.used, used);
    assert_int_equal(ran, done);
}

/* The one that comes back takes what waits for it with it; what waits for the flow's own turn needs
 * another, though none is submitted any more. */
static void a_seat_that_comes_back_calls_a_thread_for_whom_it_lets_begin(void **state _unused_)
{
    static pthread_mutex_t own = PTHREAD_MUTEX_INITIALIZER;
    const struct flow one = { .key = 1, .seats = 1 }, two = { .key = 2 }, three = { .key = 3 };
    struct err e;
    struct pool_opts o = { .name = "t", .threads = 8, .queue = 100 };
    struct pool *p = pool_new(&o, &e);

    assert_non_null(p);
    ran = 0;
    pthread_mutex_lock(&own);
    pthread_mutex_lock(&gate);
    assert_int_equal(pool_submit_for(p, &one, wait_at, &own), FAIR_OK);
    assert_int_equal(pool_submit_for(p, &two, wait_at, &gate), FAIR_OK);
    assert_int_equal(pool_submit_for(p, &two, wait_at, &gate), FAIR_OK);
    assert_int_equal(pool_submit_for(p, &three, wait_at, &gate), FAIR_OK);
    wait_for_counts(p, 4, 0);
    assert_int_equal(pool_submit_for(p, &two, wait_at, &gate), FAIR_OK);
    assert_int_equal(pool_submit_for(p, &one, wait_at, &own), FAIR_OK);
    pthread_mutex_unlock(&own);
    wait_for_counts(p, 4, 2);
    pthread_mutex_unlock(&gate);
    wait_for_counts(p, 0, 6);
    pool_free(p);
}

static void rest_some(void *worker)
{
    atomic_store((_Atomic int *)worker, ran);
}

static void a_worker_tells_when_it_is_about_to_rest(void **state _unused_)
{
    _Atomic int rested_at = -1;
    int one = 1;
    struct err e;
    struct pool_opts o = { .name = "t",
                           .threads = 1,
                           .queue = 100,
                           .arg = &rested_at,
                           .worker_new = make_worker,
                           .worker_rest = rest_some };
    struct pool *p = pool_new(&o, &e);

    ran = 0;
    assert_non_null(p);
    for (int i = 0; i < 50; i++)
        assert_true(pool_submit(p, count, &one));
    for (int ms = 0; rested_at < 50 && ms < 10000; ms++)
        usleep(1000);
    assert_int_equal(rested_at, 50);
    pool_free(p);
}

static void a_pool_of_no_threads_is_refused(void **state _unused_)
{
    struct err e;

    assert_null(pool_new(&(struct pool_opts){ .name = "t", .threads = 0, .queue = 4 }, &e));
    assert_null(pool_new(&(struct pool_opts){ .name = "t", .threads = 1, .queue = 0 }, &e));
    assert_int_equal(e.code, ERR_INVALID);
    pool_free(NULL);
}

static void *look_at_self(void *arg)
{
    char *name = arg;
    sigset_t blocked;

    pthread_getname_np(pthread_self(), name, 16);
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    return sigismember(&blocked, SIGTERM) && sigismember(&blocked, SIGCHLD) ? arg : NULL;
}

static void a_thread_has_its_name_and_no_signals(void **state _unused_)
{
    char name[16] = "";
    void *result;
    sigset_t mine;

    pthread_join(thread_start("a-very-long-name-indeed", look_at_self, name), &result);
    assert_ptr_equal(result, name);
    assert_string_equal(name, "a-very-long-nam");
    pthread_sigmask(SIG_BLOCK, NULL, &mine);
    assert_false(sigismember(&mine, SIGTERM));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_job_runs_once_even_if_the_pool_ends),
        cmocka_unit_test(a_full_queue_refuses),
        cmocka_unit_test(a_job_that_takes_long_keeps_no_other_waiting),
        cmocka_unit_test(a_seat_that_comes_back_calls_a_thread_for_whom_it_lets_begin),
        cmocka_unit_test(a_worker_tells_when_it_is_about_to_rest),
        cmocka_unit_test(a_pool_of_no_threads_is_refused),
        cmocka_unit_test(a_thread_has_its_name_and_no_signals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
