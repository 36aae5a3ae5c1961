/* SPDX-License-Identifier: Apache-2.0 */
/* Counting takes no lock: cells are only ever added, at the head of a list that readers walk as
 * they find it.  The one lock is for adding a metric or a cell, which happens once each. */
#include "base/metric.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/put.h"

enum { CELLS_MAX = 4096, FIRST_BUCKET = 100 /* microseconds */ };

static const char overflow[] = "overflow=\"true\"";

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct metric *_Atomic metrics;

static void seen(struct metric *m)
{
    if (atomic_load_explicit(&m->state, memory_order_relaxed))
        return;
    pthread_mutex_lock(&lock);
    if (!m->state) {
        m->next = metrics;
        metrics = m;
        m->state = 1;
    }
    pthread_mutex_unlock(&lock);
}

static struct metric_cell *cell_find(struct metric *m, const char *labels, size_t *count)
{
    *count = 0;
    for (struct metric_cell *c = m->cells; c; c = c->next, ++*count)
        if (strcmp(c->labels, labels) == 0)
            return c;
    return NULL;
}

struct metric_cell *metric_labels(struct metric *m, const char *labels)
{
    size_t count;
    struct metric_cell *c;

    seen(m);
    if (strlen(labels) >= sizeof(c->labels))
        labels = overflow;
    c = cell_find(m, labels, &count);
    if (c)
        return c;
    pthread_mutex_lock(&lock);
    c = cell_find(m, labels, &count); /* another thread may have made it meanwhile */
    if (!c && count >= CELLS_MAX) {
        labels = overflow;
        c = cell_find(m, labels, &count);
    }
    if (!c) {
        c = calloc(1, sizeof(*c));
        if (!c)
            abort();
        memcpy(c->labels, labels, strlen(labels));
        c->next = m->cells;
        m->cells = c;
    }
    pthread_mutex_unlock(&lock);
    return c;
}

void metric_cell_add(struct metric *m, struct metric_cell *c, int64_t n)
{
    seen(m);
    atomic_fetch_add_explicit(&c->value, n, memory_order_relaxed);
}

void metric_cell_set(struct metric *m, struct metric_cell *c, int64_t v)
{
    seen(m);
    atomic_store_explicit(&c->value, v, memory_order_relaxed);
}

void metric_cell_time(struct metric *m, struct metric_cell *c, int64_t micros)
{
    int64_t bound = FIRST_BUCKET;
    size_t i = 0;

    seen(m);
    for (; i < METRIC_BUCKETS - 1 && micros > bound; i++)
        bound *= 2;
    atomic_fetch_add_explicit(&c->count[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&c->value, micros, memory_order_relaxed);
}

void metric_add(struct metric *m, int64_t n)
{
    metric_cell_add(m, &m->cell, n);
}

void metric_set(struct metric *m, int64_t v)
{
    metric_cell_set(m, &m->cell, v);
}

void metric_time(struct metric *m, int64_t micros)
{
    metric_cell_time(m, &m->cell, micros);
}

/* name_suffix{labels,extra="…"} */
static void write_name(struct buf *b, const struct metric *m, const char *suffix,
                       const char *labels)
{
    buf_puts(b, m->name);
    buf_puts(b, suffix);
    if (*labels)
        buf_printf(b, "{%s}", labels);
    buf_putc(b, ' ');
}

static void write_seconds(struct buf *b, int64_t micros)
{
    char tmp[PUT_MICRO_MAX];

    buf_put(b, tmp, put_micro(tmp, micros));
}

static void write_histogram(struct buf *b, struct metric *m, struct metric_cell *c)
{
    int64_t bound = FIRST_BUCKET, total = 0;

    for (size_t i = 0; i < METRIC_BUCKETS; i++, bound *= 2) {
        total += atomic_load_explicit(&c->count[i], memory_order_relaxed);
        buf_printf(b, "%s_bucket{%s%sle=\"", m->name, c->labels, c->labels[0] ? "," : "");
        if (i == METRIC_BUCKETS - 1)
            buf_puts(b, "+Inf");
        else
            write_seconds(b, bound);
        buf_printf(b, "\"} %lld\n", (long long)total);
    }
    write_name(b, m, "_sum", c->labels);
    write_seconds(b, atomic_load_explicit(&c->value, memory_order_relaxed));
    buf_putc(b, '\n');
    write_name(b, m, "_count", c->labels);
    buf_printf(b, "%lld\n", (long long)total);
}

static void write_cell(struct buf *b, struct metric *m, struct metric_cell *c)
{
    if (m->type == METRIC_HISTOGRAM) {
        write_histogram(b, m, c);
        return;
    }
    write_name(b, m, "", c->labels);
    buf_printf(b, "%lld\n", (long long)atomic_load_explicit(&c->value, memory_order_relaxed));
}

static bool used(struct metric_cell *c)
{
    for (size_t i = 0; i < METRIC_BUCKETS; i++)
        if (atomic_load_explicit(&c->count[i], memory_order_relaxed))
            return true;
    return atomic_load_explicit(&c->value, memory_order_relaxed) != 0;
}

void metric_write(struct buf *b)
{
    static const char *const types[] = { "counter", "gauge", "histogram" };

    for (struct metric *m = metrics; m; m = m->next) {
        buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", m->name, m->help, m->name, types[m->type]);
        if (!m->cells || used(&m->cell))
            write_cell(b, m, &m->cell);
        for (struct metric_cell *c = m->cells; c; c = c->next)
            write_cell(b, m, c);
    }
}
