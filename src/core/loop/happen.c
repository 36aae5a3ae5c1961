/* SPDX-License-Identifier: Apache-2.0 */
/* The turn of a consumer of events: rows of the journal are read and parsed off the writer, and the
 * events that fit handed to the handler one by one.  A turn is bounded in events, in bytes and in
 * the time it takes on the writer. */
#include "core/loop/happen.h"

#include "core/event_stream.h"
#include "core/request/request.h"

enum { TURN_EVENTS = 1024, TURN_ROWS = 4096, TURN_BYTES = MIB(1) };
/* SQLite has one writer, which a turn holds up; PostgreSQL only the connection. */
static const int64_t TURN_SQLITE = MILLIS(5), TURN_POSTGRES = MILLIS(50);

struct item {
    struct happened h;
    struct place after; /* once it is done */
};
struct row_tree {
    struct row_tree *next;
    struct json_value *tree;
};
struct events_read {
    struct turn *t;
    struct item *items;
    struct row_tree *trees;
    size_t rows, bytes, most;
    struct place end; /* once all items are done */
    bool enough;
};

bool happen_fits(const char *const *types, struct str type)
{
    for (; *types; types++) {
        size_t n = strlen(*types);
        bool all = n && (*types)[n - 1] == '*';

        if (all ? type.n >= n - 1 && memcmp(type.p, *types, n - 1) == 0
                : type.n == n && memcmp(type.p, *types, n) == 0)
            return true;
    }
    return false;
}

/* False only if none of the row's events fits: so that most rows are not parsed. */
static bool may_fit(const char *const *types, struct str events)
{
    for (; *types; types++) {
        char want[160];
        size_t n = strcspn(*types, "*");

        snprintf(want, sizeof(want), "\"type\":\"%.*s", (int)n, *types);
        if (memmem(events.p, events.n, want, strlen(want)))
            return true;
    }
    return false;
}

struct str happened_json(struct arena *a, const struct happened *h)
{
    struct buf b = BUF(MIB(32));
    struct json_out o = JSON_OUT(&b);
    struct str s = STR("{}");

    o.view.typeid = true;
    event_write(&o, a, h->event, h->request_id, &h->project);
    if (json_done(&o) == 0)
        s = (struct str){ arena_dup(a, b.p, b.n), b.n };
    buf_free(&b);
    return s;
}

static struct uuid id_of(const char *s)
{
    struct uuid id = { "" };

    if (s)
        snprintf(id.s, sizeof(id.s), "%s", s);
    return id;
}

/* 'index' of the row's events; 'last': the last of them that fits. */
static void item_add(struct events_read *w, const struct journal_row *row,
                     const struct json_value *v, const char *type, size_t index)
{
    struct arena *a = w->t->arena;
    struct item *x = &w->items[w->t->n++];
    struct uuid project;

    event_project(v, row->project_id, &project);
    *x = (struct item){
        .h = { .seq = row->seq,
               .at = row->at,
               .id = json_get_str(a, v, "id", ""),
               .type = type,
               .tenant = id_of(row->tenant_id),
               .project = project,
               .mode = row->mode && strcmp(row->mode, "test") == 0 ? MODE_TEST : MODE_LIVE,
               .request_id =
                   row->request_id ? arena_dup(a, row->request_id, strlen(row->request_id)) : NULL,
               .object = json_get(v, "object"),
               .previous = json_get(v, "previous"),
               .event = v },
        .after = { w->t->to.seq, (int64_t)index + 1 },
    };
}

static int row_take(struct events_read *w, const struct journal_row *row, struct err *e)
{
    const struct consumer *c = w->t->consumer;
    int64_t done = w->t->to.part;
    size_t before = w->t->n;

    struct row_tree *x = arena_new(w->t->arena, struct row_tree);
    if (!(x->tree = json_parse(row->events, e)))
        return err_cause(e, ERR_INTERNAL, "a row of the journal has events that are no JSON",
                         "internal error");
    x->next = w->trees;
    w->trees = x;
    for (size_t i = (size_t)done; i < json_len(x->tree); i++) {
        const struct json_value *v = json_at(x->tree, i);
        const char *type = json_get_str(w->t->arena, v, "type", "");

        if (!happen_fits(c->types, str_of(type)))
            continue;
        if (w->t->n == w->most) {
            w->enough = true;
            w->t->to.part = w->t->n > before ? w->items[w->t->n - 1].after.part : done;
            return err_set(e, ERR_NONE, "enough");
        }
        item_add(w, row, v, type, i);
    }
    if (w->t->n > before)
        w->items[w->t->n - 1].after = (struct place){ row->seq, 0 };
    return 0;
}

static int take_row(void *ctx, const struct journal_row *row, struct err *e)
{
    struct events_read *w = ctx;

    if (may_fit(w->t->consumer->types, row->events)) {
        w->bytes += row->events.n;
        TRY(row_take(w, row, e));
    }
    w->t->to = (struct place){ row->seq, 0 };
    w->rows++;
    if (w->bytes < TURN_BYTES)
        return 0;
    w->enough = true;
    return err_set(e, ERR_NONE, "enough");
}

static int happen_read(struct turn *t, struct err *e)
{
    struct events_read *w = arena_new(t->arena, struct events_read);

    *w = (struct events_read){ .t = t, .most = MIN(t->most, (size_t)TURN_EVENTS) };
    w->items = arena_new_n(t->arena, struct item, TURN_EVENTS);
    t->work = w;
    if (journal_events(t->db, t->from.seq, t->upto, TURN_ROWS, take_row, w, e) < 0 && !w->enough)
        return -1;
    if (!w->enough && w->rows < TURN_ROWS)
        t->to = (struct place){ t->upto, 0 };
    w->end = t->to;
    return 0;
}

static int happen_write(struct call *c, struct turn *t, struct err *e)
{
    const struct events_read *w = t->work;
    int64_t most = t->app->postgres ? TURN_POSTGRES : TURN_SQLITE;
    int64_t began = clock_mono(clock_system());

    for (size_t i = 0; i < t->n; i++) {
        const struct happened *h = &w->items[i].h;

        if (i && clock_mono(clock_system()) - began > most) {
            t->to = w->items[i - 1].after;
            t->failed = 0;
            return 0;
        }
        t->failed = i;
        TRY(system_call_turn(c, &h->tenant, h->mode, e));
        TRY(t->consumer->handle(c, h, e));
    }
    t->to = w->end;
    t->failed = 0;
    return 0;
}

static void happen_done(struct turn *t)
{
    const struct events_read *w = t->work;

    for (struct row_tree *x = w ? w->trees : NULL; x; x = x->next)
        json_free(x->tree);
}

const struct consumer_kind happen_kind = {
    .read = happen_read,
    .write = happen_write,
    .done = happen_done,
    .waiting = "events IS NOT NULL",
};
