/* SPDX-License-Identifier: Apache-2.0 */
/* What an instance prints.  Hides that nobody waits for it: each run takes from the host what is
 * there behind a place, as much as there is room for, and the host says when there is more. */
#include "codec/sse.h"
#include "codec/text.h"
#include "services/compute/compute_private.h"

enum { TAIL_DEFAULT = 1000 };

/* Who prints without end is looked at in steps; where the host's word was lost, somebody looks. */
static const int64_t NEXT_LOOK = MILLIS(50), NEXT_TRY = MILLIS(500), LATE_LOOK = SECONDS(5);
static const int64_t AWAY_MAX = SECONDS(30); /* a host that is */

struct instance_logs_args {
    int64_t tail; /* -1: not given */
    int64_t since;
    bool follow, timestamps;
    const char *last_event_id;
};
/* clang-format off */
static const struct field instance_logs_fields[] = {
    FIELD_INT (struct instance_logs_args, tail,       FF_CREATE, .min = 0, .max = 1000000, .dflt = -1, .alias = "limit", .doc = "Last lines; left out: 1000, or with since all."),
    FIELD_TIME(struct instance_logs_args, since,      FF_CREATE, .doc = "Only lines that ended since then."),
    FIELD_BOOL(struct instance_logs_args, follow,     FF_CREATE, .doc = "Go on with what is printed from now on."),
    FIELD_BOOL(struct instance_logs_args, timestamps, FF_CREATE, .doc = "Begin each line with its time."),
    FIELD_STR (struct instance_logs_args, last_event_id, FF_CREATE, .max = 100, .doc = "As server-sent events: go on behind this one; the header Last-Event-ID comes before it."),
};
/* clang-format on */
const struct record instance_logs_query = RECORD(instance_logs_args, NULL, instance_logs_fields);

/* What stands in the text where it is not all that was printed. */
#define PART_MARK " [brume: the line is cut here]"
#define GAP_MARK  "[brume: output is missing here]"

/* From run to run. */
struct following {
    struct uuid id;
    enum mode mode;
    struct compute_log_place place; /* behind what was written */
    int64_t heard, lines;           /* when its host answered last; whole lines so far */
    bool known, begun, events, looked;
};

/* One look. */
struct look {
    struct call *c;
    struct following *f;
    const struct instance_logs_args *q;
    struct buf out, line;
    size_t room;
    int64_t tail;
    bool full; /* there is more */
};

const char *instance_log_topic(struct arena *a, const struct uuid *id)
{
    return arena_printf(a, "log:%s", id->s);
}

void instance_printed(struct app *app, const struct uuid *id)
{
    _cleanup_(arena_free) struct arena a = ARENA(KIB(8));

    app_signal(app, instance_log_topic(&a, id));
}

/* ---- lines */

static const char *place_text(struct arena *a, const struct compute_log_place *p)
{
    return arena_printf(a, "%lld.%lld.%lld.%lld", (long long)p->file[0], (long long)p->at[0],
                        (long long)p->file[1], (long long)p->at[1]);
}

static bool place_parse(const char *text, struct compute_log_place *out)
{
    int64_t *const to[] = { &out->file[0], &out->at[0], &out->file[1], &out->at[1] };
    struct str rest = str_of(text);

    for (size_t i = 0; i < ARRAY_LEN(to); i++) {
        const char *dot = i < 3 ? memchr(rest.p, '.', rest.n) : rest.p + rest.n;
        if (!dot || !int_parse((struct str){ rest.p, (size_t)(dot - rest.p) }, 0, INT64_MAX, to[i]))
            return false;
        if (i < 3)
            rest = (struct str){ dot + 1, rest.n - (size_t)(dot + 1 - rest.p) };
    }
    return out->file[0] > 0;
}

static void put_line(struct buf *b, const struct compute_line *l, bool timestamps)
{
    static const char *const marks[] = {
        [COMPUTE_LINE_PART] = PART_MARK, [COMPUTE_LINE_GAP] = GAP_MARK
    };
    char text[TIME_TEXT];

    if (timestamps && l->time) {
        time_format(l->time, text);
        buf_puts(b, text);
        buf_putc(b, ' ');
    }
    buf_put(b, l->text.p, l->text.n);
    if (l->kind != COMPUTE_LINE)
        buf_puts(b, marks[l->kind]);
}

