/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "core/rows/rowcache.h"

static const struct record one = { .name = "one" }, two = { .name = "two" };

static struct uuid id_of(int i)
{
    struct uuid u;

    snprintf(u.s, sizeof(u.s), "01900000-0000-7000-8000-%012d", i);
    return u;
}

static void put(struct rowcache *c, const struct record *r, int i, int surface, uint64_t commits,
                const char *body)
{
    struct rowcache_entry e = { .revision = i, .mode = 1, .body = str_of(body) };
    struct uuid id = id_of(i);

    e.tenant_id = id_of(9000 + i);
    rowcache_put(c, r, &id, surface, commits, &e);
}

static const char *got(struct rowcache *c, struct arena *a, const struct record *r, int i,
                       int surface)
{
    struct rowcache_entry e;
    struct uuid id = id_of(i), tenant = id_of(9000 + i);

    if (!rowcache_get(c, a, r, &id, surface, &e))
        return NULL;
    assert_int_equal(e.revision, i);
    assert_int_equal(e.mode, 1);
    assert_true(uuid_eq(&e.tenant_id, &tenant));
    assert_int_equal(strlen(e.body.p), e.body.n);
    return e.body.p;
}

static void an_entry_is_found_by_record_id_and_surface(void **state _unused_)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    struct rowcache *c = rowcache_new(MIB(1));

    put(c, &one, 1, 1, 0, "classic");
    put(c, &one, 1, 2, 0, "platform");
    put(c, &two, 1, 1, 0, "other record");
    assert_string_equal(got(c, &a, &one, 1, 1), "classic");
    assert_string_equal(got(c, &a, &one, 1, 2), "platform");
    assert_string_equal(got(c, &a, &two, 1, 1), "other record");
    assert_null(got(c, &a, &two, 1, 2));
    assert_null(got(c, &a, &one, 2, 1));
    put(c, &one, 1, 1, 0, "again");
    assert_string_equal(got(c, &a, &one, 1, 1), "again");
    rowcache_free(c);
}

static void a_drop_takes_all_surfaces_of_one_record(void **state _unused_)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    struct rowcache *c = rowcache_new(MIB(1));
    struct uuid id = id_of(1);

    put(c, &one, 1, 1, 0, "classic");
    put(c, &one, 1, 2, 0, "platform");
    put(c, &two, 1, 1, 0, "other record");
    rowcache_drop(c, &one, &id, 1);
    assert_null(got(c, &a, &one, 1, 1));
    assert_null(got(c, &a, &one, 1, 2));
    assert_string_equal(got(c, &a, &two, 1, 1), "other record");
    rowcache_free(c);
}

static void a_reader_from_before_the_commit_cannot_put_a_stale_row_back(void **state _unused_)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    struct rowcache *c = rowcache_new(MIB(1));
    struct uuid id = id_of(1);

    rowcache_drop(c, &one, &id, 8);
    put(c, &one, 1, 1, 7, "stale");
    assert_null(got(c, &a, &one, 1, 1));
    put(c, &one, 1, 1, 8, "fresh");
    assert_string_equal(got(c, &a, &one, 1, 1), "fresh");
    rowcache_drop(c, &one, &id, 5); /* told late */
    put(c, &one, 1, 1, 7, "stale");
    assert_null(got(c, &a, &one, 1, 1));
    rowcache_free(c);
}

static void bytes_are_bounded_and_the_least_recently_used_go_first(void **state _unused_)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(64));
    struct rowcache *c = rowcache_new(KIB(512));
    static char body[1000];
    int left = 0;

    memset(body, 'x', sizeof(body) - 1);
    for (int i = 0; i < 5000; i++) {
        put(c, &one, i, 1, 0, body);
        assert_non_null(got(c, &a, &one, 0, 1)); /* in use all the time */
        if (i == 0)
            assert_non_null(got(c, &a, &one, 0, 1));
    }
    for (int i = 0; i < 5000; i++)
        left += got(c, &a, &one, i, 1) != NULL;
    assert_true(left > 250 && left < 512);
    rowcache_free(c);
}

static void what_is_too_large_is_not_kept(void **state _unused_)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    struct rowcache *c = rowcache_new(KIB(16));
    static char body[4000];

    memset(body, 'x', sizeof(body) - 1);
    put(c, &one, 1, 1, 0, body);
    assert_null(got(c, &a, &one, 1, 1));
    rowcache_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_entry_is_found_by_record_id_and_surface),
        cmocka_unit_test(a_drop_takes_all_surfaces_of_one_record),
        cmocka_unit_test(a_reader_from_before_the_commit_cannot_put_a_stale_row_back),
        cmocka_unit_test(bytes_are_bounded_and_the_least_recently_used_go_first),
        cmocka_unit_test(what_is_too_large_is_not_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
