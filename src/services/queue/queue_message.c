/* SPDX-License-Identifier: Apache-2.0 */
/* Messages: sent, received, hidden for a while, deleted by receipt handle; at least once.
 *
 * A message is due when its visible_at has come: receiving is one UPDATE that moves visible_at on.
 * In a FIFO queue only the first message of each group can be due; those behind it wait at
 * QUEUE_BEHIND and come forward one by one, as the one before is deleted.  So both kinds receive by
 * the same index and the same statement.
 *
 * The receipt handle is the message's number and how often it had been received: a handle that is
 * older than the last receive deletes nothing. */
#include "codec/id.h"
#include "codec/text.h"
#include "services/queue/queue_private.h"

enum {
    BATCH_MAX = 10,
    DEAD_ROUNDS = 10, /* batches that one receive moves to the dead-letter queue at most */
    DEDUP_MINUTES = 5,
};

static const char *check_token(struct arena *a _unused_, const char **v)
{
    for (const char *s = *v; *s; s++)
        if (*s < '!' || *s > '~')
            return "must be printable ASCII without spaces";
    return NULL;
}

static const struct form form_token = {
    .check = check_token,
    .pattern = "^[!-~]+$",
    .example = "order-7",
};

/* clang-format off */
#define T struct message
static const struct field message_fields[] = {
    FIELD_UUID(T, id,               0, .doc = "Given by the server; stays the same over all receives."),
    FIELD_REF (T, queue_id,         queue_record, FF_VIRTUAL | FF_ALWAYS, .doc = "Queue it is in."),
    FIELD_INT (T, seq,              FF_HIDDEN, .doc = "The order of sending."),
    FIELD_UUID(T, box_id,           FF_HIDDEN, .doc = "Where it hangs."),
    FIELD_STR (T, body,             FF_CREATE | FF_REQUIRED, .min = 1, .max = 262144, .doc = "What is sent: UTF-8 text.", .example = "resize cat.png"),
    FIELD_MAP (T, attributes,       FF_CREATE, .max = 10, .doc = "Up to ten attributes.", .example = "{\"kind\":\"image\"}"),
    FIELD_STR (T, group_id,         FF_CREATE, .min = 1, .max = 128, .form = &form_token, .doc = "FIFO queues: messages of a group keep their order."),
    FIELD_STR (T, deduplication_id, FF_CREATE | FF_VIRTUAL, .min = 1, .max = 128, .form = &form_token,
                                    .doc = "A second message with it within five minutes is not sent again."),
    FIELD_INT (T, delay_seconds,    FF_CREATE | FF_VIRTUAL | FF_SECRET, .min = 0, .max = 900, .dflt = -1,
                                    .doc = "Seconds before it can be received; the queue's if left out."),
    FIELD_STR (T, receipt_handle,   FF_VIRTUAL, .doc = "Names this receive: to delete the message or to hide it longer."),
    FIELD_TIME(T, visible_at,       FF_ALWAYS, .doc = "When it can be received (again)."),
    FIELD_INT (T, received_count,   0, .doc = "How often it has been received."),
    FIELD_TIME(T, created_at,       FF_ALWAYS, .doc = "When it was sent."),
};
#undef T
/* clang-format on */
const struct record message_record =
    RECORD(message, "queue_messages", message_fields, .prefix = "msg");

struct message_batch {
    struct rows messages;
};
/* clang-format off */
static const struct field message_batch_fields[] = {
    FIELD_ROWS(struct message_batch, messages, message_record, FF_CREATE | FF_REQUIRED, .min = 1, .max = BATCH_MAX, .doc = "One to ten messages."),
};
/* clang-format on */
const struct record message_batch_record = RECORD(message_batch, NULL, message_batch_fields);

struct message_extend {
    int64_t visibility_timeout;
};
/* clang-format off */
static const struct field message_extend_fields[] = {
    FIELD_INT(struct message_extend, visibility_timeout, FF_UPDATE | FF_UPDATE_REQUIRED, .min = 0, .max = 43200,
              .doc = "Seconds from now for which it stays hidden; 0 gives it back.", .example = "60"),
};
/* clang-format on */
const struct record message_extend_record = RECORD(message_extend, NULL, message_extend_fields);

