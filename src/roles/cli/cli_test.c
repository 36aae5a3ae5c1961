/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>

#include "roles/cli/script.h"

static void a_list_is_an_aligned_table(void **state _unused_)
{
    SCRIPT({ "GET /things?limit=100", 200,
             "[{\"id\":\"a\",\"name\":\"web\",\"status\":\"running\",\"size\":3,\"created_at\":"
             "\"2026-01-05T23:00:00.000Z\"},"
             "{\"id\":\"bbbb\",\"name\":\"köln\",\"status\":\"pending\",\"size\":12345}]" });
    struct result r = RUN("things", "list");

    assert_int_equal(r.rc, CLI_OK);
    assert_asked();
    assert_non_null(strstr(r.out, "ID    NAME  STATUS   SIZE   "));
    assert_non_null(strstr(r.out, "a     web   running  3      "));
    assert_non_null(strstr(r.out, "bbbb  köln  pending  12345  "));
    assert_string_equal(r.err, "");
}

static void other_forms_are_json_yaml_and_ids(void **state _unused_)
{
    SCRIPT({ "GET /things?limit=100", 200, "[{\"id\":\"a\",\"tags\":[\"x\"],\"size\":3}]" },
           { "GET /things?limit=100", 200, "[{\"id\":\"a\",\"tags\":[\"x\"],\"size\":3}]" },
           { "GET /things?limit=100", 200, "[{\"id\":\"a\"},{\"id\":\"b\"}]" },
           { "GET /things/a", 200, "{\"id\":\"a\",\"note\":\"on\",\"env\":{\"A\":\"1\"}}" });
    struct result r = RUN("thing", "list", "-o", "json");

    assert_string_equal(r.out, "[\n  {\n    \"id\": \"a\",\n    \"tags\": [\n      \"x\"\n    "
                               "],\n    \"size\": 3\n  }\n]\n");
    r = RUN("-o", "yaml", "thing", "list");
    assert_string_equal(r.out, "- id: a\n  tags:\n    - x\n  size: 3\n");
    r = RUN("thing", "list", "-oid");
    assert_string_equal(r.out, "a\nb\n");
    r = RUN("thing", "get", "a", "-o", "yaml");
    assert_string_equal(r.out, "id: a\nnote: \"on\"\nenv:\n  A: \"1\"\n");
    assert_asked();
}

static void all_follows_the_links_of_the_pages(void **state _unused_)
{
    SCRIPT({ "GET /things?limit=100", 200, "[{\"id\":\"a\"}]",
             "</things?limit=100&cursor=x%3D>; rel=\"next\"" },
           { "GET /things?limit=100&cursor=x%3D", 200, "[{\"id\":\"b\"}]",
             "<http://example.com/things?cursor=y>; rel=\"next\"" },
           { "GET /things?cursor=y", 200, "[{\"id\":\"c\"}]" });
    struct result r = RUN("thing", "list", "--all", "-o", "id");

    assert_int_equal(r.rc, CLI_OK);
    assert_asked();
    assert_string_equal(r.out, "a\nb\nc\n");
}

static void a_cursor_is_followed_where_no_link_stands(void **state _unused_)
{
    SCRIPT({ "GET /things?limit=1", 200,
             "{\"data\":[{\"id\":\"a\"}],\"next_cursor\":\"x=\",\"has_more\":true}" },
           { "GET /things?limit=1&cursor=x%3D", 200,
             "{\"data\":[{\"id\":\"b\"}],\"next_cursor\":\"y\",\"has_more\":true}" },
           { "GET /things?limit=1&cursor=y", 200,
             "{\"data\":[],\"next_cursor\":null,\"has_more\":false}" });
    struct result r = RUN("thing", "list", "--all", "--limit=1", "-o", "id");

    assert_asked();
    assert_string_equal(r.out, "a\nb\n");
}

static void without_all_it_says_that_there_are_more(void **state _unused_)
{
    SCRIPT({ "GET /things?limit=1", 200, "[{\"id\":\"a\"}]", "</things?cursor=x>; rel=\"next\"" });
    struct result r = RUN("thing", "list", "--limit", "1", "-o", "id");

    assert_asked();
    assert_string_equal(r.out, "a\n");
    assert_non_null(strstr(r.err, "--all"));
}

static void the_envelope_is_a_list_too(void **state _unused_)
{
    SCRIPT({ "GET /things?limit=100", 200,
             "{\"data\":[{\"id\":\"a\"}],\"next_cursor\":null,\"has_more\":false}" });
    struct result r = RUN("thing", "list", "-o", "id");

    assert_asked();
    assert_string_equal(r.out, "a\n");
}

