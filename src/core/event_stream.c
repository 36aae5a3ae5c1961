/* SPDX-License-Identifier: Apache-2.0 */
/* Events as they happen.  Hides that the journal is read once for all who follow it at the same
 * place: what one of them has read and written out is kept until there is something newer. */
#include "core/event_stream.h"

#include "codec/sse.h"

enum { TYPE_MAX = 128, SLOTS = 64, BATCH_ROWS = 200, BATCH_BYTES = 128 << 10, KEPT_MAX = 1 << 20 };

/* Others over this PostgreSQL signal nobody here; what is not settled soon is. */
static const int64_t FRESH = MILLIS(500), SOON = MILLIS(20);

/* Behind an event: 'index' in its row's. */
struct place {
    int64_t seq, index;
};
struct written {
    const char *type, *id;
    size_t json_n; /* its JSON, before the empty line that ends its text */
    struct uuid project;
    size_t end; /* of its text */
    struct place at;
};
/* What lies between two places. */
struct batch {
    atomic_int refs;
    struct uuid tenant;
    enum mode mode;
    struct place from, to;
    bool full, late;  /* there is more; there is some that is not settled */
    uint64_t signals; /* there were, before it was read */
    int64_t read_at;  /* monotonic */
    struct arena arena;
    struct written *v;
    size_t n, cap;
    struct buf text;
};
struct tails {
    struct tail {
        pthread_mutex_t lock;
        struct batch *last; /* or NULL */
    } slots[SLOTS];
};
/* One who follows, from run to run. */
struct follower {
    bool begun, socket;
    struct place at;
    char *type; /* that a WebSocket's peer has asked for, in place of the query's */
    char topic[JOURNAL_TOPIC];
};

/* clang-format off */
#define T struct event_stream_query
static const struct field event_stream_fields[] = {
    FIELD_STR(T, type,          FF_CREATE, .max = TYPE_MAX, .doc = "Only this type; ends with * for any that begins so."),
    FIELD_STR(T, last_event_id, FF_CREATE, .max = 1000, .doc = "Go on behind this event; the header Last-Event-ID comes before it. Else it begins now."),
};
#undef T
/* clang-format on */
const struct record event_stream_query_record =
    RECORD(event_stream_query, NULL, event_stream_fields);

/* ---- what list and stream share */

bool event_type_fits(const char *want, const char *type)
{
    size_t n = want ? strlen(want) : 0;

    if (!want)
        return true;
    if (n && want[n - 1] == '*')
        return strncmp(want, type, n - 1) == 0;
    return strcmp(want, type) == 0;
}

bool event_project(const struct json_value *event, const char *made_by, struct uuid *out)
{
    const struct json_value *object = json_get(event, "object");
    const char *id = object ? json_str_of(json_get(object, "project_id"), NULL) : NULL;

    if (id && id_parse(str_of(id), project_ref.prefix, out) == ID_OK)
        return true;
    if (made_by && uuid_parse(str_of(made_by), out) && !uuid_is_nil(out))
        return true;
    *out = (struct uuid){ "" };
    return false;
}

bool event_may_see(const struct principal *who, const struct uuid *project)
{
    return uuid_is_nil(&who->project_id) || uuid_eq(&who->project_id, project);
}

void event_write(struct json_out *o, struct arena *a, const struct json_value *v,
                 const char *request_id, const struct uuid *project)
{
    const struct json_value *previous = json_get(v, "previous"), *object = json_get(v, "object");

    json_open(o, '{');
    json_kstr(o, "id", json_get_str(a, v, "id", ""));
    json_kstr(o, "type", json_get_str(a, v, "type", ""));
    json_kstr(o, "created_at", json_get_str(a, v, "created_at", ""));
    json_key(o, "data");
    json_open(o, '{');
    if (object) {
        json_key(o, "object");
        json_raw(o, json_text(a, object));
    }
    if (previous) {
        json_key(o, "previous");
        json_raw(o, json_text(a, previous));
    }
    json_close(o);
    json_key(o, "project_id");
    if (uuid_is_nil(project))
        json_null(o);
    else
        json_id(o, project_ref.prefix, project);
    json_kstr(o, "request_id", request_id);
    json_close(o);
}

/* ---- what was read last */

struct tails *tails_new(void)
{
    struct tails *t = calloc(1, sizeof(*t));

    if (!t)
        abort();
    for (size_t i = 0; i < SLOTS; i++)
        pthread_mutex_init(&t->slots[i].lock, NULL);
    return t;
}

static void batch_put(struct batch *b)
{
    if (!b || atomic_fetch_sub(&b->refs, 1) > 1)
        return;
    arena_free(&b->arena);
    buf_free(&b->text);
    free(b);
}
DEFINE_CLEANUP(struct batch *, batch_put)