struct message_receipts {
    const char *receipt_handles;
};
/* clang-format off */
static const struct field message_receipts_fields[] = {
    FIELD_LIST(struct message_receipts, receipt_handles, FF_CREATE | FF_REQUIRED, .min = 1, .max = BATCH_MAX,
               .doc = "One to ten receipt handles.", .example = "[\"17-1\"]"),
};
/* clang-format on */
const struct record message_receipts_record =
    RECORD(message_receipts, NULL, message_receipts_fields);

struct message_result {
    const char *receipt_handle;
    bool deleted;
};
/* clang-format off */
static const struct field message_result_fields[] = {
    FIELD_STR (struct message_result, receipt_handle, FF_ALWAYS, .doc = "As it was given."),
    FIELD_BOOL(struct message_result, deleted,        0, .doc = "False: it names no message any more."),
};
/* clang-format on */
static const struct record message_result_record =
    RECORD(message_result, NULL, message_result_fields);

struct message_results {
    struct rows results;
};
/* clang-format off */
static const struct field message_results_fields[] = {
    FIELD_ROWS(struct message_results, results, message_result_record, FF_ALWAYS, .doc = "One for each handle, in their order."),
};
/* clang-format on */
const struct record message_results_record = RECORD(message_results, NULL, message_results_fields);

struct receive_query {
    int64_t count, wait, visibility_timeout;
};
/* clang-format off */
static const struct field receive_query_fields[] = {
    FIELD_INT(struct receive_query, count, FF_CREATE, .min = 1, .max = BATCH_MAX, .dflt = 1, .alias = "max_messages",
              .doc = "How many messages at most."),
    FIELD_INT(struct receive_query, wait,  FF_CREATE, .min = 0, .max = 20, .doc = "Seconds to wait for the first message."),
    FIELD_INT(struct receive_query, visibility_timeout, FF_CREATE, .min = 0, .max = 43200, .dflt = -1,
              .doc = "Seconds for which they stay hidden; the queue's if left out."),
};
/* clang-format on */
const struct record message_receive_query = RECORD(receive_query, NULL, receive_query_fields);

/* ---- sending */

static const char sql_send[] =
    "INSERT INTO queue_messages"
    " (id, box_id, body, attributes, group_id, visible_at, received_count, created_at)"
    " VALUES ($1, $2, $3, $4, $5, $6, 0, $7)";
static const char sql_counted[] = "INSERT INTO queue_counts (box_id, bucket, shard, messages)"
                                  " VALUES ($1, $2, /*lite: 0 */ /*pg: pg_backend_pid() % 8 */, $3)"
                                  " ON CONFLICT (box_id, bucket, shard) DO UPDATE"
                                  " SET messages = queue_counts.messages + excluded.messages";
static const char sql_group_has[] =
    "SELECT 1 FROM queue_messages WHERE box_id = $1 AND group_id = $2 LIMIT 1";
/* Returns a row if the id is new, or its five minutes are over.  The record has all that the first
 * answer showed, for the message itself may be received and deleted before the second one comes. */
static const char sql_dedup[] =
    "INSERT INTO queue_dedup (box_id, dedup_id, message_id, until_at, body, attributes, group_id,"
    " visible_at, created_at) VALUES ($1, $2, $3, $4, $6, $7, $8, $9, $5)"
    " ON CONFLICT (box_id, dedup_id) DO UPDATE"
    " SET message_id = excluded.message_id, until_at = excluded.until_at, body = excluded.body,"
    " attributes = excluded.attributes, group_id = excluded.group_id,"
    " visible_at = excluded.visible_at, created_at = excluded.created_at"
    " WHERE queue_dedup.until_at <= $5 RETURNING 1";
static const char sql_dedup_first[] =
    "SELECT message_id, body, attributes, group_id, visible_at, created_at"
    " FROM queue_dedup WHERE box_id = $1 AND dedup_id = $2";

/* What the tables cannot say: size against the queue's, FIFO's needs. 'at' is the field's prefix.
 */