static void a_thing_is_made_from_flags_and_shown(void **state _unused_)
{
    SCRIPT({ "GET /vpcs?limit=2&name=home", 200, "[{\"id\":\"vpc_1\",\"name\":\"home\"}]" },
           { "POST /things", 201, "{\"id\":\"t1\",\"name\":\"web\",\"note\":\"\\u001b[31mred\"}" });
    struct result r = RUN("thing", "create", "--name", "web", "--vpc", "home");

    assert_int_equal(r.rc, CLI_OK);
    assert_asked();
    assert_string_equal(server.body[1], "{\"name\":\"web\",\"vpc_id\":\"vpc_1\"}");
    assert_non_null(strstr(r.out, "id:   t1\n"));
    assert_non_null(strstr(r.out, "note: ?[31mred\n"));
}

static void a_name_is_looked_up_where_the_server_wants_an_id(void **state _unused_)
{
    SCRIPT({ "GET /things?limit=2&name=web", 200, "[{\"id\":\"t1\",\"name\":\"web\"}]" },
           { "PATCH /things/t1", 200, "{\"id\":\"t1\"}" },
           { "GET /things?limit=2&name=none", 200, "[]" },
           { "PATCH /things/none", 404, "{\"error\":{\"code\":\"not_found\"}}" },
           { "PATCH /things/01890000-0000-7000-8000-000000000001", 200, "{\"id\":\"t1\"}" });

    assert_int_equal(RUN("thing", "update", "web", "--size", "2").rc, CLI_OK);
    assert_int_equal(RUN("thing", "update", "none", "--size", "2").rc, CLI_MISSING);
    assert_int_equal(
        RUN("thing", "update", "01890000-0000-7000-8000-000000000001", "--size", "2").rc, CLI_OK);
    assert_asked();
}

static void key_and_tenant_of_the_environment_are_sent(void **state _unused_)
{
    SCRIPT({ "GET /things/x", 200, "{\"id\":\"x\"}" });

    run_env((const char *const[]){ "BRUME_API_KEY=thecloud_k", "BRUME_TENANT=ten_1", NULL },
            ARGV("thing", "get", "x"));
    assert_asked();
    assert_string_equal(server.key[0], "thecloud_k");
    assert_string_equal(server.tenant[0], "ten_1");
}

static void every_fault_of_a_refusal_is_a_line(void **state _unused_)
{
    SCRIPT({ "POST /things", 400,
             "{\"error\":{\"code\":\"invalid_request\",\"message\":\"2 faults\",\"details\":["
             "{\"field\":\"name\",\"code\":\"too_long\",\"message\":\"is too long\"},"
             "{\"field\":\"vpc_id[0]\",\"code\":\"malformed\",\"message\":\"is no id\"},"
             "{\"field\":\"other_thing\",\"code\":\"unknown\",\"message\":\"is not known\"}],"
             "\"request_id\":\"req_7\"}}" });
    struct result r = RUN("thing", "create", "--name", "x");

    assert_int_equal(r.rc, CLI_API);
    assert_asked();
    assert_string_equal(r.out, "");
    assert_non_null(strstr(r.err, "2 faults (invalid_request). `brume thing create --help`"));
    assert_non_null(strstr(r.err, "  --name: is too long\n"));
    assert_non_null(strstr(r.err, "  --vpc-id[0]: is no id\n"));
    assert_non_null(strstr(r.err, "  other_thing: is not known\n"));
}

static size_t lines_in(const char *s)
{
    size_t n = 0;

    for (; *s; s++)
        n += *s == '\n';
    return n;
}

/* One line, with these words, and this exit code. */
static void assert_says(struct result r, int rc, const char *words, const char *advice)
{
    if (!strstr(r.err, words) || !strstr(r.err, advice) || lines_in(r.err) != 1)
        fail_msg("\"%s\" and \"%s\" are not in the one line of: %s", words, advice, r.err);
    assert_int_equal(r.rc, rc);
    assert_string_equal(r.out, "");
}