static int line_out(void *ctx, const struct compute_line *l)
{
    struct look *x = ctx;
    char id[4 * 21];

    if (l->kind == COMPUTE_LINE_IDLE) {
        x->f->place = l->after;
        return 0;
    }
    /* What was printed since the first look is not asked for. */
    if (!x->q->follow && x->tail >= 0 && x->f->lines >= x->tail)
        return -1;
    x->f->lines += l->kind == COMPUTE_LINE;
    x->f->place = l->after;
    if (x->f->events) {
        _cleanup_(arena_free) struct arena a = ARENA(KIB(8));

        buf_clear(&x->line);
        put_line(&x->line, l, x->q->timestamps);
        snprintf(id, sizeof(id), "%s", place_text(&a, &l->after));
        sse_put(&x->out, &(struct sse){ .id = id, .data = buf_str(&x->line) });
    } else {
        put_line(&x->out, l, x->q->timestamps);
        buf_putc(&x->out, '\n');
    }
    x->full = x->out.n >= x->room;
    return x->full ? -1 : 0;
}

/* ---- a run */

static int first_run(struct call *c, struct following *f, struct err *e)
{
    const struct instance_logs_args *q = c->query;
    const char *seen;
    struct instance i;

    TRY(instance_there(c, &i, e));
    f->events = stream_wants_events(c);
    seen = f->events ? stream_last_id(c, q->last_event_id) : NULL;
    if (seen && !place_parse(seen, &f->place)) {
        fault_add(c, "last_event_id", "malformed", "is no id of an event of this stream");
        return call_faults(c, e);
    }
    f->id = i.id;
    f->mode = i.mode;
    f->heard = c->now;
    f->known = true;
    return 0;
}

/* What has come; the answer begins with it, so that a host that cannot be asked is still an error.
 */
static int give(struct look *x, struct err *e)
{
    if (!x->f->begun)
        TRY(stream_begin(x->c, x->f->events ? "text/event-stream" : x->c->route->produces, e));
    x->f->begun = true;
    return x->out.n ? stream_write(x->c, buf_str(&x->out), e) : 0;
}

/* After a look: the end, or when there is to be another. */
static int go_on(struct look *x, struct err *e)
{
    struct call *c = x->c;

    if (stream_last(c)) {
        if (x->f->events)
            return stream_farewell(c, e);
        return err_set(e, ERR_REQUEST_TIMEOUT, "the answer was not given to its end");
    }
    if (x->full)
        return call_park(c, "log:more", INT64_MAX, c->now);
    if (x->out.n)
        return call_park(c, "log:more", INT64_MAX, c->now + NEXT_LOOK);
    return call_park(c, instance_log_topic(c->arena, &x->f->id), INT64_MAX, c->now + LATE_LOOK);
}

/* A host that is away comes back, as a rule. */
static int try_again(struct look *x, struct err *e)
{
    struct call *c = x->c;

    if (stream_last(c) || c->now - x->f->heard > AWAY_MAX)
        return -1;
    e->code = ERR_NONE;
    return call_park(c, "log:more", INT64_MAX, c->now + NEXT_TRY);
}

static int look(struct look *x, struct err *e)
{
    const struct instance_logs_args *q = x->q;
    struct compute_log_opts o = {
        .tail = q->tail, .since = q->since, .follow = q->follow, .from = x->f->place
    };

    if (o.tail < 0) /* not given: since a time all, else a screenful or two */
        o.tail = q->since ? -1 : TAIL_DEFAULT;
    x->tail = o.tail;
    x->room = stream_room(x->c);
    if (x->f->looked && o.from.file[0] == 0) /* there was nothing: all of it is new */
        o.tail = -1;
    int rc = compute_logs(app_compute(x->c->app, x->f->mode), &x->f->id, &o, line_out, x, e);
    /* What no host knows, yet or any more, has printed nothing further. */
    bool over = rc < 0 && e->code == ERR_NOT_FOUND;
    if (rc < 0 && !over) {
        struct err lost;
        bool gave = x->out.n == 0 || give(x, &lost) == 0;
        return gave && x->f->begun && q->follow ? try_again(x, e) : -1;
    }
    x->f->heard = x->c->now;
    x->f->looked = true;
    TRY(give(x, e));
    return over || (!q->follow && !x->full) ? 0 : go_on(x, e);
}

int instance_logs(struct call *c, struct err *e)
{
    struct following *f = stream_state(c, sizeof(*f));
    struct look x = { .c = c, .f = f, .q = c->query, .out = BUF(MIB(8)), .line = BUF(MIB(4)) };

    if (!f->known)
        TRY(first_run(c, f, e));
    int rc = look(&x, e);
    buf_free(&x.out);
    buf_free(&x.line);
    return rc;
}