static void message_check(struct call *c, const struct queue *q, const struct message *m,
                          const char *at)
{
    size_t size = strlen(m->body ? m->body : "") + strlen(m->attributes ? m->attributes : "");

    if ((int64_t)size > q->max_message_size)
        fault_add(c, arena_printf(c->arena, "%sbody", at), "too_long",
                  "body and attributes are %zu bytes, the queue takes %lld", size,
                  (long long)q->max_message_size);
    if (q->fifo && !m->group_id)
        fault_add(c, arena_printf(c->arena, "%sgroup_id", at), "required",
                  "is required in a FIFO queue");
    if (!q->fifo && m->group_id)
        fault_add(c, arena_printf(c->arena, "%sgroup_id", at), "not_allowed",
                  "is for FIFO queues only");
    if (q->fifo && m->delay_seconds >= 0)
        fault_add(c, arena_printf(c->arena, "%sdelay_seconds", at), "not_allowed",
                  "a FIFO queue delays all its messages alike: set the queue's delay_seconds");
}

struct first {
    struct arena *arena;
    struct message *m;
};

static int take_first(void *ctx, const struct col *cols, size_t n _unused_, struct err *e _unused_)
{
    struct first *f = ctx;

    snprintf(f->m->id.s, sizeof(f->m->id), "%s", cols[0].s ? cols[0].s : "");
    if (!cols[1].s)
        return 0; /* of a release that kept the id alone */
    f->m->body = arena_strdup(f->arena, cols[1].s);
    f->m->attributes = cols[2].s ? arena_strdup(f->arena, cols[2].s) : NULL;
    f->m->group_id = cols[3].s ? arena_strdup(f->arena, cols[3].s) : NULL;
    f->m->visible_at = cols[4].i;
    f->m->created_at = cols[5].i;
    return 0;
}

/* True if the id is taken; then 'm' is the first message, as its sender was answered. */
static int message_seen(struct call *c, const struct queue *q, struct message *m, bool *seen,
                        struct err *e)
{
    struct first first = { c->arena, m };
    int64_t fresh;

    *seen = false;
    if (!m->deduplication_id)
        return 0;
    TRY(db_int(c->db, sql_dedup,
               ARGS(A(&q->box_id), A(m->deduplication_id), A(&m->id),
                    A(c->now + MINUTES(DEDUP_MINUTES)), A(c->now), A(m->body), A(m->attributes),
                    A(m->group_id), A(m->visible_at)),
               0, &fresh, e));
    if (fresh)
        return 0;
    *seen = true;
    return db_each(c->db, sql_dedup_first, ARGS(A(&q->box_id), A(m->deduplication_id)), take_first,
                   &first, e);
}

int message_counted(struct call *c, const struct uuid *box, int64_t created_at, int64_t n,
                    struct err *e)
{
    if (n > 0)
        call_signal(c, box->s);
    return n ? db_exec(c->db, sql_counted, ARGS(A(box), A(queue_bucket(created_at)), A(n)), e) : 0;
}

/* 'sent' counts those that are there now and were not before. */
static int message_put(struct call *c, const struct queue *q, struct message *m, int64_t *sent,
                       struct err *e)
{
    int64_t delay = m->delay_seconds >= 0 ? m->delay_seconds : q->delay_seconds, waits = 0;
    bool seen;

    uuid_new(app_clock(c->app), &m->id);
    m->queue_id = q->id;
    m->created_at = c->now;
    m->visible_at = c->now + SECONDS(delay);
    TRY(message_seen(c, q, m, &seen, e));
    if (seen)
        return 0;
    if (q->fifo)
        TRY(db_int(c->db, sql_group_has, ARGS(A(&q->box_id), A(m->group_id)), 0, &waits, e));
    (*sent)++;
    return db_exec(c->db, sql_send,
                   ARGS(A(&m->id), A(&q->box_id), A(m->body), A(m->attributes), A(m->group_id),
                        A(waits ? QUEUE_BEHIND : m->visible_at), A(c->now)),
                   e);
}

/* FIFO queues keep their order by taking turns on the queue's row; others share it. */
bool queue_takes_turns(const void *queue)
{
    return ((const struct queue *)queue)->fifo;
}

