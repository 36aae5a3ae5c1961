/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/app.h"
#include "roles/cli/flags.h"
#include "roles/cli/sample.h"
#include "services/services.h"

static struct arena arena = ARENA(MIB(8));
static struct commands commands;

static int prepare(void **state _unused_)
{
    commands_build(&arena, sample_services, &commands);
    return 0;
}

static int tidy(void **state _unused_)
{
    arena_free(&arena);
    return 0;
}

static const char *words_of(enum method m, const char *path)
{
    const struct command *c = commands_route(&commands, m, path);
    static char out[256];
    size_t n = 0;

    if (!c)
        return NULL;
    for (size_t i = 0; i < c->n_words; i++)
        n += (size_t)snprintf(out + n, sizeof(out) - n, "%s%s", i ? " " : "", c->word[i]);
    for (size_t i = 0; i < c->n_params; i++)
        n += (size_t)snprintf(out + n, sizeof(out) - n, " %s", c->param[i]);
    return out;
}

static void words_come_from_method_and_path(void **state _unused_)
{
    static const struct {
        enum method m;
        const char *path, *words;
    } all[] = {
        { POST, "/things", "thing create" },
        { GET, "/things", "thing list" },
        { GET, "/things/{id}", "thing get THING" },
        { PATCH, "/things/{id}", "thing update THING" },
        { PUT, "/things/{id}", "thing replace THING" },
        { DELETE, "/things/{id}", "thing delete THING" },
        { POST, "/things/{id}/purge", "thing purge THING" },
        { GET, "/things/{id}/logs", "thing logs THING" },
        { POST, "/things/{id}/exec", "thing exec THING" },
        { GET, "/things/{id}/messages", "thing message list THING" },
        { POST, "/things/{id}/messages", "thing message create THING" },
        { DELETE, "/things/{id}/messages/{message_id}", "thing message delete THING MESSAGE_ID" },
        { POST, "/things/{id}/messages/delete", "thing message delete-many THING" },
        { GET, "/things/{id}/metadata", "thing metadata get THING" },
        { PUT, "/things/{id}/metadata", "thing metadata update THING" },
        { GET, "/auth/keys", "key list" },
        { DELETE, "/auth/keys/{id}", "key delete KEY" },
        { POST, "/auth/login", "auth login" },
        { GET, "/policies", "policy list" },
        { GET, "/iam/policies", "iam policy list" },
        { GET, "/billing/summary", "billing summary" },
        { GET, "/status", "status get" },
        { GET, "/objects/{bucket}/{key...}", "object get BUCKET KEY" },
        { GET, "/thing-types", "thing-type list" },
        { GET, "/v1/openapi.json", "openapi get" },
        { GET, "/vpcs/{id}/parts", "vpc part list VPC" },
        { POST, "/vpcs/{id}/mail", "vpc send VPC" },
    };

    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        const char *got = words_of(all[i].m, all[i].path);

        assert_non_null(got);
        assert_string_equal(got, all[i].words);
    }
    assert_null(words_of(POST, "/hidden"));
}

static void no_two_commands_have_the_same_words(void **state _unused_)
{
    for (size_t i = 0; i < commands.n; i++) {
        int used;

        assert_ptr_equal(
            commands_find(&commands, (int)commands.v[i].n_words, commands.v[i].word, &used),
            &commands.v[i]);
        assert_int_equal(used, commands.v[i].n_words);
    }
}

static void every_route_of_the_services_has_a_command(void **state _unused_)
{
    const struct service *all[64] = { &core_service };
    struct commands real;

    for (size_t i = 0; all_services[i] && i < 62; i++)
        all[i + 1] = all_services[i];
    commands_build(&arena, all, &real);
    for (size_t s = 0; all[s]; s++) {
        for (const struct route *r = all[s]->routes; r && r->path; r++) {
            size_t n = 0;

            for (size_t i = 0; i < real.n; i++)
                n += real.v[i].route == r;
            /* Of a path with two shapes, one for each surface, one has the command. */
            for (size_t i = 0; i < real.n && !n; i++)
                n +=
                    real.v[i].route->method == r->method && !strcmp(real.v[i].route->path, r->path);
            if (!n && !(r->cli && !*r->cli))
                fail_msg("%s %s has no command", method_name(r->method), r->path);
        }
    }
}

