/* SPDX-License-Identifier: Apache-2.0 */
#include "planes/feed/take.h"

#include "base/log.h"
#include "services/compute/names.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A sink that holds the feed to its order. */
struct seen {
    bool begun;
    size_t rows;
};

static void begin(void *ctx)
{
    *(struct seen *)ctx = (struct seen){ .begun = true };
}

static int row(void *ctx, const void *row, struct err *e _unused_)
{
    struct seen *s = ctx;
    const struct vpc_name *n = row;

    if (n->name && strlen(n->name) > 1 << 20)
        abort();
    s->rows++;
    return 0;
}

static void gone(void *ctx, const struct uuid *id)
{
    const struct seen *s = ctx;

    if (s->begun || uuid_is_nil(id))
        abort();
}

static void end(void *ctx)
{
    struct seen *s = ctx;

    if (!s->begun)
        abort();
    s->begun = false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct seen s = { false };
    struct feed_sink sink = { "names", &vpc_name_record, &s, begin, row, gone, end };
    struct feed_taker t = { .sinks = &sink, .n = 1 };
    struct err e;

    log_init(LOG_ERROR, false, "fuzz");
    if (feed_take_all(&t, (struct str){ (const char *)data, size }, &e) > size)
        abort();
    return 0;
}
