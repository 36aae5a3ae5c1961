/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/stat.h>

#include "os/file.h"
#include "roles/cli/profile.h"

static struct arena arena = ARENA(MIB(8));
static char home[64];

static int prepare(void **state _unused_)
{
    snprintf(home, sizeof(home), "/tmp/brume-profile-XXXXXX");
    return mkdtemp(home) ? 0 : -1;
}

static int tidy(void **state _unused_)
{
    struct err e;

    arena_free(&arena);
    return dir_remove(home, &e);
}

static void what_is_saved_is_loaded_and_is_private(void **state _unused_)
{
    const char *path = profiles_path(&arena, home);
    struct profiles p = { 0 }, q;
    struct profile *one;
    struct stat st;
    struct err e = { 0 };

    one = profiles_add(&arena, &p, "local");
    one->url = "http://127.0.0.1:8080";
    one->api_key = "thecloud_\"quoted\": # and \\ all";
    profiles_add(&arena, &p, "empty");
    p.current = "local";
    assert_int_equal(profiles_save(&p, path, &e), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(profiles_load(&arena, path, &q, &e), 0);
    assert_int_equal(q.n, 2);
    assert_string_equal(q.current, "local");
    assert_string_equal(profiles_find(&q, "local")->url, "http://127.0.0.1:8080");
    assert_string_equal(profiles_find(&q, "local")->api_key, "thecloud_\"quoted\": # and \\ all");
    assert_null(profiles_find(&q, "local")->tenant);
    assert_non_null(profiles_find(&q, "empty"));
}

static void a_missing_file_is_an_empty_one(void **state _unused_)
{
    struct profiles p;
    struct err e;

    assert_int_equal(profiles_load(&arena, "/nonexistent/brume/config.yaml", &p, &e), 0);
    assert_int_equal(p.n, 0);
    assert_null(p.current);
}

static void removing_the_current_profile_leaves_none(void **state _unused_)
{
    struct profiles p = { 0 };

    profiles_add(&arena, &p, "a");
    profiles_add(&arena, &p, "b");
    profiles_add(&arena, &p, "c");
    p.current = "b";
    profiles_remove(&p, "b");
    assert_int_equal(p.n, 2);
    assert_null(p.current);
    assert_non_null(profiles_find(&p, "a"));
    assert_non_null(profiles_find(&p, "c"));
}

static void damaged_files_are_refused_with_their_line(void **state _unused_)
{
    static const char *const bad[] = {
        "- a\n",
        "current: [x]\nprofile: {}\n",
        "profiles:\n  a: text\n",
        "profiles:\n  a:\n    url: [1]\n",
        "profiles:\n  a:\n    colour: red\n",
        "profiles:\n  \"a b\": {}\n",
        "profiles: {\n",
        "\tx",
        "a: &a [*a]\n",
    };
    const char *path = arena_printf(&arena, "%s/bad.yaml", home);

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct profiles p = { .n = 77 };
        struct err e = { 0 };

        assert_int_equal(file_write(path, bad[i], strlen(bad[i]), 0600, &e), 0);
        assert_int_equal(profiles_load(&arena, path, &p, &e), -1);
        assert_int_equal(e.code, ERR_INVALID);
        assert_non_null(strstr(e.msg, "bad.yaml:"));
        assert_int_equal(p.n, 77);
    }
}

static void an_address_has_one_form(void **state _unused_)
{
    static const struct {
        const char *given, *form;
    } all[] = {
        { "http://127.0.0.1:8080", "http://127.0.0.1:8080" },
        { "http://127.0.0.1:8080//", "http://127.0.0.1:8080" },
        { "127.0.0.1:8080", "http://127.0.0.1:8080" },
        { "LocalHost:8080", "http://localhost:8080" },
        { "[::1]:80/", "http://[::1]:80" },
        { "cloud.example.com", "https://cloud.example.com" },
        { "127.example.com", "https://127.example.com" },
        { "HTTPS://Cloud.Example.com/Sub/", "https://cloud.example.com/Sub" },
        { "unix:/run/brume.sock", "unix:/run/brume.sock" },
        { "", NULL },
        { "http://", NULL },
        { "ftp://a", NULL },
        { "unix:run", NULL },
        { "http://a:x", NULL },
        { "http://a:", NULL },
        { "http://a:99999", NULL },
        { "http://[::1", NULL },
        { "http://[::1]x", NULL },
        { "http://a b", NULL },
        { "http://u:p@a", NULL },
        { "http://a?b", NULL },
    };

    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        const char *got = profile_url(&arena, all[i].given);

        if (!all[i].form) {
            assert_null(got);
            continue;
        }
        assert_non_null(got);
        assert_string_equal(got, all[i].form);
        assert_string_equal(profile_url(&arena, got), got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_saved_is_loaded_and_is_private),
        cmocka_unit_test(a_missing_file_is_an_empty_one),
        cmocka_unit_test(removing_the_current_profile_leaves_none),
        cmocka_unit_test(an_address_has_one_form),
        cmocka_unit_test(damaged_files_are_refused_with_their_line),
    };

    return cmocka_run_group_tests(tests, prepare, tidy);
}