static void singular_and_plural_name_the_same_command(void **state _unused_)
{
    const char *const plural[] = { "things", "list" };
    const char *const singular[] = { "thing", "list" };
    const char *const nested[] = { "things", "messages", "delete", "x" };
    const char *const none[] = { "thing", "frobnicate" };
    int used;

    assert_ptr_equal(commands_find(&commands, 2, plural, &used),
                     commands_find(&commands, 2, singular, &used));
    assert_non_null(commands_find(&commands, 4, nested, &used));
    assert_int_equal(used, 3);
    assert_null(commands_find(&commands, 2, none, &used));
}

static const char *route_of(int argc, const char *const *argv)
{
    int used;
    const struct command *c = commands_find(&commands, argc, argv, &used);

    return c && used == argc ? c->route->path : NULL;
}

static void what_is_listed_below_another_has_a_short_command_too(void **state _unused_)
{
    assert_string_equal(route_of(2, (const char *const[]){ "parts", "list" }), "/vpcs/{id}/parts");
    assert_string_equal(route_of(2, (const char *const[]){ "part", "create" }), "/vpcs/{id}/parts");
    assert_string_equal(route_of(2, (const char *const[]){ "part", "get" }), "/parts/{id}");
    assert_string_equal(route_of(3, (const char *const[]){ "vpc", "parts", "list" }),
                        "/vpcs/{id}/parts");
}

static void the_path_of_a_route_with_words_of_its_own_is_understood_quietly(void **state _unused_)
{
    const char *const derived[] = { "vpc", "mail", "create" };
    int used;
    const struct command *c = commands_find(&commands, 2, derived, &used);

    if (!c)
        c = commands_find(&commands, 3, derived, &used);
    assert_non_null(c);
    assert_string_equal(c->route->path, "/vpcs/{id}/mail");
    assert_true(c->quiet);
    assert_false(commands_route(&commands, POST, "/vpcs/{id}/mail")->quiet);
}

static void singulars_are_english_enough(void **state _unused_)
{
    static const char *const pairs[][2] = {
        { "queues", "queue" },
        { "policies", "policy" },
        { "addresses", "address" },
        { "databases", "database" },
        { "caches", "cache" },
        { "status", "status" },
        { "dns", "dns" },
        { "audit", "audit" },
        { "elastic-ips", "elastic-ip" },
        { "security-groups", "security-group" },
    };

    for (size_t i = 0; i < ARRAY_LEN(pairs); i++)
        assert_string_equal(word_singular(&arena, str_of(pairs[i][0])), pairs[i][1]);
}

static void a_path_is_filled_in_and_encoded(void **state _unused_)
{
    const struct command *c = commands_route(&commands, GET, "/things/{id}");
    const struct command *o = commands_route(&commands, GET, "/objects/{bucket}/{key...}");
    const struct command *p = commands_route(&commands, GET, "/projects/{id}");
    const char *const one[] = { "a/b c?" };
    const char *const two[] = { "photos", "2026/köln 1.jpg" };

    assert_string_equal(command_path(&arena, c, one), "/things/a%2Fb%20c%3F");
    assert_string_equal(command_path(&arena, o, two), "/objects/photos/2026/k%C3%B6ln%201.jpg");
    assert_string_equal(command_path(&arena, p, (const char *const[]){ "x" }), "/v1/projects/x");
}

/* ---- flags */

static const char *body_of(const char *path, enum method m, int argc, const char *const *argv,
                           struct err *e)
{
    const struct command *c = commands_route(&commands, m, path);
    struct flags *f = arena_alloc(&arena, sizeof(*f));
    struct buf b = BUF(MIB(1));
    const char *out = NULL;

    assert_non_null(c);
    if (flags_parse(&arena, c, argc, argv, f, e) == 0 && flags_body(&arena, c, f, &b, e) == 0)
        out = arena_strdup(&arena, buf_cstr(&b));
    buf_free(&b);
    return out;
}
#define BODY(m, path, e, ...)                                                \
    body_of(path, m, (int)ARRAY_LEN(((const char *const[]){ __VA_ARGS__ })), \
            (const char *const[]){ __VA_ARGS__ }, e)

