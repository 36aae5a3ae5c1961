/* SPDX-License-Identifier: Apache-2.0 */
/* Hides the order that lines must come in. */
#include "planes/feed/take.h"

#include "base/log.h"
#include "os/link.h"

static const struct feed_sink *sink_of(const struct feed_taker *t, const char *part)
{
    for (size_t i = 0; i < t->n; i++)
        if (strcmp(t->sinks[i].part, part) == 0)
            return &t->sinks[i];
    return NULL;
}

static int take_begin(struct feed_taker *t, const struct feed_line *l, struct err *e)
{
    size_t n = strlen(l->epoch);

    if (n == 0 || n >= sizeof(t->next))
        return err_set(e, ERR_INVALID, "the epoch of the feed makes no sense");
    if (strcmp(t->epoch, l->epoch) == 0 && l->revision < t->revision)
        return err_set(
            e, ERR_INVALID_STATE,
            "the feed of the api is older (revision %lld) than what is known here (%lld):"
            " its store was put back without `brume restore`",
            (long long)l->revision, (long long)t->revision);
    for (size_t i = 0; i < t->n; i++)
        t->sinks[i].begin(t->sinks[i].ctx);
    memcpy(t->next, l->epoch, n + 1);
    t->open = t->taking = true;
    return 0;
}

static int take_rows(struct feed_taker *t, const struct feed_line *l, struct err *e)
{
    _cleanup_(json_freep) struct json_value *all = json_parse(str_of(l->rows), e);
    const struct feed_sink *s = sink_of(t, l->part);

    if (!all)
        return -1;
    if (json_type_of(all) != JSON_ARR)
        return err_set(e, ERR_INVALID, "the rows of the feed are no list");
    for (size_t i = 0; s && i < json_len(all); i++) {
        _cleanup_(arena_free) struct arena a = ARENA(MIB(4));
        void *row = arena_alloc(&a, s->record->size);
        struct err why;

        if (json_load_row(&a, s->record, json_at(all, i), row, &why) < 0 ||
            s->row(s->ctx, row, &why) < 0)
            log_event(LOG_WARN, "feed_row_left_out", L_STR("part", l->part),
                      L_STR("message", why.msg));
    }
    return 0;
}

static void take_gone(struct feed_taker *t, const struct feed_line *l)
{
    const struct feed_sink *s = sink_of(t, l->part);

    if (s)
        s->gone(s->ctx, &l->id);
}

static int take_end(struct feed_taker *t, const struct feed_line *l)
{
    for (size_t i = 0; i < t->n; i++)
        t->sinks[i].end(t->sinks[i].ctx);
    t->taking = false;
    memcpy(t->epoch, t->next, sizeof(t->epoch));
    t->revision = l->revision;
    return 0;
}

/* BEGIN first, GONE after END alone. */
static bool in_order(const struct feed_taker *t, enum feed_kind kind)
{
    switch (kind) {
    case FEED_BEGIN:
        return !t->taking;
    case FEED_ROWS:
        return t->open;
    case FEED_GONE:
        return t->open && !t->taking;
    case FEED_END:
        return t->taking;
    }
    return false;
}

int feed_take(struct feed_taker *t, const struct feed_line *l, struct err *e)
{
    if (!in_order(t, l->kind))
        return err_set(e, ERR_INVALID, "the lines of the feed are out of order");
    if (l->kind == FEED_BEGIN)
        return take_begin(t, l, e);
    if (l->kind == FEED_END)
        return take_end(t, l);
    if (l->kind == FEED_GONE)
        take_gone(t, l);
    else
        TRY(take_rows(t, l, e));
    if (!t->taking)
        t->revision = MAX(t->revision, l->revision);
    return 0;
}

void feed_take_broken(struct feed_taker *t)
{
    t->open = t->taking = false;
}

size_t feed_take_all(struct feed_taker *t, struct str bytes, struct err *e)
{
    size_t at = 0, used;
    struct frame f;

    while (frame_decode((struct str){ bytes.p + at, bytes.n - at }, &f, &used, e) == 1) {
        _cleanup_(arena_free) struct arena a = ARENA(MIB(4));
        struct feed_line l;

        if (f.kind != FRAME_JSON || feed_line_read(&a, f.body, &l, e) < 0 ||
            feed_take(t, &l, e) < 0)
            break;
        at += used;
    }
    return at;
}