int message_send(struct call *c, struct err *e)
{
    struct message *m = c->in;
    const struct queue *q = c->parent;
    int64_t sent = 0;

    message_check(c, q, m, "");
    TRY(call_faults(c, e));
    TRY(message_put(c, q, m, &sent, e));
    TRY(message_counted(c, &q->box_id, c->now, sent, e));
    return reply_row(c, &message_record, m);
}

int message_send_batch(struct call *c, struct err *e)
{
    const struct message_batch *in = c->in;
    size_t n = in->messages.n;
    struct message *m = arena_new_n(c->arena, struct message, n);
    const struct queue *q = c->parent;
    int64_t sent = 0;

    memcpy(m, in->messages.v, n * sizeof(*m)); /* each run begins with what was sent */
    for (size_t i = 0; i < n; i++)
        message_check(c, q, &m[i], arena_printf(c->arena, "messages[%zu].", i));
    TRY(call_faults(c, e));
    for (size_t i = 0; i < n; i++)
        TRY(message_put(c, q, &m[i], &sent, e));
    TRY(message_counted(c, &q->box_id, c->now, sent, e));
    return reply_rows(c, &message_record, &(struct rows){ m, n });
}

/* ---- receiving */

static const char sql_receive[] =
    "WITH due AS (SELECT seq FROM queue_messages"
    "              WHERE box_id = $1 AND visible_at <= $2 AND created_at > $5"
    "              ORDER BY visible_at, seq LIMIT $4 /*pg: FOR UPDATE SKIP LOCKED */)"
    " UPDATE queue_messages"
    "    SET visible_at = $3, received_count = queue_messages.received_count + 1"
    "  WHERE seq IN (SELECT seq FROM due)"
    " RETURNING @";
static const char sql_next_due[] = "SELECT min(visible_at) FROM queue_messages WHERE box_id = $1"
                                   " AND visible_at > $2";
/* With a number of its own, so that the first of a group is always the one that came first; and no
 * old receipt handle fits it. */
static const char sql_to_dead[] =
    "INSERT INTO queue_messages"
    " (id, box_id, body, attributes, group_id, visible_at, received_count, created_at)"
    " SELECT id, $2, body, attributes, group_id, $3, 0, created_at FROM queue_messages"
    " WHERE seq = $1";
static const char sql_next[] =
    "UPDATE queue_messages SET visible_at ="
    " CASE WHEN created_at + $5 > $3 THEN created_at + $5 ELSE $3 END"
    " WHERE visible_at = $4 AND seq ="
    " (SELECT min(seq) FROM queue_messages WHERE box_id = $1 AND group_id = $2)";
static const char sql_drop[] = "DELETE FROM queue_messages WHERE seq = $1";
/* The dead-letter queue may be another project's; that it is the tenant's was seen to when it was
 * named. */
static const char sql_dead_fifo[] = "SELECT @ FROM queues WHERE id = $1 /*pg: FOR UPDATE */";
static const char sql_dead[] = "SELECT @ FROM queues WHERE id = $1 /*pg: FOR SHARE */";

