/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "base/metric.h"

static struct metric requests = METRIC(METRIC_COUNTER, "brume_test_requests_total", "Requests.");
static struct metric open_now = METRIC(METRIC_GAUGE, "brume_test_open", "Open.");
static struct metric took = METRIC(METRIC_HISTOGRAM, "brume_test_seconds", "Time.");
static struct metric many = METRIC(METRIC_COUNTER, "brume_test_many_total", "Many cells.");

static void assert_line(const char *line)
{
    _cleanup_(buf_free) struct buf b = BUF(MIB(4));

    metric_write(&b);
    if (!strstr(buf_cstr(&b), line))
        fail_msg("no line %s in:\n%s", line, buf_cstr(&b));
}

static void counters_and_gauges_are_written_with_their_labels(void **state _unused_)
{
    struct metric_cell *c = metric_labels(&requests, "method=\"GET\"");

    metric_cell_add(&requests, c, 2);
    assert_ptr_equal(metric_labels(&requests, "method=\"GET\""), c);
    metric_cell_add(&requests, c, 3);
    metric_set(&open_now, 7);
    assert_line("# HELP brume_test_requests_total Requests.\n"
                "# TYPE brume_test_requests_total counter\n"
                "brume_test_requests_total{method=\"GET\"} 5\n");
    assert_line("# TYPE brume_test_open gauge\nbrume_test_open 7\n");
}

static void a_histogram_counts_in_seconds_and_adds_up(void **state _unused_)
{
    metric_time(&took, 100);
    metric_time(&took, 101);
    metric_time(&took, SECONDS(3600));
    assert_line("brume_test_seconds_bucket{le=\"0.0001\"} 1\n");
    assert_line("brume_test_seconds_bucket{le=\"0.0002\"} 2\n");
    assert_line("brume_test_seconds_bucket{le=\"1.6384\"} 2\n");
    assert_line("brume_test_seconds_bucket{le=\"+Inf\"} 3\n");
    assert_line("brume_test_seconds_sum 3600.000201\n");
    assert_line("brume_test_seconds_count 3\n");
}

static void *count_thousands(void *arg _unused_)
{
    for (int i = 0; i < 100000; i++) {
        char labels[32];

        snprintf(labels, sizeof(labels), "n=\"%d\"", i % 16);
        metric_cell_add(&requests, metric_labels(&requests, labels), 1);
        metric_add(&open_now, 1);
    }
    return NULL;
}

static void threads_lose_no_count(void **state _unused_)
{
    pthread_t t[4];

    metric_set(&open_now, 0);
    for (size_t i = 0; i < ARRAY_LEN(t); i++)
        assert_int_equal(pthread_create(&t[i], NULL, count_thousands, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(t); i++)
        pthread_join(t[i], NULL);
    assert_line("brume_test_open 400000\n");
    assert_line("brume_test_requests_total{n=\"3\"} 25000\n");
}

static void past_4096_cells_there_is_one_for_the_rest(void **state _unused_)
{
    struct metric_cell *rest = NULL;

    for (int i = 0; i < 4200; i++) {
        char labels[32];

        snprintf(labels, sizeof(labels), "n=\"%d\"", i);
        struct metric_cell *c = metric_labels(&many, labels);
        if (i >= 4096) {
            assert_string_equal(c->labels, "overflow=\"true\"");
            assert_true(!rest || rest == c);
            rest = c;
        } else {
            assert_string_equal(c->labels, labels);
        }
    }
    char too_long[300];
    memset(too_long, 'x', sizeof(too_long));
    too_long[299] = '\0';
    assert_ptr_equal(metric_labels(&many, too_long), rest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counters_and_gauges_are_written_with_their_labels),
        cmocka_unit_test(a_histogram_counts_in_seconds_and_adds_up),
        cmocka_unit_test(threads_lose_no_count),
        cmocka_unit_test(past_4096_cells_there_is_one_for_the_rest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
