/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "codec/json.h"

static struct arena a;

static int give_arena(void **state _unused_)
{
    a = ARENA(MIB(64));
    return 0;
}

static int take_arena(void **state _unused_)
{
    arena_free(&a);
    return 0;
}

/* The text read and written again, or the error's words. */
static const char *again(const char *text)
{
    struct err e;
    _cleanup_(json_freep) struct json_value *v = json_parse(str_of(text), &e);

    if (!v)
        return e.code == ERR_INVALID_JSON ? arena_strdup(&a, e.msg) : "another code";
    return json_text(&a, v);
}

static void the_writer_sets_commas_and_brackets(void **state _unused_)
{
    _cleanup_(buf_free) struct buf b = BUF(1000);
    struct json_out o = JSON_OUT(&b);

    json_open(&o, '{');
    json_kint(&o, "n", -5);
    json_key(&o, "list");
    json_open(&o, '[');
    json_str(&o, "x");
    json_null(&o);
    json_bool(&o, true);
    json_open(&o, '{');
    json_close(&o);
    json_open(&o, '[');
    json_close(&o);
    json_close(&o);
    json_kstr(&o, "none", NULL);
    json_ktime(&o, "at", INT64_C(1767654000000000));
    json_ktime(&o, "never", 0);
    json_kbool(&o, "no", false);
    json_key(&o, "price");
    json_micro(&o, 20000);
    json_key(&o, "raw");
    json_raw(&o, "[1]");
    json_close(&o);
    assert_int_equal(json_done(&o), 0);
    assert_string_equal(buf_cstr(&b),
                        "{\"n\":-5,\"list\":[\"x\",null,true,{},[]],\"none\":null,"
                        "\"at\":\"2026-01-05T23:00:00.000Z\",\"never\":null,\"no\":false,"
                        "\"price\":0.02,\"raw\":[1]}");
}

static void every_string_is_escaped_into_valid_json(void **state _unused_)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        { "plain ascii, over eight bytes", "\"plain ascii, over eight bytes\"" },
        { "q\"b\\s/", "\"q\\\"b\\\\s/\"" },
        { "\b\t\n\f\r\x01\x1f\x7f", "\"\\b\\t\\n\\f\\r\\u0001\\u001f\x7f\"" },
        { "1234567\"", "\"1234567\\\"\"" },
        { "12345678\n", "\"12345678\\n\"" },
        { "gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80", "\"gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80\"" },
        { "bad\xff.\xc3", "\"bad\xef\xbf\xbd.\xef\xbf\xbd\"" },
        { "\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" },
        { "", "\"\"" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_(buf_free) struct buf b = BUF(1000);
        struct json_out o = JSON_OUT(&b);

        json_str(&o, cases[i].in);
        assert_string_equal(buf_cstr(&b), cases[i].out);
    }
    for (int c = 0; c < 256; c++) { /* each byte at each place of a word */
        for (size_t at = 0; at < 9; at++) {
            _cleanup_(buf_free) struct buf b = BUF(100);
            struct json_out o = JSON_OUT(&b);
            char s[9] = "aaaaaaaaa";
            struct err e;

            s[at] = (char)c;
            json_strn(&o, s, sizeof(s));
            _cleanup_(json_freep) struct json_value *v = json_parse(buf_str(&b), &e);
            if (c == 0) {
                assert_null(v);
                continue;
            }
            assert_non_null(v);
            if (c < 0x80)
                assert_memory_equal(json_str_of(v, NULL), s, sizeof(s));
        }
    }
}

static void a_full_buffer_or_wrong_nesting_is_told_at_the_end(void **state _unused_)
{
    _cleanup_(buf_free) struct buf b = BUF(10);
    struct json_out o = JSON_OUT(&b);

    json_open(&o, '[');
    json_str(&o, "longer than ten");
    json_close(&o);
    assert_int_equal(json_done(&o), -1);

    _cleanup_(buf_free) struct buf deep = BUF(1000);
    o = JSON_OUT(&deep);
    for (int i = 0; i < 64; i++)
        json_open(&o, '[');
    for (int i = 0; i < 64; i++)
        json_close(&o);
    assert_int_equal(json_done(&o), 0);
    o = JSON_OUT(&deep);
    for (int i = 0; i < 70; i++)
        json_open(&o, '{');
    for (int i = 0; i < 70; i++)
        json_close(&o);
    assert_int_equal(json_done(&o), -1);
    o = JSON_OUT(&deep);
    json_open(&o, '{');
    assert_int_equal(json_done(&o), -1);
    o = JSON_OUT(&deep);
    json_close(&o);
    assert_int_equal(json_done(&o), -1);
}