static void a_refusal_is_one_line_that_says_what_to_do(void **state _unused_)
{
    SCRIPT(
        { "POST /things", 400,
          "{\"error\":{\"code\":\"invalid_request\",\"message\":\"x\",\"details\":["
          "{\"field\":\"size\",\"message\":\"must be 1 to 9\"}]}}" },
        { "GET /things/x", 400, "{\"error\":{\"code\":\"invalid_request\",\"message\":\"bad\"}}" },
        { "GET /things/x", 401, "{\"error\":{\"code\":\"unauthorized\",\"message\":\"no\"}}" },
        { "GET /things/x", 401, "{\"error\":{\"code\":\"unauthorized\",\"message\":\"no\"}}" },
        { "GET /things/x", 403,
          "{\"error\":{\"code\":\"forbidden\",\"message\":\"Missing scope: thing:get\"}}" },
        { "POST /things", 403,
          "{\"error\":{\"code\":\"forbidden\",\"message\":\"A viewer may not do this: "
          "thing:create\"}}" },
        { "POST /auth/login", 401,
          "{\"error\":{\"code\":\"unauthorized\",\"message\":\"Wrong password\"}}" },
        { "POST /things", 400,
          "{\"error\":{\"code\":\"invalid_request\",\"message\":\"x\",\"details\":["
          "{\"field\":\"\",\"message\":\"the request must be an object\"}]}}" },
        { "POST /things", 403,
          "{\"error\":{\"code\":\"quota_exceeded\",\"message\":\"quota 'things' is 1\"}}" },
        { "GET /things/x", 404, "{\"error\":{\"code\":\"not_found\",\"message\":\"no\"}}" },
        { "GET /parts/01890000-0000-7000-8000-000000000001", 404,
          "{\"error\":{\"code\":\"not_found\",\"message\":\"no\"}}" },
        { "POST /things", 409,
          "{\"error\":{\"code\":\"already_exists\",\"message\":\"taken\",\"details\":\"Take "
          "another\"}}" },
        { "GET /things/x", 429, "{\"error\":{\"code\":\"rate_limited\",\"message\":\"slow\"}}" },
        { "GET /things/x", 500,
          "{\"error\":{\"code\":\"internal_error\",\"message\":\"oh\",\"request_id\":"
          "\"req_7\"}}" },
        { "GET /things/x", 502, "<html>bad gateway" });
    const char *const key[] = { "BRUME_API_KEY=thecloud_k", NULL };

    assert_says(RUN("thing", "create", "--name", "x"), CLI_API, "brume: --size must be 1 to 9",
                "`brume thing create --help`");
    assert_says(RUN("thing", "get", "x"), CLI_API, "bad", "`brume thing get --help`");
    assert_says(RUN("thing", "get", "x"), CLI_DENIED, "you are not logged in", "`brume login`");
    assert_says(run_env(key, ARGV("thing", "get", "x")), CLI_DENIED, "key in BRUME_API_KEY",
                "`brume login`");
    assert_says(RUN("thing", "get", "x"), CLI_DENIED, "scope thing:get", "`brume key list`");
    assert_says(RUN("thing", "create", "--name", "x"), CLI_DENIED, "A viewer", "your role");
    assert_says(RUN("auth", "login", "-d", "{}"), CLI_DENIED, "brume: Wrong password",
                "forgot-password");
    assert_says(RUN("thing", "create", "-d", "[1]"), CLI_API,
                "brume: the request must be an object", "`brume thing create --help`");
    assert_says(RUN("thing", "create", "--name", "x"), CLI_DENIED, "quota", "Delete something");
    assert_says(RUN("thing", "get", "x"), CLI_MISSING, "no (not_found)", "`brume thing list`");
    assert_says(RUN("part", "get", "01890000-0000-7000-8000-000000000001"), CLI_MISSING, "no",
                "`brume part list VPC`");
    assert_says(RUN("thing", "create", "--name", "x"), CLI_CONFLICT, "taken", "Take another");
    assert_says(RUN("thing", "get", "x"), CLI_LATER, "slow", "Try again");
    assert_says(RUN("thing", "get", "x"), CLI_API, "oh", "req_7");
    assert_says(RUN("thing", "get", "x"), CLI_API, "502", "BRUME_URL");
    assert_asked();
}

static void a_wrong_command_line_is_one_line_that_says_how_it_is_used(void **state _unused_)
{
    SCRIPT({ "GET /vpcs?limit=2&name=none", 200, "[]" });

    assert_says(RUN("thing", "create"), CLI_USAGE, "--name is missing",
                "brume thing create --name …");
    assert_says(RUN("thing", "get"), CLI_USAGE, "THING is missing", "brume thing get THING");
    assert_says(RUN("thing", "get", "a", "b"), CLI_USAGE, "\"b\"", "brume thing get THING");
    assert_says(RUN("thing", "exec", "a"), CLI_USAGE, "--cmd is missing", "-- COMMAND");
    assert_says(RUN("thing", "import", "a", "--data", "@/dev/null"), CLI_USAGE,
                "--label is missing", "thing import THING --label … --data @FILE");
    assert_says(RUN("thing", "update", "a"), CLI_USAGE, "there is nothing to change",
                "brume thing update THING");
    assert_says(RUN("thing", "list", "--limt", "3"), CLI_USAGE, "did you mean --limit?", "--help");
    assert_says(RUN("thing", "lst"), CLI_USAGE, "did you mean \"list\"?", "`brume thing --help`");
    assert_says(RUN("thimg", "list"), CLI_USAGE, "did you mean \"thing\"?", "`brume help`");
    assert_says(RUN("thing", "list", "-o", "xml"), CLI_USAGE, "xml", "json");
    assert_says(RUN("vpc", "send", "x", "--wait", "--name", "a"), CLI_USAGE, "--wait", "nothing");
    assert_says(RUN("thing", "create", "--name", "a", "--vpc-id", "none"), CLI_MISSING,
                "there is no vpc of the name \"none\"", "`brume vpc list`");
    assert_says(RUN("--url", "http://127.0.0.1:1", "thing", "list"), CLI_CONNECT, "cannot reach",
                "brume serve");
    assert_says(RUN("--profile", "nobody", "thing", "list"), CLI_USAGE, "nobody",
                "`brume config profiles`");
    assert_says(RUN("completion", "tcsh"), CLI_USAGE, "shell", "bash|zsh|fish");
    assert_says(RUN("config", "frobnicate"), CLI_USAGE, "frobnicate", "`brume config --help`");
    assert_says(RUN("config", "set", "url"), CLI_USAGE, "Usage:", "brume config set KEY VALUE");
    assert_says(RUN("config", "use"), CLI_USAGE, "Usage:", "brume config use NAME");
    assert_asked();
}

