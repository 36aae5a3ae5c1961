/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/router.h"

static struct router *router;
static struct arena arena;
static struct router_match match;

static char row_list[] = "list", row_one[] = "one", row_jobs[] = "jobs", row_make[] = "make",
            row_rest[] = "rest", row_root[] = "root", row_deep[] = "deep", row_put[] = "put",
            row_fixed[] = "fixed";

static int setup(void **state _unused_)
{
    /* clang-format off */
    static const struct {
        enum method m;
        const char *pattern;
        char *value;
    } rows[] = {
        { GET,  "/",                                row_root  },
        { GET,  "/queues",                          row_list  },
        { POST, "/queues",                          row_make  },
        { GET,  "/queues/{id}",                     row_one   },
        { GET,  "/queues/jobs",                     row_jobs  },
        { PUT,  "/queues/jobs/{a}",                 row_put   },
        { GET,  "/queues/{id}/messages/{message}",  row_deep  },
        { GET,  "/storage/{bucket}/{key...}",       row_rest  },
        { GET,  "/storage/{b}/fixed",               row_fixed },
    };
    /* clang-format on */
    struct err e;

    router = router_new();
    arena = ARENA(MIB(1));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (router_add(router, rows[i].m, rows[i].pattern, rows[i].value, &e) < 0)
            return -1;
    return 0;
}

static int teardown(void **state _unused_)
{
    router_free(router);
    arena_free(&arena);
    return 0;
}

static const char *found(enum method m, const char *path)
{
    switch (router_find(router, &arena, m, str_of(path), &match)) {
    case ROUTER_FOUND:
        return match.value;
    case ROUTER_NO_PATH:
        return "no path";
    case ROUTER_NO_METHOD:
        return "no method";
    default:
        return "bad path";
    }
}

static void the_most_literal_row_wins(void **state _unused_)
{
    assert_string_equal(found(GET, "/"), "root");
    assert_string_equal(found(GET, "/queues"), "list");
    assert_string_equal(found(POST, "/queues"), "make");
    assert_string_equal(found(GET, "/queues/jobs"), "jobs");
    assert_string_equal(found(GET, "/queues/other"), "one");
    assert_string_equal(found(GET, "/storage/b/fixed"), "fixed");
    assert_string_equal(found(GET, "/storage/b/fixed/more"), "rest");
    assert_string_equal(found(GET, "/storage/b/fixe"), "rest");
}

static void a_search_that_fails_deep_goes_back(void **state _unused_)
{
    /* "jobs" is literal, but only the parameter's row goes on like this. */
    assert_string_equal(found(GET, "/queues/jobs/messages/7"), "deep");
    assert_true(str_is(match.params[0].value, "jobs"));
    assert_string_equal(match.params[1].name, "message");
    assert_true(str_is(match.params[1].value, "7"));
    assert_string_equal(found(PUT, "/queues/jobs/messages"), "put");
    assert_true(str_is(match.params[0].value, "messages"));
}

static void parameters_are_decoded_after_the_split(void **state _unused_)
{
    assert_string_equal(found(GET, "/queues/a%2Fb%20c"), "one");
    assert_int_equal(match.n_params, 1);
    assert_string_equal(match.params[0].name, "id");
    assert_true(str_is(match.params[0].value, "a/b c"));
    assert_string_equal(found(GET, "/queues/%6Aobs"), "jobs");
    assert_string_equal(found(GET, "/queues/%2541"), "one");
    assert_true(str_is(match.params[0].value, "%41"));
}

static void a_wildcard_keeps_slashes_and_what_is_odd_inside(void **state _unused_)
{
    assert_string_equal(found(GET, "/storage/b/x//y/../z%20%2f/"), "rest");
    assert_true(str_is(match.params[0].value, "b"));
    assert_string_equal(match.params[1].name, "key");
    assert_true(str_is(match.params[1].value, "x//y/../z //"));
    assert_string_equal(found(GET, "/storage/b/%2541"), "rest");
    assert_true(str_is(match.params[1].value, "%41"));
    assert_string_equal(found(GET, "/storage/b/"), "no path");
    assert_string_equal(found(GET, "/storage/b"), "no path");
}

