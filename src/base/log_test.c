/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>

#include "base/log.h"

static int saved, sink;
static char text[65536];

static int catch_stderr(void **state _unused_)
{
    saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    sink = memfd_create("log", MFD_CLOEXEC);
    return saved < 0 || sink < 0 || dup2(sink, STDERR_FILENO) < 0 ? -1 : 0;
}

static int release_stderr(void **state _unused_)
{
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(sink);
    return 0;
}

/* What was logged since the last call, from behind the time on. */
static const char *logged(void)
{
    ssize_t n = pread(sink, text, sizeof(text) - 1, 0);

    text[n > 0 ? n : 0] = '\0';
    if (ftruncate(sink, 0) < 0 || lseek(sink, 0, SEEK_SET) < 0)
        return "cannot rewind";
    const char *z = strstr(text, "Z");
    return z ? z + 1 : text;
}

static void a_json_line_has_time_level_role_event_and_fields(void **state _unused_)
{
    log_init(LOG_INFO, true, "api");
    log_event(LOG_WARN, "request_failed", L_STR("code", "not_found"), L_INT("status", 404),
              L_REAL("took", 0.25), L_STR("none", NULL));
    assert_string_equal(logged(),
                        "\",\"level\":\"WARN\",\"role\":\"api\",\"event\":\"request_failed\","
                        "\"code\":\"not_found\",\"status\":404,\"took\":0.25,\"none\":null}\n");
}

static void a_text_line_quotes_only_what_needs_it(void **state _unused_)
{
    log_init(LOG_INFO, false, "agent");
    log_event(LOG_INFO, "started", L_STR("path", "/queues"), L_STR("why", "a \"b\"=c"),
              L_STR("empty", ""), L_INT("n", -3));
    assert_string_equal(logged(),
                        " INFO agent started path=/queues why=\"a \\\"b\\\"=c\" empty=\"\" n=-3\n");
}

static void no_value_can_forge_a_line(void **state _unused_)
{
    log_init(LOG_INFO, false, "api");
    log_event(LOG_INFO, "x", L_STR("v", "a\nb\r\x1b[2J\xff\xc2\x9b"));
    assert_string_equal(logged(), " INFO api x v=\"a\\u000ab\\u000d\\u001b[2J\\ufffd\\u009b\"\n");
}

static void credentials_are_cut_to_their_prefix(void **state _unused_)
{
    log_init(LOG_INFO, true, "api");
    log_event(LOG_INFO, "x",
              L_STR("v", "key=thecloud_abcdefghij0123456789&x sk_live_0123456789 "
                         "whsec_ABCDEFGHIJ cap_net_admin"));
    const char *line = logged();
    assert_non_null(strstr(line, "key=thecloud_…&x sk_live_… whsec_… cap_net_admin\""));
    assert_null(strstr(line, "0123456789"));
}

static void a_line_is_bounded_and_still_whole(void **state _unused_)
{
    static char big[20000];

    log_init(LOG_INFO, true, "api");
    memset(big, 'a', sizeof(big) - 1);
    log_event(LOG_INFO, "x", L_STR("v", big), L_INT("after", 1));
    const char *line = logged();
    assert_true(strlen(line) < 2000);
    assert_non_null(strstr(line, "aaa…\",\"after\":1}\n"));

    memset(big, 1, sizeof(big) - 1); /* six bytes each */
    log_event(LOG_INFO, "x", L_STR("v", big), L_STR("w", big), L_INT("after", 1));
    line = logged();
    assert_true(strlen(line) < 8192);
    assert_non_null(strstr(line, "\\u0001…\",\"after\":1}\n"));
}

static void below_its_level_nothing_is_written(void **state _unused_)
{
    log_init(LOG_WARN, true, "api");
    log_event(LOG_INFO, "quiet", L_INT("n", 1));
    assert_string_equal(logged(), "");
    struct err e;
    err_cause(&e, ERR_INTERNAL, "disk full", "internal error");
    log_err(LOG_ERROR, "visit_failed", &e);
    const char *line = logged();
    assert_non_null(strstr(line, "\"code\":\"internal_error\""));
    assert_non_null(strstr(line, "\"cause\":\"disk full\""));
}

static void the_level_can_change_while_it_runs(void **state _unused_)
{
    log_init(LOG_WARN, false, "api");
    log_set_level(LOG_DEBUG);
    assert_true(log_on(LOG_DEBUG));
    log_event(LOG_DEBUG, "loud", L_INT("n", 1));
    assert_non_null(strstr(logged(), " DEBUG api loud n=1\n"));
    log_set_level(LOG_ERROR);
    assert_false(log_on(LOG_WARN));
}

static void *gather_lines(void *arg _unused_)
{
    log_gather();
    log_event(LOG_INFO, "first", L_INT("n", 1));
    if (*logged())
        return "left at once";
    log_event(LOG_WARN, "urgent", L_INT("n", 2));
    const char *both = logged();
    if (!strstr(both, " first n=1\n") || !strstr(both, " urgent n=2\n"))
        return "a warning waited, or overtook";
    log_event(LOG_INFO, "last", L_INT("n", 3));
    log_flush();
    if (!strstr(logged(), " last n=3\n"))
        return "not flushed";
    for (int i = 0; i < 1000; i++)
        log_event(LOG_INFO, "many", L_INT("n", i));
    if (!strstr(logged(), " many n=0\n"))
        return "memory does not end";
    log_flush();
    return strstr(logged(), " many n=999\n") ? NULL : "a line is lost";
}

static void a_thread_may_gather_lines_and_none_is_lost_or_overtaken(void **state _unused_)
{
    pthread_t thread;
    void *fault;

    log_init(LOG_INFO, false, "api");
    assert_int_equal(pthread_create(&thread, NULL, gather_lines, NULL), 0);
    assert_int_equal(pthread_join(thread, &fault), 0);
    assert_null(fault);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, catch_stderr, release_stderr)
        T(a_json_line_has_time_level_role_event_and_fields),
        T(a_text_line_quotes_only_what_needs_it),
        T(no_value_can_forge_a_line),
        T(credentials_are_cut_to_their_prefix),
        T(a_line_is_bounded_and_still_whole),
        T(below_its_level_nothing_is_written),
        T(the_level_can_change_while_it_runs),
        T(a_thread_may_gather_lines_and_none_is_lost_or_overtaken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
