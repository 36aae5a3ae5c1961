/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sys/wait.h>

#include "codec/id.h"

enum { MANY = 20000, THREADS = 4 };

static struct uuid made[THREADS][MANY];

static void *make_many(void *arg)
{
    struct uuid *out = arg;

    for (int i = 0; i < MANY; i++)
        uuid_new(clock_system(), &out[i]);
    return NULL;
}

static int compare(const void *a, const void *b)
{
    const struct uuid *x = a, *y = b;

    return strcmp(x->s, y->s);
}

static void uuids_of_all_threads_grow_and_never_repeat(void **state _unused_)
{
    pthread_t t[THREADS];

    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, make_many, made[i]), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    for (size_t i = 0; i < THREADS; i++)
        for (size_t j = 1; j < MANY; j++)
            assert_true(strcmp(made[i][j - 1].s, made[i][j].s) < 0);
    qsort(made, (size_t)THREADS * MANY, sizeof(struct uuid), compare);
    for (size_t i = 1; i < (size_t)THREADS * MANY; i++)
        assert_false(uuid_eq(&made[0][0] + i, &made[0][0] + i - 1));
}

static void a_uuid_has_its_version_variant_and_time(void **state _unused_)
{
    struct clock c = clock_fake(INT64_C(4102444800000) * 1000); /* 2100, past all others here */
    struct uuid u, again;

    uuid_new(&c, &u);
    assert_memory_equal(u.s, "03bb2cc3-d800-7", 15);
    assert_non_null(strchr("89ab", u.s[19]));
    assert_true(uuid_parse(str_of(u.s), &again));
    assert_true(uuid_eq(&u, &again));
}

static void order_holds_when_the_clock_steps_back(void **state _unused_)
{
    struct clock c = clock_fake(INT64_C(4102444900000) * 1000);
    struct uuid a, b;

    uuid_new(&c, &a);
    for (int i = 0; i < 10000; i++) {
        clock_advance(&c, i % 3 ? -MILLIS(50) : MILLIS(1));
        uuid_new(&c, &b);
        assert_true(strcmp(a.s, b.s) < 0);
        a = b;
    }
    struct clock before_the_epoch = clock_fake(-SECONDS(5));
    uuid_new(&before_the_epoch, &b);
    assert_true(strcmp(a.s, b.s) < 0);
}

static void a_forked_child_makes_others_than_its_parent(void **state _unused_)
{
    struct uuid mine, theirs;
    int fds[2];

    uuid_new(clock_system(), &mine);
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        uuid_new(clock_system(), &theirs);
        _exit(write(fds[1], &theirs, sizeof(theirs)) != sizeof(theirs));
    }
    uuid_new(clock_system(), &mine);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(read(fds[0], &theirs, sizeof(theirs)), sizeof(theirs));
    close(fds[0]);
    close(fds[1]);
    assert_false(uuid_eq(&mine, &theirs));
}

static void only_well_formed_uuids_are_read(void **state _unused_)
{
    struct uuid u = { "untouched" };

    assert_true(uuid_parse(STR("01890A5D-AC96-774B-BCCE-B302099A8057"), &u));
    assert_string_equal(u.s, "01890a5d-ac96-774b-bcce-b302099a8057");
    static const char *const bad[] = {
        "",
        "01890a5d-ac96-774b-bcce-b302099a805",
        "01890a5d-ac96-774b-bcce-b302099a80577",
        "01890a5dac96774bbcceb302099a8057----",
        "01890a5d-ac96-774b-bcce-b302099a805g",
        "{1890a5d-ac96-774b-bcce-b302099a805}",
        "01890a5d_ac96-774b-bcce-b302099a8057",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(uuid_parse(str_of(bad[i]), &u));
    assert_string_equal(u.s, "01890a5d-ac96-774b-bcce-b302099a8057");
}

static void typeids_agree_with_the_published_examples(void **state _unused_)
{
    static const struct {
        const char *uuid, *typeid, *prefix;
    } cases[] = {
        { "01890a5d-ac96-774b-bcce-b302099a8057", "prefix_01h455vb4pex5vsknk084sn02q", "prefix" },
        { "0110c853-1d09-52d8-d73e-1194e95b5f19", "prefix_0123456789abcdefghjkmnpqrs", "prefix" },
        { "ffffffff-ffff-ffff-ffff-ffffffffffff", "a_b_7zzzzzzzzzzzzzzzzzzzzzzzzz", "a_b" },
        { "00000000-0000-0000-0000-000000000000", "q_00000000000000000000000000", "q" },
    };
    char out[TYPEID_MAX], prefix[64];
    struct uuid u;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_true(uuid_parse(str_of(cases[i].uuid), &u));
        typeid_format(cases[i].prefix, &u, out);
        assert_string_equal(out, cases[i].typeid);
        assert_true(typeid_parse(str_of(cases[i].typeid), prefix, &u));
        assert_string_equal(prefix, cases[i].prefix);
        assert_string_equal(u.s, cases[i].uuid);
    }
}