static void what_is_no_json_is_shown_as_it_is(void **state _unused_)
{
    SCRIPT({ "GET /things/x", 200, "hello" });

    assert_string_equal(RUN("thing", "get", "x").out, "hello");
    assert_asked();
}

static void nobody_there_is_an_exit_code_of_its_own(void **state _unused_)
{
    struct result r = RUN("--url", "http://127.0.0.1:1", "thing", "list");

    assert_int_equal(r.rc, CLI_CONNECT);
    assert_non_null(strstr(r.err, "http://127.0.0.1:1"));
    assert_non_null(strstr(r.err, "brume serve"));
}

static void wrong_words_are_a_usage_error(void **state _unused_)
{
    assert_int_equal(RUN("frobnicate").rc, CLI_USAGE);
    assert_int_equal(RUN("thing").rc, CLI_USAGE);
    assert_int_equal(RUN("thing", "frobnicate").rc, CLI_USAGE);
    assert_int_equal(RUN("thing", "get").rc, CLI_USAGE);
    assert_int_equal(RUN("thing", "list", "--nonsense").rc, CLI_USAGE);
    assert_int_equal(RUN("--nonsense").rc, CLI_USAGE);
    assert_non_null(strstr(RUN("thing").err, "thing purge THING"));
}

static void waiting_ends_when_the_status_stands_still(void **state _unused_)
{
    SCRIPT({ "POST /things", 201, "{\"id\":\"t1\",\"status\":\"pending\"}" },
           { "GET /things/t1", 200, "{\"id\":\"t1\",\"status\":\"pending\"}" },
           { "GET /things/t1", 200, "{\"id\":\"t1\",\"status\":\"provisioning\"}" },
           { "GET /things/t1", 200, "{\"id\":\"t1\",\"status\":\"running\"}" });
    struct result r = RUN("thing", "create", "--name", "x", "--wait");

    assert_int_equal(r.rc, CLI_OK);
    assert_asked();
    assert_non_null(strstr(r.out, "status: running"));
}

static void a_verb_is_waited_for_until_its_own_end(void **state _unused_)
{
    SCRIPT({ "POST /things/a/stop", 200, "{\"id\":\"a\",\"status\":\"running\"}" },
           { "GET /things/a", 200, "{\"id\":\"a\",\"status\":\"running\"}" },
           { "GET /things/a", 200, "{\"id\":\"a\",\"status\":\"stopped\"}" });
    struct result r = RUN("thing", "stop", "a", "--wait");

    assert_int_equal(r.rc, CLI_OK);
    assert_asked();
    assert_non_null(strstr(r.out, "stopped"));
}

static void waiting_for_what_fails_is_a_failure(void **state _unused_)
{
    SCRIPT({ "POST /things/a/purge", 200, "{\"id\":\"a\"}" },
           { "GET /things/a", 200, "{\"status\":\"error\",\"status_reason\":\"no room\"}" });
    struct result r = RUN("thing", "purge", "a", "--wait");

    assert_int_equal(r.rc, CLI_API);
    assert_asked();
    assert_non_null(strstr(r.err, "no room"));
}

static void waiting_for_a_deletion_ends_when_it_is_gone(void **state _unused_)
{
    SCRIPT({ "DELETE /things/a", 204, "" }, { "GET /things/a", 200, "{\"status\":\"running\"}" },
           { "GET /things/a", 404, "{\"error\":{\"code\":\"not_found\",\"message\":\"no\"}}" });
    struct result r = RUN("thing", "delete", "a", "--wait");

    /* "running" stands still, but it is not gone. */
    assert_int_equal(r.rc, CLI_OK);
    assert_asked();
    assert_non_null(strstr(r.out, "gone"));
}