static void flags_become_json_of_their_fields_types(void **state _unused_)
{
    struct err e = { 0 };

    assert_string_equal(BODY(POST, "/things", &e, "--name", "web", "--size=3", "--public-"),
                        "{\"name\":\"web\",\"size\":3,\"public_\":true}");
    assert_string_equal(BODY(POST, "/things", &e, "--name", "7", "--size_gb", "4", "--vpc", "x"),
                        "{\"name\":\"7\",\"size\":4,\"vpc_id\":\"x\"}");
    assert_string_equal(BODY(POST, "/things", &e, "--ports", "8080:80", "--price", "0.02"),
                        "{\"ports\":\"8080:80\",\"price\":0.02}");
    assert_string_equal(BODY(POST, "/things", &e, "--ports", "[{\"port\":80}]"),
                        "{\"ports\":[{\"port\":80}]}");
    assert_string_equal(BODY(POST, "/things", &e, "--tags", "a", "--tags", "b \"c\""),
                        "{\"tags\":[\"a\",\"b \\\"c\\\"\"]}");
    assert_string_equal(BODY(POST, "/things", &e, "--tags", "[\"a\"]"), "{\"tags\":[\"a\"]}");
    assert_string_equal(BODY(POST, "/things", &e, "--env", "A=1", "--env", "B=x=y"),
                        "{\"env\":{\"A\":\"1\",\"B\":\"x=y\"}}");
    assert_string_equal(BODY(POST, "/things", &e, "--name", "a", "--name", "b"),
                        "{\"name\":\"b\"}");
}

static void flags_of_what_has_entries_add_up(void **state _unused_)
{
    struct err e = { 0 };

    assert_string_equal(BODY(POST, "/things", &e, "--ports", "1:1", "--ports", "2:2,3:3"),
                        "{\"ports\":\"1:1,2:2,3:3\"}");
    assert_string_equal(BODY(POST, "/things", &e, "--ports", "[\"1:1\"]", "--ports", "2:2"),
                        "{\"ports\":[\"1:1\",\"2:2\"]}");
    assert_string_equal(BODY(POST, "/things", &e, "--tags", "a", "--tags", "[\"b\",\"c\"]"),
                        "{\"tags\":[\"a\",\"b\",\"c\"]}");
    assert_string_equal(BODY(POST, "/things", &e, "--env", "{\"A\":\"1\"}", "--env", "B=2"),
                        "{\"env\":{\"A\":\"1\",\"B\":\"2\"}}");
}

static void an_entry_of_a_map_has_a_key_and_a_value(void **state _unused_)
{
    struct err e = { 0 };

    assert_null(BODY(POST, "/things", &e, "--env", "FOO"));
    assert_string_equal(e.msg, "--env takes KEY=VALUE, not \"FOO\"");
    assert_null(BODY(POST, "/things", &e, "--env=FOO"));
    assert_string_equal(e.msg, "--env takes KEY=VALUE, not \"FOO\"");
    assert_null(BODY(POST, "/things", &e, "--env", "=x"));
    assert_null(BODY(POST, "/things", &e, "--env", "[1]"));
    assert_string_equal(BODY(POST, "/things", &e, "--env", "A="), "{\"env\":{\"A\":\"\"}}");
}

static void a_text_that_begins_with_an_at_sign_is_given_by_two(void **state _unused_)
{
    struct err e = { 0 };

    assert_string_equal(BODY(POST, "/things", &e, "--name", "@@ada"), "{\"name\":\"@ada\"}");
    assert_string_equal(BODY(POST, "/things", &e, "--name", "@"), "{\"name\":\"@\"}");
    assert_null(BODY(POST, "/things", &e, "--name", "@/nonexistent/file"));
    assert_null(BODY(POST, "/things", &e, "--token", "@@secret"));
}

static void data_is_the_body_and_flags_go_over_it(void **state _unused_)
{
    struct err e = { 0 };

    assert_string_equal(BODY(POST, "/things", &e, "--data", "{\"name\":\"a\"}"),
                        "{\"name\":\"a\"}");
    assert_string_equal(
        BODY(POST, "/things", &e, "-d", "{\"name\":\"a\",\"size\":1}", "--name", "b"),
        "{\"size\":1,\"name\":\"b\"}");
    assert_null(BODY(POST, "/things", &e, "--data", "[1]", "--name", "b"));
}

static void what_stands_behind_two_dashes_is_the_command(void **state _unused_)
{
    struct err e = { 0 };

    assert_string_equal(
        BODY(POST, "/things/{id}/exec", &e, "web", "--timeout", "3", "--", "ls", "-l", "a b"),
        "{\"timeout\":3,\"cmd\":[\"ls\",\"-l\",\"a b\"]}");
    assert_null(BODY(POST, "/things/{id}/purge", &e, "web", "--", "ls"));
}

static void a_field_is_cleared_only_where_it_can_be(void **state _unused_)
{
    struct err e = { 0 };

    assert_string_equal(BODY(PATCH, "/things/{id}", &e, "x", "--clear", "note"), "{\"note\":null}");
    assert_null(BODY(PATCH, "/things/{id}", &e, "x", "--clear", "size"));
    assert_null(BODY(PATCH, "/things/{id}", &e, "x", "--clear"));
}