static void ids_are_shown_as_the_view_says(void **state _unused_)
{
    _cleanup_(buf_free) struct buf b = BUF(1000);
    struct json_out o = JSON_OUT(&b);
    struct uuid id = { "01890a5d-ac96-774b-bcce-b302099a8057" }, nil = { "" };

    json_open(&o, '[');
    json_id(&o, "q", &id);
    o.view.typeid = true;
    json_id(&o, "q", &id);
    json_id(&o, NULL, &id);
    json_id(&o, "q", &nil);
    json_close(&o);
    assert_string_equal(buf_cstr(&b), "[\"01890a5d-ac96-774b-bcce-b302099a8057\","
                                      "\"q_01h455vb4pex5vsknk084sn02q\","
                                      "\"01890a5d-ac96-774b-bcce-b302099a8057\",null]");
}

static void what_is_read_is_written_the_same(void **state _unused_)
{
    static const char *const cases[] = {
        "{\"b\":1,\"a\":[true,false,null,\"x\"],\"\":{}}",
        "[0.1,1.5,-2.0,1e+300,123456789012345.67,9223372036854775807,-9223372036854775808]",
        "\"\\\"\\\\\\u0001\xc3\xa4\"",
        "null",
        "42",
        "[]",
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_string_equal(again(cases[i]), cases[i]);
    assert_string_equal(again(" { \"a\" : [ 1 , \"\\u00e4\\ud83d\\ude00\" ] }\n"),
                        "{\"a\":[1,\"\xc3\xa4\xf0\x9f\x98\x80\"]}");
}

static void what_is_no_json_is_refused_with_its_place(void **state _unused_)
{
    assert_string_equal(again("{\"a\":1,\n \"a\":2}"),
                        "an object has two members of one name (line 2, column 4)");
    static const char *const bad[] = {
        "",
        " ",
        "{",
        "[1,]",
        "{\"a\":}",
        "{a:1}",
        "'x'",
        "[1] 2",
        "nul",
        "01",
        "+1",
        "1.",
        ".5",
        "[1e999]",
        "99999999999999999999",
        "\"\\u0000\"",
        "{\"\\u0000\":1}",
        "\"\\ud800\"",
        "\"\xff\"",
        "\"\xc0\x80\"",
        "\"a\nb\"",
        "\"abc",
        "\"\\",
        "[NaN]",
        "]",
        "}",
        "\x01",
        "\"\\x41\"",
        "{\"a\":1,\"\\u0061\":2}",
        "[1 2]",
        "// x\n1",
        "\xef\xbb\xbf{}",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (!strstr(again(bad[i]), "(line "))
            fail_msg("%s was read", bad[i]);
    struct err e;
    assert_null(json_parse((struct str){ "[1]\0", 4 }, &e));
    assert_null(json_parse((struct str){ "\"a\0b\"", 5 }, &e));
    assert_null(json_parse((struct str){ NULL, 0 }, &e));
}

static void depth_and_number_of_values_are_counted_first(void **state _unused_)
{
    _cleanup_(buf_free) struct buf b = BUF(MIB(1));

    for (int i = 0; i < 64; i++)
        buf_putc(&b, '[');
    for (int i = 0; i < 64; i++)
        buf_putc(&b, ']');
    assert_memory_equal(again(buf_cstr(&b)), "[[[[", 4);
    buf_clear(&b);
    for (int i = 0; i < 65; i++)
        buf_putc(&b, '[');
    assert_string_equal(again(buf_cstr(&b)), "JSON has more than 64 levels (line 1, column 65)");

    buf_clear(&b);
    buf_puts(&b, "[\"[[[[,,,,\\\"[[\"");
    for (int i = 0; i < JSON_MAX_VALUES - 3; i++)
        buf_puts(&b, ",1");
    buf_puts(&b, "]");
    assert_memory_equal(again(buf_cstr(&b)), "[\"[[[", 5);
    b.n--;
    buf_puts(&b, ",1,1]");
    assert_non_null(strstr(again(buf_cstr(&b)), "more than 65536 values"));
}

static void members_are_found_by_name_and_place(void **state _unused_)
{
    struct err e;
    _cleanup_(json_freep) struct json_value *v =
        json_parse(STR("{\"s\":\"x\",\"i\":7,\"b\":true,\"l\":[1,2],\"r\":1.5}"), &e);
    const char *key;

    assert_non_null(v);
    assert_int_equal(json_len(v), 5);
    assert_string_equal(json_get_str(&a, v, "s", "none"), "x");
    assert_string_equal(json_get_str(&a, v, "i", "none"), "none");
    assert_int_equal(json_get_int(v, "i", 1), 7);
    assert_int_equal(json_get_int(v, "s", 1), 1);
    assert_int_equal(json_get_int(v, "gone", 1), 1);
    assert_true(json_get_bool(v, "b", false));
    assert_int_equal(json_int_of(json_at(json_get(v, "l"), 1)), 2);
    assert_null(json_at(json_get(v, "l"), 2));
    assert_null(json_get(json_get(v, "l"), "x"));
    assert_int_equal(json_type_of(json_member(v, 4, &key)), JSON_REAL);
    assert_string_equal(key, "r");
    assert_null(json_member(v, 5, &key));
    assert_true(json_real_of(json_get(v, "r")) == 1.5);
    assert_int_equal(json_type_of(NULL), JSON_NULL);
    assert_null(json_str_of(json_get(v, "i"), NULL));
}

static void decimal_numbers_become_exact_millionths(void **state _unused_)
{
    static const struct {
        const char *text;
        bool right;
        int64_t micro;
    } cases[] = {
        { "0.02", true, 20000 },
        { "0.000001", true, 1 },
        { "-1.1", true, -1100000 },
        { "30", true, 30000000 },
        { "30.0", true, 30000000 },
        { "1e3", true, 1000000000 },
        { "123456789.123456", true, INT64_C(123456789123456) },
        { "0.0000001", false, 0 },
        { "1.2345678", false, 0 },
        { "1e300", false, 0 },
        { "9223372036855", false, 0 },
        { "\"1\"", false, 0 },
        { "true", false, 0 },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err e;
        _cleanup_(json_freep) struct json_value *v = json_parse(str_of(cases[i].text), &e);
        int64_t micro = 0;

        assert_int_equal(json_micro_of(v, &micro), cases[i].right);
        if (cases[i].right)
            assert_true(micro == cases[i].micro);
    }
}

static void the_texts_of_a_list_are_read(void **state _unused_)
{
    static const char *const wrong[] = { "", "{}", "[1]", "[\"a\",null]", "[\"a\"", "\"a\"" };
    struct texts t;

    assert_true(texts_read(&a, "[\"a\",\"\",\"\\u00e9\"]", &t));
    assert_int_equal(t.n, 3);
    assert_string_equal(t.v[0], "a");
    assert_string_equal(t.v[1], "");
    assert_string_equal(t.v[2], "\xc3\xa9");
    assert_true(texts_read(&a, NULL, &t));
    assert_int_equal(t.n, 0);
    assert_true(texts_read(&a, "[]", &t));
    assert_int_equal(t.n, 0);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        assert_false(texts_read(&a, wrong[i], &t));
        assert_int_equal(t.n, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_texts_of_a_list_are_read),
        cmocka_unit_test(the_writer_sets_commas_and_brackets),
        cmocka_unit_test(every_string_is_escaped_into_valid_json),
        cmocka_unit_test(a_full_buffer_or_wrong_nesting_is_told_at_the_end),
        cmocka_unit_test(ids_are_shown_as_the_view_says),
        cmocka_unit_test(what_is_read_is_written_the_same),
        cmocka_unit_test(what_is_no_json_is_refused_with_its_place),
        cmocka_unit_test(depth_and_number_of_values_are_counted_first),
        cmocka_unit_test(members_are_found_by_name_and_place),
        cmocka_unit_test(decimal_numbers_become_exact_millionths),
    };

    return cmocka_run_group_tests(tests, give_arena, take_arena);
}