static void malformed_typeids_are_refused(void **state _unused_)
{
    static const char *const bad[] = {
        "prefix_8zzzzzzzzzzzzzzzzzzzzzzzzz", /* over 128 bits */
        "prefix_01H455vb4pex5vsknk084sn02q", /* upper case */
        "prefix_01i455vb4pex5vsknk084sn02q", /* no such digit */
        "Prefix_01h455vb4pex5vsknk084sn02q",
        "_01h455vb4pex5vsknk084sn02q",
        "01h455vb4pex5vsknk084sn02q",
        "prefix__01h455vb4pex5vsknk084sn02q",
        "_p_01h455vb4pex5vsknk084sn02q",
        "p2_01h455vb4pex5vsknk084sn02q",
        "prefix_",
        "_",
        "",
        "prefix_01h455vb4pex5vsknk084sn02",
        "prefix-01h455vb4pex5vsknk084sn02q",
    };
    char prefix[64];
    struct uuid u;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(typeid_parse(str_of(bad[i]), prefix, &u));
}

static void an_id_in_a_path_is_right_wrong_or_none(void **state _unused_)
{
    struct uuid u;

    assert_int_equal(id_parse(STR("q_01h455vb4pex5vsknk084sn02q"), "q", &u), ID_OK);
    assert_string_equal(u.s, "01890a5d-ac96-774b-bcce-b302099a8057");
    assert_int_equal(id_parse(STR("01890a5d-ac96-774b-bcce-b302099a8057"), "q", &u), ID_OK);
    assert_int_equal(id_parse(STR("01890a5d-ac96-774b-bcce-b302099a8057"), NULL, &u), ID_OK);
    assert_int_equal(id_parse(STR("vpc_01h455vb4pex5vsknk084sn02q"), "q", &u), ID_WRONG_PREFIX);
    assert_int_equal(id_parse(STR("q_01h455vb4pex5vsknk084sn02q"), NULL, &u), ID_WRONG_PREFIX);
    assert_int_equal(id_parse(STR("jobs"), "q", &u), ID_NONE);
    assert_true(id_looks_like(STR("x_01h455vb4pex5vsknk084sn02q")));
    assert_false(id_looks_like(STR("my_queue")));
}

static void a_secret_bears_its_own_checksum(void **state _unused_)
{
    char s[SECRET_MAX], other[SECRET_MAX];

    secret_new("thecloud_", s);
    secret_new("thecloud_", other);
    assert_string_not_equal(s, other);
    assert_int_equal(strlen(s), 9 + 40);
    assert_true(secret_check("thecloud_", str_of(s)));
    assert_false(secret_check("sk_live_", str_of(s)));
    for (size_t i = 9; s[i]; i++) {
        char was = s[i];

        s[i] = was == 'x' ? 'y' : 'x';
        assert_false(secret_check("thecloud_", str_of(s)));
        s[i] = was;
    }
    /* Made by another program (Python's zlib.crc32). */
    assert_true(secret_check("cap_", STR("cap_000000000000000000000000000000000007EpDs")));
    assert_false(secret_check("cap_", STR("cap_0000000000000000000000000000000000000000")));
    assert_false(secret_check("cap_", STR("cap_")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uuids_of_all_threads_grow_and_never_repeat),
        cmocka_unit_test(a_forked_child_makes_others_than_its_parent),
        cmocka_unit_test(a_uuid_has_its_version_variant_and_time),
        cmocka_unit_test(order_holds_when_the_clock_steps_back),
        cmocka_unit_test(only_well_formed_uuids_are_read),
        cmocka_unit_test(typeids_agree_with_the_published_examples),
        cmocka_unit_test(malformed_typeids_are_refused),
        cmocka_unit_test(an_id_in_a_path_is_right_wrong_or_none),
        cmocka_unit_test(a_secret_bears_its_own_checksum),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
