/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Counters, gauges and histograms in Prometheus' text format.  A metric is static in the file that
 * counts; it registers itself when first used.  Counting is one relaxed atomic addition. */

#include "base/base.h"
#include "base/buf.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

#define METRIC_BUCKETS 16 /* histogram: 100 µs · 2^i, the last one +Inf */

struct metric_cell {
    struct metric_cell *next;
    char labels[120];      /* `method="GET",status="200"` or "" */
    _Atomic int64_t value; /* histogram: microseconds in all */
    _Atomic int64_t count[METRIC_BUCKETS];
};

struct metric {
    enum metric_type type;
    const char *name; /* brume_http_requests_total */
    const char *help;
    struct metric_cell cell; /* the one without labels */
    struct metric_cell *_Atomic cells;
    struct metric *next;
    _Atomic int state; /* 0 unseen, 1 registered */
};
#define METRIC(t, n, h)                       \
    {                                         \
        .type = (t), .name = (n), .help = (h) \
    }

/* The cell for these labels, made on first use and kept for ever (at most 4,096 a metric; after
 * that the cell `overflow="true"`): callers keep the pointer. */
struct metric_cell *metric_labels(struct metric *m, const char *labels);
void metric_add(struct metric *m, int64_t n);
void metric_set(struct metric *m, int64_t v);
void metric_time(struct metric *m, int64_t micros);
void metric_cell_add(struct metric *m, struct metric_cell *c, int64_t n);
void metric_cell_set(struct metric *m, struct metric_cell *c, int64_t v);
void metric_cell_time(struct metric *m, struct metric_cell *c, int64_t micros);
/* All registered metrics as text; histograms in seconds. */
void metric_write(struct buf *b);