static void a_stream_is_passed_through_and_its_error_is_not(void **state _unused_)
{
    SCRIPT({ "GET /things/a/logs?follow=true", 200, "one\ntwo\n" },
           { "GET /things/a/logs?tail=3", 404,
             "{\"error\":{\"code\":\"not_found\",\"message\":\"no thing\"}}" });
    struct result r = RUN("thing", "logs", "a", "-f");

    assert_int_equal(r.rc, CLI_OK);
    assert_string_equal(r.out, "one\ntwo\n");
    r = RUN("thing", "logs", "a", "--tail", "3");
    assert_int_equal(r.rc, CLI_MISSING);
    assert_string_equal(r.out, "");
    assert_non_null(strstr(r.err, "no thing"));
    assert_asked();
}

static void exec_gives_the_commands_output_and_exit_code(void **state _unused_)
{
    SCRIPT({ "POST /things/a/exec", 200,
             "{\"exit_code\":7,\"stdout\":\"out\\n\",\"stderr\":\"err\\n\"}" });
    struct result r = RUN("thing", "exec", "a", "--", "sh", "-c", "exit 7");

    assert_int_equal(r.rc, 7);
    assert_asked();
    assert_string_equal(server.body[0], "{\"cmd\":[\"sh\",\"-c\",\"exit 7\"]}");
    assert_string_equal(r.out, "out\n");
    assert_string_equal(r.err, "err\n");
}

static void exec_tells_of_output_that_is_cut(void **state _unused_)
{
    SCRIPT({ "POST /things/a/exec", 200,
             "{\"exit_code\":0,\"stdout\":\"out\\n\",\"stderr\":\"\",\"truncated\":true}" });
    struct result r = RUN("thing", "exec", "a", "--", "yes");

    assert_string_equal(r.out, "out\n");
    assert_int_equal(r.rc, CLI_API);
    assert_non_null(strstr(r.err, "brume: the output is cut"));
    assert_int_equal(lines_in(r.err), 1);
}

static void exec_tells_of_time_that_is_up(void **state _unused_)
{
    SCRIPT({ "POST /things/a/exec", 200,
             "{\"exit_code\":137,\"stdout\":\"\",\"stderr\":\"\",\"timed_out\":true}" });
    struct result r = RUN("thing", "exec", "a", "--", "sleep", "100");

    assert_int_equal(r.rc, 124);
    assert_non_null(strstr(r.err, "--timeout"));
    assert_int_equal(lines_in(r.err), 1);
}

static void execs_exit_code_does_not_depend_on_how_it_is_asked_or_shown(void **state _unused_)
{
#define SEVEN { "POST /things/a/exec", 200, "{\"exit_code\":7,\"stdout\":\"out\",\"stderr\":\"\"}" }
    SCRIPT(SEVEN, SEVEN, SEVEN, SEVEN);
    struct result r = RUN("thing", "exec", "a", "-o", "json", "--", "false");

    assert_int_equal(r.rc, 7);
    assert_non_null(strstr(r.out, "\"exit_code\": 7"));
    assert_int_equal(RUN("thing", "exec", "a", "-o", "id", "--", "false").rc, 7);
    r = RUN("thing", "exec", "a", "--cmd", "false");
    assert_int_equal(r.rc, 7);
    assert_string_equal(r.out, "out");
    assert_int_equal(RUN("thing", "exec", "a", "-d", "{\"cmd\":[\"false\"]}").rc, 7);
    assert_asked();
}

static void exec_gives_bytes_that_are_no_text_as_they_were(void **state _unused_)
{
    SCRIPT({ "POST /things/a/exec", 200,
             "{\"exit_code\":0,\"stdout\":\"/wA=\",\"stdout_encoding\":\"base64\","
             "\"stderr\":\"err\\n\",\"stderr_encoding\":\"utf-8\"}" });
    struct result r = RUN("thing", "exec", "a", "--", "cat", "x");

    assert_int_equal(r.rc, 0);
    assert_asked();
    assert_memory_equal(r.out, "\xff\0", 3);
    assert_string_equal(r.err, "err\n");
}

static void a_file_is_sent_as_it_is(void **state _unused_)
{
    SCRIPT({ "POST /things/01890000-0000-7000-8000-000000000001/upload", 201, "{\"id\":\"a\"}" });
    const char *id = "01890000-0000-7000-8000-000000000001";
    char path[128], flag[132];
    struct err e;

    snprintf(path, sizeof(path), "%s/file", home);
    snprintf(flag, sizeof(flag), "@%s", path);
    assert_int_equal(file_write(path, "by\ntes", 6, 0600, &e), 0);
    assert_int_equal(RUN("thing", "upload", id, "--data", flag).rc, CLI_OK);
    assert_asked();
    assert_string_equal(server.body[0], "by\ntes");
    assert_int_equal(RUN("thing", "upload", id).rc, CLI_USAGE);
    assert_int_equal(RUN("thing", "upload", id, "--data", "@/nonexistent").rc, CLI_USAGE);
}