static void wrong_command_lines_are_refused_in_words(void **state _unused_)
{
    struct err e = { 0 };

    assert_null(BODY(POST, "/things", &e, "--size", "many"));
    assert_string_equal(e.msg, "--size must be a whole number");
    assert_null(BODY(POST, "/things", &e, "--colour", "red"));
    assert_string_equal(e.msg, "unknown flag --colour");
    assert_null(BODY(POST, "/things", &e, "--name"));
    assert_string_equal(e.msg, "--name needs a value");
    assert_null(BODY(GET, "/things/{id}", &e, "--output", "json"));
    assert_string_equal(e.msg, "THING is missing");
    assert_null(BODY(GET, "/things/{id}", &e, "a", "b"));
    assert_string_equal(e.msg, "\"b\" is one word too many");
    assert_null(BODY(GET, "/things/{id}", &e, "a", "-o", "xml"));
    assert_null(BODY(PATCH, "/things/{id}", &e, "a", "--name", "new"));
    assert_string_equal(e.msg, "--name cannot be changed");
    assert_null(BODY(POST, "/things", &e, "--wanted", "running"));
    assert_string_equal(e.msg, "--wanted cannot be given at creation");
    assert_null(BODY(POST, "/things", &e, "--nmae", "x"));
    assert_string_equal(e.msg, "unknown flag --nmae");
    assert_null(BODY(GET, "/things", &e, "--created-afer", "x"));
    assert_string_equal(e.msg, "unknown flag --created-afer (did you mean --created-after?)");
    assert_null(BODY(GET, "/things/{id}", &e, "a", "--all"));
    assert_string_equal(e.msg, "--all is for lists");
    assert_null(BODY(POST, "/things", &e, "--watch"));
    assert_null(BODY(GET, "/things", &e, "--wait"));
    assert_null(BODY(GET, "/things", &e, "--follow"));
    assert_null(BODY(GET, "/things/{id}", &e, ""));
}

static void secrets_are_not_taken_from_the_command_line(void **state _unused_)
{
    struct err e = { 0 };

    assert_null(BODY(POST, "/things", &e, "--token", "s3cret"));
    assert_non_null(strstr(e.msg, "can be read by others"));
    assert_null(BODY(POST, "/auth/login", &e, "--password=hunter2"));
    assert_non_null(strstr(e.msg, "can be read by others"));
    assert_null(BODY(POST, "/things", &e, "--api-key", "thecloud_x"));
    assert_non_null(strstr(e.msg, "BRUME_API_KEY"));
}

static void lists_take_filters_and_paging(void **state _unused_)
{
    const struct command *c = commands_route(&commands, GET, "/things");
    const char *const argv[] = {
        "--status", "pending,running", "--limit", "3", "--created-after=2026-01-01",
        "--all",    "-ojson"
    };
    struct flags *f = arena_alloc(&arena, sizeof(*f));
    struct err e;

    assert_int_equal(flags_parse(&arena, c, ARRAY_LEN(argv), argv, f, &e), 0);
    assert_string_equal(flags_query(&arena, f),
                        "?status=pending%2Crunning&limit=3&created_after=2026-01-01");
    assert_true(f->common.all);
    assert_int_equal(f->common.format, FORMAT_JSON);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_come_from_method_and_path),
        cmocka_unit_test(no_two_commands_have_the_same_words),
        cmocka_unit_test(every_route_of_the_services_has_a_command),
        cmocka_unit_test(singular_and_plural_name_the_same_command),
        cmocka_unit_test(what_is_listed_below_another_has_a_short_command_too),
        cmocka_unit_test(the_path_of_a_route_with_words_of_its_own_is_understood_quietly),
        cmocka_unit_test(singulars_are_english_enough),
        cmocka_unit_test(a_path_is_filled_in_and_encoded),
        cmocka_unit_test(flags_become_json_of_their_fields_types),
        cmocka_unit_test(flags_of_what_has_entries_add_up),
        cmocka_unit_test(an_entry_of_a_map_has_a_key_and_a_value),
        cmocka_unit_test(a_text_that_begins_with_an_at_sign_is_given_by_two),
        cmocka_unit_test(data_is_the_body_and_flags_go_over_it),
        cmocka_unit_test(what_stands_behind_two_dashes_is_the_command),
        cmocka_unit_test(a_field_is_cleared_only_where_it_can_be),
        cmocka_unit_test(wrong_command_lines_are_refused_in_words),
        cmocka_unit_test(secrets_are_not_taken_from_the_command_line),
        cmocka_unit_test(lists_take_filters_and_paging),
    };

    return cmocka_run_group_tests(tests, prepare, tidy);
}