static int by_seq(const void *a, const void *b)
{
    const struct message *x = a, *y = b;

    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

int message_next(struct call *c, const struct queue *q, const char *group, struct err *e)
{
    int64_t came = 0;

    if (!group)
        return 0;
    TRY(db_exec_n(
        c->db, sql_next,
        ARGS(A(&q->box_id), A(group), A(c->now), A(QUEUE_BEHIND), A(SECONDS(q->delay_seconds))),
        &came, e));
    if (came)
        call_signal(c, q->box_id.s);
    return 0;
}

static int message_drop(struct call *c, const struct queue *q, const struct message *m,
                        struct err *e)
{
    TRY(db_exec(c->db, sql_drop, ARGS(A(m->seq)), e));
    TRY(message_counted(c, &q->box_id, m->created_at, -1, e));
    return message_next(c, q, m->group_id, e);
}

/* A message that was received too often goes to the dead-letter queue. */
static int message_to_dead(struct call *c, const struct queue *q, const struct message *m,
                           struct err *e)
{
    struct queue dead;
    int64_t waits = 0;

    TRY(db_one(c->db, c->arena, &queue_record, q->fifo ? sql_dead_fifo : sql_dead,
               ARGS(A(&q->dead_letter_queue_id)), &dead, e));
    if (dead.fifo && m->group_id)
        TRY(db_int(c->db, sql_group_has, ARGS(A(&dead.box_id), A(m->group_id)), 0, &waits, e));
    TRY(db_exec(c->db, sql_to_dead,
                ARGS(A(m->seq), A(&dead.box_id), A(waits ? QUEUE_BEHIND : c->now)), e));
    TRY(message_counted(c, &dead.box_id, m->created_at, 1, e));
    return message_drop(c, q, m, e);
}

/* One batch: what is due is hidden until 'hidden'; what was received too often is moved instead. */
static int receive_some(struct call *c, const struct queue *q, int64_t hidden, struct message *out,
                        size_t *n, size_t want, bool *moved, struct err *e)
{
    bool has_dead = !uuid_is_nil(&q->dead_letter_queue_id);
    int64_t oldest = queue_oldest(q, c->now);
    struct rows got;

    *moved = false;
    TRY(db_query(c->db, c->arena, &message_record, sql_receive,
                 ARGS(A(&q->box_id), A(c->now), A(hidden), A((int64_t)(want - *n)),
                      A(q->fifo ? (int64_t)0 : oldest)),
                 &got, e));
    for (size_t i = 0; i < got.n; i++) {
        struct message *m = &((struct message *)got.v)[i];

        /* A FIFO group whose first message is past its retention does not wait for the sweep. */
        bool expired = m->created_at <= oldest;
        if (expired || (has_dead && m->received_count > q->max_receives)) {
            TRY(expired ? message_drop(c, q, m, e) : message_to_dead(c, q, m, e));
            *moved = true;
            call_keep(c); /* its place has changed, also if this one waits on */
            continue;
        }
        m->queue_id = q->id;
        m->receipt_handle =
            arena_printf(c->arena, "%lld-%lld", (long long)m->seq, (long long)m->received_count);
        out[(*n)++] = *m;
    }
    return 0;
}

/* Nothing to hand out: waits for a message, or for the next hidden one to come back; no longer than
 * a moment where more than one run can move goes over. */
static int receive_wait(struct call *c, const struct queue *q, int64_t wait, bool moved,
                        struct err *e)
{
    int64_t end = c->parked_until ? c->parked_until : c->now + SECONDS(wait), next = c->now;

    if (!moved)
        TRY(db_int(c->db, sql_next_due, ARGS(A(&q->box_id), A(c->now)), QUEUE_BEHIND, &next, e));
    return call_park(c, q->box_id.s, end, MIN(end, next));
}

int message_receive(struct call *c, struct err *e)
{
    const struct receive_query *want = c->query;
    struct message *out = arena_new_n(c->arena, struct message, BATCH_MAX);
    const struct queue *q = c->parent;
    size_t n = 0;
    bool moved = true;

    /* Also with a timeout of 0 it is hidden from this call's own next batch. */
    int64_t hide = want->visibility_timeout >= 0 ? want->visibility_timeout : q->visibility_timeout;
    int64_t hidden = c->now + MAX(SECONDS(hide), (int64_t)1);
    for (int i = 0; moved && n < (size_t)want->count && i < DEAD_ROUNDS; i++)
        TRY(receive_some(c, q, hidden, out, &n, (size_t)want->count, &moved, e));
    if (n == 0 && want->wait > 0 && (!c->parked_until || c->now < c->parked_until))
        return receive_wait(c, q, want->wait, moved, e);
    if (n > 1)
        qsort(out, n, sizeof(*out), by_seq);
    return reply_rows(c, &message_record, &(struct rows){ out, n });
}

/* ---- by receipt handle */

static bool handle_parse(struct str s, int64_t *seq, int64_t *count)
{
    const char *dash = s.n ? memchr(s.p, '-', s.n) : NULL;

    if (!dash)
        return false;
    size_t at = (size_t)(dash - s.p);
    return int_parse((struct str){ s.p, at }, 1, INT64_MAX, seq) &&
           int_parse((struct str){ dash + 1, s.n - at - 1 }, 1, INT64_MAX, count);
}

static const char sql_delete[] =
    "DELETE FROM queue_messages WHERE seq = $1 AND box_id = $2 AND received_count = $3"
    " RETURNING created_at, group_id";
static const char sql_hidden[] =
    "SELECT visible_at FROM queue_messages"
    " WHERE seq = $1 AND box_id = $2 AND received_count = $3 AND visible_at > $4"
    " /*pg: FOR UPDATE */";
static const char sql_extend[] =
    "UPDATE queue_messages SET visible_at = $2 WHERE seq = $1 RETURNING @";

static int no_such_receipt(struct err *e)
{
    return err_set(e, ERR_NOT_FOUND,
                   "no such receipt: the message is deleted, or was received again since");
}

static int not_hidden(struct err *e)
{
    return err_set(e, ERR_NOT_FOUND,
                   "no such receipt: the message is deleted, or its timeout was over already");
}

struct gone {
    struct arena *arena;
    bool found;
    int64_t created_at;
    const char *group;
};

static int take_gone(void *ctx, const struct col *cols, size_t n _unused_, struct err *e _unused_)
{
    struct gone *g = ctx;

    g->found = true;
    g->created_at = cols[0].i;
    g->group = cols[1].s ? arena_strdup(g->arena, cols[1].s) : NULL;
    return 0;
}

static int delete_one(struct call *c, const struct queue *q, struct str handle, bool *found,
                      struct err *e)
{
    int64_t seq, count;
    struct gone gone = { .arena = c->arena };

    *found = false;
    if (!handle_parse(handle, &seq, &count))
        return 0;
    TRY(db_each(c->db, sql_delete, ARGS(A(seq), A(&q->box_id), A(count)), take_gone, &gone, e));
    *found = gone.found;
    if (!*found)
        return 0;
    TRY(message_counted(c, &q->box_id, gone.created_at, -1, e));
    return message_next(c, q, gone.group, e);
}

int message_delete(struct call *c, struct err *e)
{
    const struct queue *q = c->parent;
    bool found;

    TRY(delete_one(c, q, str_of(call_param(c, "receipt_handle")), &found, e));
    if (!found)
        return no_such_receipt(e);
    return reply_deleted(c, "message deleted");
}

/* Answers which were deleted and which were not found: a batch is not all or nothing. */
int message_delete_batch(struct call *c, struct err *e)
{
    const struct message_receipts *in = c->in;
    const struct queue *q = c->parent;
    struct texts handles;

    if (!texts_read(c->arena, in->receipt_handles, &handles))
        return err_cause(e, ERR_INTERNAL, in->receipt_handles, "internal error");
    struct message_result *all = arena_new_n(c->arena, struct message_result, handles.n);
    for (size_t i = 0; i < handles.n; i++) {
        all[i].receipt_handle = handles.v[i];
        TRY(delete_one(c, q, str_of(handles.v[i]), &all[i].deleted, e));
    }
    struct message_results out = { { all, handles.n } };
    return reply_row(c, &message_results_record, &out);
}

int message_extend(struct call *c, struct err *e)
{
    const struct message_extend *in = c->in;
    int64_t until = c->now + SECONDS(in->visibility_timeout), seq, count, hidden;
    const struct queue *q = c->parent;
    struct rows got;

    if (!handle_parse(str_of(call_param(c, "receipt_handle")), &seq, &count))
        return no_such_receipt(e);
    TRY(db_int(c->db, sql_hidden, ARGS(A(seq), A(&q->box_id), A(count), A(c->now)), 0, &hidden, e));
    if (!hidden)
        return not_hidden(e);
    TRY(db_query(c->db, c->arena, &message_record, sql_extend, ARGS(A(seq), A(until)), &got, e));
    struct message *m = got.v;
    m->queue_id = q->id;
    m->receipt_handle = call_param(c, "receipt_handle");
    if (until < hidden)
        call_signal(c, q->box_id.s);
    return reply_row(c, &message_record, m);
}
