/* SPDX-License-Identifier: Apache-2.0 */
/* Logs as shims leave them: parts between parts, files that come and go, halves of records. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/buf.h"
#include "drivers/compute/logbook.h"
#include "os/file.h"
#include "os/thread.h"

struct log {
    char dir[64];
    struct buf got;
    int64_t seconds; /* of the last record written */
    int calls, enough;
    struct compute_log_place last, idle; /* of a line; of what says that there is no more */
    void (*between)(struct log *l);      /* at the first line */
};

static int on_line(void *ctx, const struct compute_line *line)
{
    static const char *const ends[] = { "", "…", "(gap)", "(idle)" };
    struct log *l = ctx;

    if (line->kind != COMPUTE_LINE_IDLE) {
        buf_printf(&l->got, "%s" STR_FMT "%s;", line->stream == 2 ? "!" : "", STR_ARG(line->text),
                   ends[line->kind]);
        l->last = line->after;
        if (l->calls++ == 0 && l->between)
            l->between(l);
    } else {
        l->idle = line->after;
    }
    return l->enough && l->calls >= l->enough ? -1 : 0;
}

static const char *read_log(struct log *l, struct compute_log_opts o)
{
    struct err e = { 0 };

    buf_clear(&l->got);
    l->calls = 0;
    assert_int_equal(logbook_read(l->dir, &o, on_line, l, &e), 0);
    return buf_cstr(&l->got);
}

static void fails(struct log *l, int64_t n)
{
    struct compute_log_opts all = { .tail = n }, on = { .tail = n, .follow = true };
    struct err e = { 0 };

    assert_int_equal(logbook_read(l->dir, &all, on_line, l, &e), -1);
    assert_int_equal(e.code, ERR_INTERNAL);
    assert_int_equal(logbook_read(l->dir, &on, on_line, l, &e), -1);
}

static const char *tail(struct log *l, int64_t n)
{
    return read_log(l, (struct compute_log_opts){ .tail = n });
}