/* Standard input is this text for the time of a login. */
static struct result login_with(const char *typed, int argc, const char *const *argv)
{
    int old = dup(STDIN_FILENO), p[2];
    struct result r;

    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    assert_true(write(p[1], typed, strlen(typed)) > 0);
    close(p[1]);
    dup2(p[0], STDIN_FILENO);
    close(p[0]);
    r = run_env(NULL, argc, argv);
    dup2(old, STDIN_FILENO);
    close(old);
    return r;
}

static void login_keeps_the_key_in_a_private_profile(void **state _unused_)
{
    SCRIPT({ "POST /auth/login", 200, "{\"user\":{\"id\":\"u\"},\"api_key\":\"thecloud_secret\"}" },
           { "GET /things/x", 200, "{\"id\":\"x\"}" });
    struct result r = login_with("pass word\n", ARGV("login", "--email", "a@b.c"));
    char path[128];
    struct stat st;

    assert_int_equal(r.rc, CLI_OK);
    assert_string_equal(server.body[0], "{\"email\":\"a@b.c\",\"password\":\"pass word\"}");
    assert_null(strstr(r.out, "thecloud_secret"));
    snprintf(path, sizeof(path), "%s/.config/brume/config.yaml", home);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    RUN("thing", "get", "x");
    assert_string_equal(server.key[1], "thecloud_secret");
    assert_asked();
}

static void a_profiles_key_is_not_shown_to_another_cloud(void **state _unused_)
{
    SCRIPT({ "POST /auth/login", 200, "{\"api_key\":\"thecloud_secret\"}" },
           { "GET /things/x", 200, "{\"id\":\"x\"}" }, { "GET /things/x", 200, "{\"id\":\"x\"}" });
    char other[96];

    login_with("pw\n", ARGV("login", "--email", "a@b.c", "--profile", "p1"));
    RUN("--profile", "p1", "thing", "get", "x");
    assert_string_equal(server.key[1], "thecloud_secret");
    snprintf(other, sizeof(other), "http://localhost:%s", strrchr(url, ':') + 1);
    RUN("--profile", "p1", "--url", other, "thing", "get", "x");
    assert_string_equal(server.key[2], "");
    assert_asked();
}

static void a_profiles_key_is_shown_to_its_cloud_however_that_is_written(void **state _unused_)
{
    SCRIPT({ "POST /auth/login", 200, "{\"api_key\":\"thecloud_secret\"}" },
           { "GET /things/x", 200, "{\"id\":\"x\"}" }, { "GET /things/x", 200, "{\"id\":\"x\"}" });
    char slash[96];

    login_with("pw\n", ARGV("login", "--email", "a@b.c", "--profile", "p1"));
    snprintf(slash, sizeof(slash), "%s/", url);
    RUN("--profile", "p1", "--url", slash, "thing", "get", "x");
    assert_string_equal(server.key[1], "thecloud_secret");
    RUN("--profile", "p1", "--url", url + strlen("http://"), "thing", "get", "x");
    assert_string_equal(server.key[2], "thecloud_secret");
    assert_asked();
    assert_says(RUN("--url", "ftp://x", "thing", "list"), CLI_USAGE, "ftp://x", "https://HOST");
}

static void what_is_set_in_a_profile_is_checked(void **state _unused_)
{
    char path[128];
    struct err e;

    snprintf(path, sizeof(path), "%s/ca.pem", home);
    assert_says(RUN("config", "set", "url", "ftp://x"), CLI_USAGE, "ftp://x", "https://HOST");
    assert_says(RUN("config", "set", "ca", path), CLI_USAGE, path, "No such file");
    assert_int_equal(file_write(path, "words", 5, 0600, &e), 0);
    assert_says(RUN("config", "set", "ca", path), CLI_USAGE, path, "PEM");
    assert_int_equal(file_write(path, "-----BEGIN CERTIFICATE-----", 27, 0600, &e), 0);
    assert_int_equal(RUN("config", "set", "ca", path, "--profile", "pem").rc, CLI_OK);
    assert_int_equal(RUN("config", "set", "url", "One.example.com/", "--profile", "pem").rc,
                     CLI_OK);
    assert_string_equal(RUN("config", "get", "url", "--profile", "pem").out,
                        "https://one.example.com\n");
    RUN("config", "remove", "pem");
}

