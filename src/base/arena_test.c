/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/wait.h>

#include "base/base.h"

static void memory_is_zeroed_aligned_and_apart(void **state _unused_)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(4));
    char *before = NULL;

    for (size_t n = 0; n < 3000; n += 7) {
        char *p = arena_alloc(&a, n);

        assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(p[i], 0);
        memset(p, 0x5a, n);
        if (before && n > 7)
            assert_int_equal(before[n - 8], 0x5a);
        before = p;
    }
}

static void an_array_grows_and_keeps_what_is_in_it(void **state _unused_)
{
    _cleanup_(arena_free) struct arena a = ARENA(KIB(64));
    size_t n = 0, cap = 0, copies = 0;
    int *v = NULL;

    while (n < 1000) {
        int *more = arena_more(&a, v, n, &cap, sizeof(*v));

        copies += more != v;
        v = more;
        v[n] = (int)n;
        n++;
    }
    for (size_t i = 0; i < n; i++)
        assert_int_equal(v[i], i);
    assert_int_equal(cap, 1024);
    assert_int_equal(copies, 7);
}

static void strings_are_copied_and_ended(void **state _unused_)
{
    _cleanup_(arena_free) struct arena a = ARENA(KIB(64));

    assert_string_equal(arena_dup(&a, "hello world", 5), "hello");
    assert_string_equal(arena_dup(&a, NULL, 0), "");
    assert_null(arena_strdup(&a, NULL));
    assert_string_equal(arena_printf(&a, "%d-%s", 7, "x"), "7-x");
}

static void a_reset_arena_keeps_one_chunk_and_works_on(void **state _unused_)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));

    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < 20; i++)
            memset(arena_alloc(&a, 4000), round + 1, 4000);
        arena_reset(&a, 8192);
        assert_true(a.used <= 8192);
        assert_int_equal(((char *)arena_alloc(&a, 100))[99], 0);
    }
}

static void past_its_limit_it_aborts(void **state _unused_)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        struct arena a = ARENA(KIB(8));

        signal(SIGABRT, SIG_DFL);
        close(STDERR_FILENO);
        arena_alloc(&a, KIB(9));
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void a_size_from_outside_asks_first(void **state _unused_)
{
    _cleanup_(arena_free) struct arena a = ARENA(KIB(64));
    size_t got = 0;

    assert_null(arena_try(&a, KIB(65)));
    assert_null(arena_try(&a, SIZE_MAX));
    assert_null(arena_try_dup(&a, "", SIZE_MAX));
    assert_string_equal(arena_try_dup(&a, "hello world", 5), "hello");
    while (arena_try(&a, 1000))
        got += 1000;
    assert_true(got >= KIB(24) && a.used <= a.limit);
    assert_null(arena_try(&a, 1000));
    assert_null(arena_try(&a, SIZE_MAX - 1));
    arena_free(&a);
    assert_non_null(arena_try(&a, KIB(64)));
    assert_null(arena_try(&a, 1));
    assert_null(arena_try(&a, SIZE_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zeroed_aligned_and_apart),
        cmocka_unit_test(an_array_grows_and_keeps_what_is_in_it),
        cmocka_unit_test(strings_are_copied_and_ended),
        cmocka_unit_test(a_reset_arena_keeps_one_chunk_and_works_on),
        cmocka_unit_test(past_its_limit_it_aborts),
        cmocka_unit_test(a_size_from_outside_asks_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