static void odd_segments_match_nothing_else(void **state _unused_)
{
    assert_string_equal(found(GET, "/queues/"), "no path");
    assert_string_equal(found(GET, "//queues"), "no path");
    assert_string_equal(found(GET, "/queues/."), "no path");
    assert_string_equal(found(GET, "/queues/%2e%2E"), "no path");
    assert_string_equal(found(GET, "/queues/.../"), "no path");
    assert_string_equal(found(GET, "/queues/..."), "one");
    assert_string_equal(found(GET, ""), "no path");
    assert_string_equal(found(GET, "*"), "no path");
}

static void bad_escapes_are_bad_paths(void **state _unused_)
{
    assert_string_equal(found(GET, "/queues/%"), "bad path");
    assert_string_equal(found(GET, "/queues/%4"), "bad path");
    assert_string_equal(found(GET, "/queues/%zz"), "bad path");
    assert_string_equal(found(GET, "/queues/a%00b"), "bad path");
    assert_string_equal(found(GET, "/storage/b/ok/%g0"), "bad path");
}

static void a_known_path_with_another_method_tells_the_methods(void **state _unused_)
{
    assert_string_equal(found(DELETE, "/queues"), "no method");
    assert_int_equal(match.methods, 1u << GET | 1u << POST);
    assert_string_equal(found(DELETE, "/queues/jobs/x"), "no method");
    assert_int_equal(match.methods, 1u << PUT);
    assert_string_equal(found(DELETE, "/nowhere"), "no path");
    assert_int_equal(match.methods, 0);
}

static void head_finds_the_row_of_get(void **state _unused_)
{
    assert_string_equal(found(HEAD, "/queues/x"), "one");
    assert_true(str_is(match.params[0].value, "x"));
    assert_string_equal(found(HEAD, "/queues/jobs/x"), "no method");
}

static void long_paths_are_no_trouble(void **state _unused_)
{
    char path[4000] = "/storage/b";

    for (size_t n = strlen(path); n + 3 < sizeof(path); n += 2)
        memcpy(path + n, "/x", 3);
    assert_string_equal(found(GET, path), "rest");
    assert_true(str_is(match.params[1].value, path + 11));
    memcpy(path + 3900, "%zz", 3);
    assert_string_equal(found(GET, path), "bad path");
    memcpy(path, "/queues/bb", 10);
    memcpy(path + 3900, "/x/", 3);
    assert_string_equal(found(GET, path), "no path");
}

static void a_row_that_is_there_or_malformed_is_refused(void **state _unused_)
{
    static const char *const bad[] = { "",          "queues", "/a//b",
                                       "/{}",       "/{a",    "/a{b}",
                                       "/{a...}/b", "/a/",    "/{a}/{b}/{c}/{d}/{e}/{f}/{g}" };
    struct err e;

    assert_int_equal(router_add(router, GET, "/queues/{other}", row_one, &e), -1);
    assert_int_equal(e.code, ERR_ALREADY_EXISTS);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (router_add(router, GET, bad[i], row_one, &e) == 0)
            fail_msg("%s was taken", bad[i]);
        assert_int_equal(e.code, ERR_INVALID);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_most_literal_row_wins),
        cmocka_unit_test(a_search_that_fails_deep_goes_back),
        cmocka_unit_test(parameters_are_decoded_after_the_split),
        cmocka_unit_test(a_wildcard_keeps_slashes_and_what_is_odd_inside),
        cmocka_unit_test(odd_segments_match_nothing_else),
        cmocka_unit_test(bad_escapes_are_bad_paths),
        cmocka_unit_test(a_known_path_with_another_method_tells_the_methods),
        cmocka_unit_test(head_finds_the_row_of_get),
        cmocka_unit_test(long_paths_are_no_trouble),
        cmocka_unit_test(a_row_that_is_there_or_malformed_is_refused),
    };

    return cmocka_run_group_tests_name("router", tests, setup, teardown);
}