static void profiles_are_listed_used_and_removed(void **state _unused_)
{
    assert_int_equal(RUN("config", "set", "url", "http://one", "--profile", "one").rc, CLI_OK);
    assert_int_equal(RUN("config", "set", "url", "http://two", "--profile", "two").rc, CLI_OK);
    assert_int_equal(RUN("config", "use", "two").rc, CLI_OK);
    assert_string_equal(RUN("config", "get", "url").out, "http://two\n");
    assert_non_null(strstr(RUN("config", "profiles").out, "*        two"));
    assert_int_equal(RUN("config", "remove", "two").rc, CLI_OK);
    assert_int_equal(RUN("config", "use", "two").rc, CLI_USAGE);
    assert_int_equal(RUN("config", "get", "api_key").rc, CLI_USAGE);
    assert_int_equal(RUN("--profile", "nobody", "thing", "list").rc, CLI_USAGE);
}

static void watching_shows_each_change_and_ends_when_it_is_gone(void **state _unused_)
{
    SCRIPT({ "GET /things/a", 200, "{\"id\":\"a\",\"status\":\"pending\",\"size\":1}" },
           { "GET /things/a", 200, "{\"id\":\"a\",\"status\":\"running\",\"size\":1}" },
           { "GET /things/a", 200, "{\"id\":\"a\",\"status\":\"running\",\"size\":2}" },
           { "GET /things/a", 404, "{\"error\":{\"code\":\"not_found\",\"message\":\"no\"}}" });
    struct result r = RUN("thing", "get", "a", "--watch");

    assert_int_equal(r.rc, CLI_OK);
    assert_asked();
    assert_non_null(strstr(r.out, "size:   1\n"));
    assert_non_null(strstr(r.out, "  status: pending → running\n"));
    assert_non_null(strstr(r.out, "  size: 1 → 2\n"));
    assert_non_null(strstr(r.out, "It is gone.\n"));
    assert_int_equal(lines_in(r.out), 6);
}

static void a_watched_list_is_shown_again_when_it_has_changed(void **state _unused_)
{
    SCRIPT({ "GET /things?limit=100", 200, "[{\"id\":\"a\"}]" },
           { "GET /things?limit=100", 200, "[{\"id\":\"a\"}]" },
           { "GET /things?limit=100", 200, "[{\"id\":\"a\"},{\"id\":\"b\"}]" },
           { "GET /things?limit=100", 404,
             "{\"error\":{\"code\":\"not_found\",\"message\":\"no\"}}" });
    struct result r = RUN("thing", "list", "--watch", "-o", "id");

    assert_asked();
    assert_string_equal(r.out, "a\na\nb\nIt is gone.\n");
}

#define COMPLETES(words, ...) assert_string_equal(RUN("__complete", __VA_ARGS__).out, words)

static void completion_comes_from_the_tables(void **state _unused_)
{
    struct result r = RUN("__complete", "thin");

    assert_string_equal(r.out, "thing\nthing-type\n");
    COMPLETES("purge\n", "things", "pu");
    COMPLETES("create\nlist\n", "vpc", "part", "");
    COMPLETES("get\ncreate\nlist\n", "part", "");
    COMPLETES("", "vpc", "mai"); /* understood, not offered */
    COMPLETES("list\n", "-o", "json", "thing", "li");
    COMPLETES("--vpc-id\n", "thing", "create", "--v");
    COMPLETES("", "thing", "create", "--wan");
    COMPLETES("--wanted\n", "thing", "update", "x", "--wan");
    COMPLETES("running\n", "thing", "list", "--status", "r");
    COMPLETES("running\n", "thing", "list", "--status", "=", "r");
    COMPLETES("pending\nrunning\n", "thing", "list", "--status", "=");
    COMPLETES("--status=running\n", "thing", "list", "--status=r");
    COMPLETES("json\n", "thing", "list", "-o", "j");
    COMPLETES("json\n", "--output", "j");
    COMPLETES("note\n", "thing", "update", "x", "--clear", "");
    COMPLETES("bash\n", "completion", "b");
    COMPLETES("remove\n", "config", "r");
    COMPLETES("purge\n", "help", "thing", "pu");
    COMPLETES("", "thing", "exec", "x", "--", "l");
    assert_non_null(strstr(RUN("completion", "bash").out, " __complete "));
    assert_says(RUN("completion"), CLI_USAGE, "the shell is missing", "bash|zsh|fish");
    assert_says(RUN("completion", "tcsh"), CLI_USAGE, "\"tcsh\"", "bash|zsh|fish");
    assert_says(RUN("completion", "bash", "extra"), CLI_USAGE, "\"extra\"", "one word too many");
    assert_int_equal(RUN("completion", "--help").rc, CLI_OK);
}