void tails_free(struct tails *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < SLOTS; i++) {
        batch_put(t->slots[i].last);
        pthread_mutex_destroy(&t->slots[i].lock);
    }
    free(t);
}

static struct tail *tail_of(struct call *c)
{
    uint64_t h = flow_of(&c->tenant) ^ (uint64_t)c->who->mode;

    return &c->app->tails->slots[h % SLOTS];
}

static bool same(struct place a, struct place b)
{
    return a.seq == b.seq && a.index == b.index;
}

/* Whether nothing can have come since it was read. */
static bool is_fresh(struct call *c, const struct batch *b, const char *topic)
{
    int64_t age = clock_mono(clock_system()) - b->read_at;

    return !b->full && !b->late && park_last(c->app->park, topic) <= b->signals &&
           (!c->app->postgres || age < FRESH);
}

/* What was read behind the follower's place, or what says that nothing is there: with a reference;
 * NULL: the journal is to be asked. */
static struct batch *kept(struct call *c, const struct follower *f)
{
    struct tail *t = tail_of(c);

    pthread_mutex_lock(&t->lock);
    struct batch *b = t->last;
    bool fits =
        b && uuid_eq(&b->tenant, &c->tenant) && b->mode == c->who->mode &&
        ((same(b->from, f->at) && b->n > 0) || (same(b->to, f->at) && is_fresh(c, b, f->topic)));
    if (fits)
        atomic_fetch_add(&b->refs, 1);
    pthread_mutex_unlock(&t->lock);
    return fits ? b : NULL;
}

static void keep(struct call *c, struct batch *b)
{
    struct tail *t = tail_of(c);
    struct batch *was = b;

    if (b->text.cap > KEPT_MAX)
        return;
    atomic_fetch_add(&b->refs, 1);
    pthread_mutex_lock(&t->lock);
    was = t->last;
    t->last = b;
    pthread_mutex_unlock(&t->lock);
    batch_put(was);
}

/* ---- reading */

struct reading {
    struct call *c;
    struct batch *b;
    int64_t rows, last; /* given so far; the last one's number */
};

static void write_event(struct reading *x, const struct json_value *v,
                        const struct journal_row *row, struct place at, struct arena *a)
{
    struct batch *b = x->b;
    struct buf json = BUF(MIB(64));
    struct json_out o = JSON_OUT(&json);

    b->v = arena_more(&b->arena, b->v, b->n, &b->cap, sizeof(*b->v));
    struct written *w = &b->v[b->n++];
    event_project(v, row->project_id, &w->project);
    w->type = arena_strdup(&b->arena, json_get_str(a, v, "type", ""));
    w->at = b->to = at;
    event_write(&o, a, v, row->request_id, &w->project);
    w->id = arena_strdup(&b->arena, journal_place(x->c, "event", at.seq, at.index));
    w->json_n = json.n;
    sse_put(&b->text, &(struct sse){ .id = w->id, .event = w->type, .data = buf_str(&json) });
    w->end = b->text.n;
    b->text.failed |= json.failed;
    buf_free(&json);
}

static int take_row(void *ctx, const struct journal_row *row, struct err *e)
{
    struct reading *x = ctx;
    struct batch *b = x->b;
    /* What is copied of a row's events is not more than they are. */
    _cleanup_(arena_free) struct arena a = ARENA(row->events.n * 2 + MIB(1));
    _cleanup_(json_freep) struct json_value *all = json_parse(row->events, e);

    if (!all)
        return -1;
    x->rows++;
    x->last = row->seq;
    for (size_t i = 0; i < json_len(all); i++) {
        struct place at = { row->seq, (int64_t)i };

        if (at.seq == b->from.seq && at.index <= b->from.index)
            continue;
        if (b->text.n >= BATCH_BYTES) {
            b->full = true;
            return err_set(e, ERR_NONE, "enough");
        }
        write_event(x, json_at(all, i), row, at, &a);
    }
    return 0;
}

static int read_batch(struct call *c, const struct follower *f, struct batch *b, struct err *e)
{
    struct reading x = { .c = c, .b = b };
    int64_t upto;

    TRY(journal_settled(c->app, c->db, &upto, &b->late, e));
    if (upto >= f->at.seq &&
        journal_events_of(c->db, &c->tenant, c->who->mode, f->at.seq - 1, upto, BATCH_ROWS,
                          take_row, &x, e) < 0 &&
        !b->full)
        return -1;
    if (b->text.failed)
        return err_set(e, ERR_TOO_LARGE, "an event is too large");
    if (b->full)
        return 0;
    b->full = x.rows == BATCH_ROWS;
    int64_t end = b->full ? x.last : upto;
    if (end >= b->to.seq)
        b->to = (struct place){ end, INT64_MAX };
    return 0;
}

/* With a reference; NULL: *e. */
static struct batch *next_batch(struct call *c, const struct follower *f, struct err *e)
{
    struct batch *b = kept(c, f);

