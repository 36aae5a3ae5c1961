/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/map.h"

static void siphash_gives_its_published_values(void **state _unused_)
{
    static const uint8_t want128[16] = { 0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6,
                                         0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93 };
    uint8_t key[16], in[64], out[16];

    for (size_t i = 0; i < sizeof(key); i++)
        key[i] = (uint8_t)i;
    for (size_t i = 0; i < sizeof(in); i++)
        in[i] = (uint8_t)i;
    assert_true(hash_sip64(key, in, 0) == UINT64_C(0x726fdb47dd0e0e31));
    assert_true(hash_sip64(key, in, 8) == UINT64_C(0x93f5f5799a932462));
    assert_true(hash_sip64(key, in, 15) == UINT64_C(0xa129ca6149be45e5));
    hash_sip128(key, in, 0, out);
    assert_memory_equal(out, want128, 16);
}

static void what_is_set_is_found_until_it_is_deleted(void **state _unused_)
{
    _cleanup_(map_freep) struct map *m = map_new();
    static int values[5000];

    for (int i = 0; i < 5000; i++)
        assert_null(map_set(m, &i, sizeof(i), &values[i]));
    assert_int_equal(map_count(m), 5000);
    for (int i = 0; i < 5000; i += 2)
        assert_ptr_equal(map_del(m, &i, sizeof(i)), &values[i]);
    assert_int_equal(map_count(m), 2500);
    for (int i = 0; i < 5000; i++)
        assert_ptr_equal(map_get(m, &i, sizeof(i)), i % 2 ? &values[i] : NULL);
    int first = 1;
    assert_ptr_equal(map_set(m, &first, sizeof(first), &values[7]), &values[1]);
    assert_ptr_equal(map_get(m, &first, sizeof(first)), &values[7]);
    assert_null(map_del(m, "none", 4));
}

static void keys_are_bytes_and_may_be_empty(void **state _unused_)
{
    _cleanup_(map_freep) struct map *m = map_new();
    int x, y;

    assert_null(map_get(m, "", 0));
    map_set(m, "", 0, &x);
    map_set(m, "a\0b", 3, &y);
    assert_ptr_equal(map_get(m, NULL, 0), &x);
    assert_ptr_equal(map_get(m, "a\0b", 3), &y);
    assert_null(map_get(m, "a\0c", 3));
    assert_null(map_get(m, "a", 1));
}

static void an_iteration_sees_each_entry_once_and_may_delete_it(void **state _unused_)
{
    _cleanup_(map_freep) struct map *m = map_new();
    static bool seen[1000];
    const void *key;
    void *value;
    size_t at = 0, n, met = 0;

    for (int i = 0; i < 1000; i++)
        map_set(m, &i, sizeof(i), &seen[i]);
    while (map_next(m, &at, &key, &n, &value)) {
        bool *s = value;

        assert_false(*s);
        *s = true;
        met++;
        assert_ptr_equal(map_del(m, key, n), value);
    }
    assert_int_equal(met, 1000);
    assert_int_equal(map_count(m), 0);
}

static void marks_of_what_has_gone_never_fill_it(void **state _unused_)
{
    _cleanup_(map_freep) struct map *m = map_new();
    int x;

    for (int i = 0; i < 200000; i++) {
        map_set(m, &i, sizeof(i), &x);
        assert_ptr_equal(map_del(m, &i, sizeof(i)), &x);
    }
    assert_int_equal(map_count(m), 0);
    map_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(siphash_gives_its_published_values),
        cmocka_unit_test(what_is_set_is_found_until_it_is_deleted),
        cmocka_unit_test(keys_are_bytes_and_may_be_empty),
        cmocka_unit_test(an_iteration_sees_each_entry_once_and_may_delete_it),
        cmocka_unit_test(marks_of_what_has_gone_never_fill_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