static void profiles_are_completed_by_name(void **state _unused_)
{
    RUN("config", "set", "url", "http://x", "--profile", "office");
    COMPLETES("office\n", "--profile", "of");
    COMPLETES("office\n", "config", "use", "of");
    RUN("config", "remove", "office");
}

static void help_is_read_from_the_tables(void **state _unused_)
{
    struct result r = RUN("help");

    assert_int_equal(r.rc, CLI_OK);
    assert_non_null(strstr(r.out, "thing"));
    assert_non_null(strstr(r.out, "Exit codes"));
    assert_non_null(strstr(r.out, "@FILE"));
    assert_non_null(strstr(RUN("thing", "--help").out, "thing purge THING"));
    r = RUN("thing", "create", "--help");
    assert_int_equal(r.rc, CLI_OK);
    assert_non_null(strstr(r.out, "--name TEXT"));
    assert_non_null(strstr(r.out, "(required)"));
    assert_non_null(strstr(r.out, "How large it is."));
    assert_null(strstr(r.out, "--wanted"));
    assert_non_null(strstr(r.out, "--wait"));
    assert_non_null(strstr(r.out, "--ports TEXT,…"));
    assert_non_null(strstr(r.out, "@@x is the text @x"));
    assert_non_null(strstr(RUN("thing", "import", "--help").out, "Its label. (required)"));
    assert_null(strstr(RUN("vpc", "send", "--help").out, "--wait"));
    assert_non_null(strstr(RUN("thing", "exec", "--help").out, "-- COMMAND"));
    assert_non_null(strstr(RUN("thing", "exec", "--help").out, "Seconds. (60 if not given)"));
    assert_non_null(strstr(RUN("help", "serve").out, "brume serve"));
    assert_int_equal(RUN("help", "--help").rc, CLI_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_is_an_aligned_table),
        cmocka_unit_test(other_forms_are_json_yaml_and_ids),
        cmocka_unit_test(all_follows_the_links_of_the_pages),
        cmocka_unit_test(a_cursor_is_followed_where_no_link_stands),
        cmocka_unit_test(without_all_it_says_that_there_are_more),
        cmocka_unit_test(the_envelope_is_a_list_too),
        cmocka_unit_test(a_thing_is_made_from_flags_and_shown),
        cmocka_unit_test(a_name_is_looked_up_where_the_server_wants_an_id),
        cmocka_unit_test(key_and_tenant_of_the_environment_are_sent),
        cmocka_unit_test(every_fault_of_a_refusal_is_a_line),
        cmocka_unit_test(a_refusal_is_one_line_that_says_what_to_do),
        cmocka_unit_test(a_wrong_command_line_is_one_line_that_says_how_it_is_used),
        cmocka_unit_test(what_is_no_json_is_shown_as_it_is),
        cmocka_unit_test(nobody_there_is_an_exit_code_of_its_own),
        cmocka_unit_test(wrong_words_are_a_usage_error),
        cmocka_unit_test(waiting_ends_when_the_status_stands_still),
        cmocka_unit_test(a_verb_is_waited_for_until_its_own_end),
        cmocka_unit_test(waiting_for_what_fails_is_a_failure),
        cmocka_unit_test(waiting_for_a_deletion_ends_when_it_is_gone),
        cmocka_unit_test(a_stream_is_passed_through_and_its_error_is_not),
        cmocka_unit_test(exec_gives_the_commands_output_and_exit_code),
        cmocka_unit_test(exec_tells_of_output_that_is_cut),
        cmocka_unit_test(exec_tells_of_time_that_is_up),
        cmocka_unit_test(execs_exit_code_does_not_depend_on_how_it_is_asked_or_shown),
        cmocka_unit_test(exec_gives_bytes_that_are_no_text_as_they_were),
        cmocka_unit_test(a_file_is_sent_as_it_is),
        cmocka_unit_test(login_keeps_the_key_in_a_private_profile),
        cmocka_unit_test(a_profiles_key_is_not_shown_to_another_cloud),
        cmocka_unit_test(a_profiles_key_is_shown_to_its_cloud_however_that_is_written),
        cmocka_unit_test(what_is_set_in_a_profile_is_checked),
        cmocka_unit_test(profiles_are_listed_used_and_removed),
        cmocka_unit_test(completion_comes_from_the_tables),
        cmocka_unit_test(profiles_are_completed_by_name),
        cmocka_unit_test(watching_shows_each_change_and_ends_when_it_is_gone),
        cmocka_unit_test(a_watched_list_is_shown_again_when_it_has_changed),
        cmocka_unit_test(help_is_read_from_the_tables),
    };

    return cmocka_run_group_tests(tests, prepare, tidy);
}