static void append(struct log *l, int number, const char *text)
{
    char path[100];
    FILE *f;

    snprintf(path, sizeof(path), "%s/%d", l->dir, number);
    f = fopen(path, "ae");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* "stdout F text" at the next second. */
static void record(struct log *l, int number, const char *rest)
{
    char line[4096];

    l->seconds++;
    snprintf(line, sizeof(line), "2026-01-05T23:%02d:%02d.000000000Z %s\n", (int)l->seconds / 60,
             (int)l->seconds % 60, rest);
    append(l, number, line);
}

static int64_t at_second(int64_t n)
{
    return (INT64_C(1767654000) + n) * 1000000; /* 2026-01-05T23:00:00Z */
}

static int setup(void **state)
{
    struct log *l = calloc(1, sizeof(*l));

    snprintf(l->dir, sizeof(l->dir), "/tmp/brume-log-XXXXXX");
    if (!mkdtemp(l->dir))
        return -1;
    l->got = BUF(MIB(16));
    *state = l;
    return 0;
}

static int teardown(void **state)
{
    struct log *l = *state;
    struct err e;

    assert_int_equal(dir_remove(l->dir, &e), 0);
    buf_free(&l->got);
    free(l);
    return 0;
}

static void parts_of_two_streams_do_not_mix(void **state)
{
    struct log *l = *state;

    record(l, 1, "stdout P on");
    record(l, 1, "stderr P tw");
    record(l, 1, "stdout F:C e");
    record(l, 1, "stderr F between");
    record(l, 1, "stdout F three");
    assert_string_equal(tail(l, -1), "one;!tw…;!between;three;");
    record(l, 1, "stderr P fo");
    record(l, 1, "stdout F five");
    record(l, 1, "stderr F:C ur");
    assert_string_equal(tail(l, -1), "one;!tw…;!between;three;five;!four;");
}

static void a_tail_counts_lines_and_each_is_whole(void **state)
{
    struct log *l = *state;

    record(l, 1, "stdout F zero");
    record(l, 1, "stdout P o");
    record(l, 1, "stderr F e1");
    record(l, 1, "stdout P:C n");
    record(l, 1, "stderr F e2");
    record(l, 2, "stdout F:C e");
    record(l, 2, "stderr F e3");
    assert_string_equal(tail(l, 0), "");
    assert_string_equal(tail(l, 1), "!e3;");
    assert_string_equal(tail(l, 2), "one;!e3;");
    assert_string_equal(tail(l, 3), "!e2;one;!e3;");
    assert_string_equal(tail(l, 4), "!e1;!e2;one;!e3;");
    assert_string_equal(tail(l, 5), "zero;!e1;!e2;one;!e3;");
    assert_string_equal(tail(l, 600), "zero;!e1;!e2;one;!e3;");
}

static void a_tail_of_many_blocks_is_exact(void **state)
{
    struct log *l = *state;
    char text[3000], want[3000];

    memset(text, 'x', sizeof(text));
    for (int i = 0; i < 400; i++) {
        snprintf(text, 40, "stdout F %d ", i);
        text[strlen(text)] = 'x';
        text[1000 + i] = '\0';
        record(l, 1 + i / 150, text);
        text[1000 + i] = 'x';
    }
    for (int n = 0; n <= 400; n += 7) {
        (void)tail(l, n);
        assert_int_equal(l->calls, n);
        snprintf(want, sizeof(want), "%d ", 400 - n);
        assert_memory_equal(n ? l->got.p : want, want, strlen(want));
    }
}

static void a_line_that_is_being_printed_is_marked_and_a_follower_gets_it_whole(void **state)
{
    struct log *l = *state;

    record(l, 1, "stdout F a");
    record(l, 1, "stdout P b");
    assert_string_equal(tail(l, 2), "a;b…;");
    assert_string_equal(tail(l, 1), "b…;");
    assert_string_equal(read_log(l, (struct compute_log_opts){ .tail = 1, .follow = true }), "a;");
    record(l, 1, "stdout F:C c");
    assert_string_equal(tail(l, 1), "bc;");
    struct compute_log_opts on = { .follow = true, .from = l->idle };
    assert_string_equal(read_log(l, on), "bc;");
    on.from = l->idle;
    assert_string_equal(read_log(l, on), "");
}

static void since_is_by_the_time_at_which_a_line_ended(void **state)
{
    struct log *l = *state;

    record(l, 1, "stdout F a");
    record(l, 1, "stdout P b");
    record(l, 1, "stdout F:C c");
    record(l, 1, "stdout F d");
    for (int s = 0; s < 6; s++) {
        static const char *const want[] = { "a;bc;d;", "a;bc;d;", "bc;d;", "bc;d;", "d;", "" };
        struct compute_log_opts o = { .tail = -1, .since = at_second(s) };
        assert_string_equal(read_log(l, o), want[s]);
    }
}

static void what_is_no_longer_kept_is_said_where_it_was_asked_for(void **state)
{
    struct log *l = *state;

    record(l, 3, "stdout F:C c");
    record(l, 3, "stdout F d");
    record(l, 4, "stdout F e");
    assert_string_equal(tail(l, 2), "d;e;");
    assert_string_equal(tail(l, 3), "(gap);c;d;e;"); /* whose beginning is missing */
    assert_string_equal(tail(l, -1), "(gap);c;d;e;");
    assert_string_equal(tail(l, 4), "(gap);c;d;e;");
    struct compute_log_opts o = { .tail = -1, .since = at_second(2) };
    assert_string_equal(read_log(l, o), "d;e;");
    o.since = at_second(0);
    assert_string_equal(read_log(l, o), "(gap);c;d;e;");
}

static void a_hole_between_files_and_a_record_that_found_no_room_are_said(void **state)
{
    struct log *l = *state;

    record(l, 1, "stdout P a");
    record(l, 3, "stdout F b");
    record(l, 3, "stdout P c");
    record(l, 3, "stdout F:C:L d");
    record(l, 3, "stderr F:L e");
    append(l, 3, "no record at all\n");
    record(l, 3, "stdout F f");
    assert_string_equal(tail(l, -1), "a…;(gap);b;c…;(gap);d;(gap);!e;(gap);f;");
}

static void remove_and_add(struct log *l)
{
    char path[100];

    for (int n = 1; n <= 3; n++) {
        snprintf(path, sizeof(path), "%s/%d", l->dir, n);
        unlink(path);
    }
    record(l, 5, "stdout F late");
}

static void files_that_leave_while_they_are_read_are_said(void **state)
{
    struct log *l = *state;

    record(l, 1, "stdout F a");
    record(l, 1, "stdout F b");
    record(l, 2, "stdout F c");
    record(l, 3, "stdout F d");
    record(l, 4, "stdout F e");
    l->between = remove_and_add;
    assert_string_equal(tail(l, -1), "a;b;(gap);e;"); /* and not what came since */
}

static void add_more(struct log *l)
{
    record(l, 1, "stdout F more");
    record(l, 2, "stdout F and more");
}

static void what_is_asked_for_ends_where_it_did_then(void **state)
{
    struct log *l = *state;

    record(l, 1, "stdout F a");
    record(l, 1, "stdout F b");
    l->between = add_more;
    assert_string_equal(tail(l, 2), "a;b;");
    l->between = NULL;
    assert_string_equal(tail(l, 2), "more;and more;");
}

static void *writer(void *ctx)
{
    struct log *l = ctx;
    char text[40];

    for (int i = 0; i < 3000; i++) {
        snprintf(text, sizeof(text), "stdout P %d", i);
        record(l, 1 + i / 100, text);
        append(l, 1 + i / 100, "2026-01-05T23:00:00.0000"); /* in two writes */
        append(l, 1 + i / 100, "00000Z stdout F:C .\n");
    }
    return NULL;
}

static void a_follower_misses_nothing_over_many_files(void **state)
{
    struct log *l = *state;
    struct buf want = BUF(MIB(1)), got = BUF(MIB(1));
    struct compute_log_opts on = { .tail = -1, .follow = true };
    pthread_t t = thread_start("writer", writer, l);

    for (int lines = 0; lines < 3000; on.from = l->idle) {
        buf_puts(&got, read_log(l, on));
        lines += l->calls;
    }
    pthread_join(t, NULL);
    for (int i = 0; i < 3000; i++)
        buf_printf(&want, "%d.;", i);
    assert_string_equal(buf_cstr(&got), buf_cstr(&want));
    buf_free(&want);
    buf_free(&got);
}

static void a_place_is_where_to_go_on_from(void **state)
{
    static const char *const lines[] = { "!e1;", "one;", "!e2;", "two;", "!e3;" };
    struct log *l = *state;
    struct buf want = BUF(KIB(1));

    record(l, 1, "stdout P o");
    record(l, 1, "stderr F e1");
    record(l, 1, "stdout P:C n");
    record(l, 1, "stderr P e");
    record(l, 2, "stdout F:C e");
    record(l, 2, "stdout P t");
    record(l, 2, "stderr F:C 2");
    record(l, 2, "stdout F:C wo");
    record(l, 2, "stderr F e3");
    for (int n = 1; n <= 5; n++) {
        buf_clear(&want);
        for (int k = n; k < 5; k++)
            buf_puts(&want, lines[k]);
        l->enough = n;
        (void)tail(l, -1);
        l->enough = 0;
        struct compute_log_opts o = { .tail = 1, .from = l->last };
        assert_string_equal(read_log(l, o), buf_cstr(&want));
        o.follow = true;
        assert_string_equal(read_log(l, o), buf_cstr(&want));
    }
    buf_free(&want);
}

static void a_very_long_line_comes_in_pieces_that_say_so(void **state)
{
    struct log *l = *state;
    char text[4000];
    size_t bytes = 0;

    memset(text, 'y', sizeof(text));
    memcpy(text, "stdout P ", 9);
    text[3009] = '\0';
    for (int i = 0; i < 900; i++) {
        record(l, 1, text);
        memcpy(text, "stdout P:C yy", 13);
        text[3009] = 'y';
        text[3010] = 'y';
        text[3011] = '\0';
    }
    record(l, 1, "stderr F e");
    record(l, 1, "stdout F:C end");
    const char *all = tail(l, -1), *first = strstr(all, "…;");
    for (const char *p = all; *p; p++)
        bytes += *p == 'y';
    assert_int_equal(bytes, 900 * 3000);
    assert_int_equal(l->calls, 4);
    assert_in_range(first - all, 1 << 20, (1 << 20) + 3000);
    assert_non_null(strstr(first, "!e;yyy"));
    assert_non_null(strstr(first, "yyyend;"));
    (void)tail(l, 1);
    assert_int_equal(l->calls, 3); /* one line */
    l->enough = 2;
    (void)tail(l, -1);
    l->enough = 0;
    all = read_log(l, (struct compute_log_opts){ .from = l->last });
    assert_memory_equal(all, "!e;yyy", 6);
    assert_int_equal(l->calls, 2);
}

static void of_no_log_nothing_is_said(void **state)
{
    struct log *l = *state;

    assert_string_equal(tail(l, -1), "");
    append(l, 1, "");
    append(l, 2, "2026-01-05T23:00:00.000000000Z stdout F no newl");
    assert_string_equal(tail(l, 5), "");
    assert_string_equal(read_log(l, (struct compute_log_opts){ .follow = true }), "");
}

static void in_dir(const struct log *l, const char *name, char out[100])
{
    snprintf(out, 100, "%s/%s", l->dir, name);
}

static void what_is_there_and_cannot_be_read_is_an_error(void **state)
{
    struct log *l = *state;
    char path[100];

    record(l, 2, "stdout F a");
    in_dir(l, "1", path);
    assert_int_equal(symlink("1", path), 0); /* a loop */
    fails(l, 5);
    assert_string_equal(tail(l, 1), "a;"); /* it is not asked for */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    fails(l, 5);
    assert_int_equal(rmdir(path), 0);
    in_dir(l, "2", path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(l->dir), 0);
    assert_string_equal(tail(l, 5), ""); /* nothing is there */
    FILE *f = fopen(l->dir, "we");
    assert_non_null(f);
    fclose(f);
    fails(l, 5);
    assert_int_equal(unlink(l->dir), 0);
    assert_int_equal(mkdir(l->dir, 0700), 0);
}

static void who_follows_goes_on_once_it_can_be_read_again(void **state)
{
    struct log *l = *state;
    struct compute_log_opts on = { .tail = 5, .follow = true };
    struct err e = { 0 };
    char path[100];

    record(l, 1, "stdout F a");
    assert_string_equal(read_log(l, on), "a;");
    on.from = l->idle;
    in_dir(l, "2", path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(logbook_read(l->dir, &on, on_line, l, &e), -1);
    assert_int_equal(rmdir(path), 0);
    record(l, 2, "stdout F b");
    assert_string_equal(read_log(l, on), "b;");
}

static void a_record_is_read_by_its_grammar(void **state _unused_)
{
    static const char *const bad[] = {
        "",
        "x",
        "2026-01-05T23:00:00.000000000Z",
        "2026-01-05T23:00:00.000000000Z stdout",
        "2026-01-05T23:00:00.000000000Z stdout F",
        "2026-01-05T23:00:00.000000000Z stdxxx F a",
        "2026-01-05T23:00:00.000000000Z stdout X a",
        "2026-01-05T23:00:00.000000000Z stdout F: a",
        "2026-01-05T23:00:00.000000000Z stdout FC a",
        "2026-13-05T23:00:00.000000000Z stdout F a",
    };
    struct log_record r;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(log_record_parse(str_of(bad[i]), &r));
    assert_true(log_record_parse(STR("2026-01-05T23:00:01.500000000Z stderr P:C:L:X  a b "), &r));
    assert_int_equal(r.stream, 2);
    assert_int_equal(r.time, at_second(1) + 500000);
    assert_true(r.goes_on && r.lost && !r.whole);
    assert_true(str_is(r.text, " a b "));
    assert_true(log_record_parse(STR("2026-01-05T23:00:01.500000000Z stdout F "), &r));
    assert_true(r.whole && r.text.n == 0);
}

#define LOG_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOG_TEST(parts_of_two_streams_do_not_mix),
        LOG_TEST(a_tail_counts_lines_and_each_is_whole),
        LOG_TEST(a_tail_of_many_blocks_is_exact),
        LOG_TEST(a_line_that_is_being_printed_is_marked_and_a_follower_gets_it_whole),
        LOG_TEST(since_is_by_the_time_at_which_a_line_ended),
        LOG_TEST(what_is_no_longer_kept_is_said_where_it_was_asked_for),
        LOG_TEST(a_hole_between_files_and_a_record_that_found_no_room_are_said),
        LOG_TEST(files_that_leave_while_they_are_read_are_said),
        LOG_TEST(what_is_asked_for_ends_where_it_did_then),
        LOG_TEST(a_follower_misses_nothing_over_many_files),
        LOG_TEST(a_place_is_where_to_go_on_from),
        LOG_TEST(a_very_long_line_comes_in_pieces_that_say_so),
        LOG_TEST(of_no_log_nothing_is_said),
        LOG_TEST(what_is_there_and_cannot_be_read_is_an_error),
        LOG_TEST(who_follows_goes_on_once_it_can_be_read_again),
        LOG_TEST(a_record_is_read_by_its_grammar),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