    if (b)
        return b;
    b = calloc(1, sizeof(*b));
    if (!b)
        abort();
    *b = (struct batch){ .tenant = c->tenant,
                         .mode = c->who->mode,
                         .from = f->at,
                         .to = f->at,
                         .signals = c->p->park.seen,
                         .read_at = clock_mono(clock_system()),
                         .arena = ARENA(MIB(64)),
                         .text = BUF(MIB(128)) };
    atomic_init(&b->refs, 1);
    if (read_batch(c, f, b, e) < 0) {
        batch_put(b);
        return NULL;
    }
    keep(c, b);
    return b;
}

/* ---- who follows */

/* One message an event. */
static int say(struct call *c, const struct batch *b, const struct written *w, struct err *e)
{
    struct buf text = BUF(MIB(128));

    buf_printf(&text, "{\"id\":\"%s\",\"event\":", w->id);
    buf_put(&text, b->text.p + w->end - 2 - w->json_n, w->json_n);
    buf_putc(&text, '}');
    int rc = stream_write(c, buf_str(&text), e);
    buf_free(&text);
    return rc;
}

static int give(struct call *c, const struct follower *f, const struct batch *b, struct err *e)
{
    const struct event_stream_query *q = c->query;
    const char *type = f->type ? f->type : q->type;
    struct buf some = BUF(MIB(128));
    size_t at = 0;

    for (size_t i = 0; i < b->n; at = b->v[i++].end) {
        const struct written *w = &b->v[i];
        if (!event_type_fits(type, w->type) || !event_may_see(c->who, &w->project))
            continue;
        if (f->socket)
            TRY(say(c, b, w, e));
        else
            buf_put(&some, b->text.p + at, w->end - at);
    }
    int rc = some.n ? stream_write(c, buf_str(&some), e) : 0;
    buf_free(&some);
    return rc;
}

static int first_run(struct call *c, struct follower *f, struct err *e)
{
    const struct event_stream_query *q = c->query;
    const char *seen = stream_last_id(c, q->last_event_id);
    bool late;

    if (seen && !journal_place_open(c, "event", seen, &f->at.seq, &f->at.index)) {
        fault_add(c, "last_event_id", "malformed", "is no id of an event of this stream");
        return call_faults(c, e);
    }
    if (!seen) { /* what this client does from now on lies behind all that is there */
        TRY(db_int(c->db, "SELECT COALESCE(max(seq), 0) FROM journal", NO_ARGS, 0, &f->at.seq, e));
        f->at.index = INT64_MAX;
        TRY(journal_settled(c->app, c->db, &(int64_t){ 0 }, &late, e));
    }
    journal_topic(&c->tenant, f->topic);
    f->socket = stream_is_socket(c);
    TRY(stream_begin(c, "text/event-stream", e));
    f->begun = true;
    if (f->socket)
        return 0;
    return stream_write(c, STR("retry: 2000\n\n"), e);
}

/* What its peer says over a WebSocket: {"type":"queue.*"}, from now on. */
static int hear(struct call *c, struct follower *f, struct err *e)
{
    static const char bad[] =
        "{\"error\":{\"code\":\"invalid_request\",\"message\":\"a message is an object with"
        " type, a text of at most 128 bytes\"}}";
    struct str text;
    struct err why;

    while (stream_message(c, &text)) {
        _cleanup_(json_freep) struct json_value *v = json_parse(text, &why);
        const char *type = v ? json_str_of(json_get(v, "type"), NULL) : NULL;

        if (!type || json_len(v) != 1 || strlen(type) > TYPE_MAX) {
            TRY(stream_write(c, STR(bad), e));
            continue;
        }
        if (!f->type)
            f->type = arena_alloc(http_req_arena(c->p->r), TYPE_MAX + 1);
        snprintf(f->type, TYPE_MAX + 1, "%s", type);
    }
    return 0;
}

int events_stream(struct call *c, struct err *e)
{
    struct follower *f = stream_state(c, sizeof(*f));
    bool late = false;

    if (!f->begun)
        TRY(first_run(c, f, e));
    TRY(hear(c, f, e));
    for (bool more = true; more;) {
        if (stream_room(c) == 0 && !stream_last(c))
            return call_park(c, f->topic, INT64_MAX, c->now);
        _cleanup_(batch_putp) struct batch *b = next_batch(c, f, e);
        if (!b)
            return -1;
        bool ahead = same(b->from, f->at);
        if (ahead)
            TRY(give(c, f, b, e));
        more = ahead && !same(b->to, f->at) && !stream_last(c);
        f->at = b->to;
        late = b->late;
    }
    if (stream_last(c))
        return stream_farewell(c, e);
    return call_park(c, f->topic, INT64_MAX, late ? c->now + SOON : INT64_MAX);
}
