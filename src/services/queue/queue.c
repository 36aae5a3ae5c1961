/* SPDX-License-Identifier: Apache-2.0 */
/* Queues: what they are and how long their messages stay.  The messages are in queue_message.c.
 *
 * Purging and deleting a queue of a million messages must not hold the writer: messages hang on a
 * box, the queue points to its box, and a box that no queue points to any more is emptied by the
 * reconciler. */
#include "codec/id.h"
#include "services/queue/queue_private.h"

extern const struct migration queue_migrations[];

enum { SWEEP_ROWS = 500 }; /* a visit deletes at most this many at a time: about a millisecond */

static const struct enum_name queue_status_names[] = { { QUEUE_ACTIVE, "ACTIVE" }, { 0 } };

/* clang-format off */
#define T struct queue
static const struct field queue_fields[] = {
    OWNED_FIELDS(T),
    FIELD_STR (T, name,               FF_CREATE | FF_REQUIRED | FF_FILTER | FF_SORT, .min = 1, .max = 64, .form = &form_name,
                                      .doc = "Unique within the tenant."),
    FIELD_ENUM(T, status,             enum queue_status, FF_FILTER, .names = queue_status_names, .doc = "ACTIVE."),
    FIELD_BOOL(T, fifo,               FF_CREATE | FF_FILTER,
                                      .doc = "Messages of a group are received in order, one receiver at a time."),
    FIELD_INT (T, visibility_timeout, FF_CREATE | FF_UPDATE, .min = 0, .max = 43200, .dflt = 30,
                                      .doc = "Seconds for which a received message stays hidden."),
    FIELD_INT (T, delay_seconds,      FF_CREATE | FF_UPDATE, .min = 0, .max = 900,
                                      .doc = "Seconds before a new message can be received."),
    FIELD_INT (T, retention_days,     FF_CREATE | FF_UPDATE, .min = 1, .max = 14, .dflt = 4,
                                      .doc = "Days after which a message that nobody deleted is dropped, to ten minutes."),
    FIELD_INT (T, max_message_size,   FF_CREATE | FF_UPDATE, .min = 1024, .max = 262144, .dflt = 262144,
                                      .doc = "Most bytes of a message's body and attributes."),
    FIELD_REF (T, dead_letter_queue_id, queue_record, FF_CREATE | FF_UPDATE | FF_CLEAR, .on_delete = REF_RESTRICT,
                                      .doc = "Queue that takes what was received max_receives times and never deleted."),
    FIELD_INT (T, max_receives,       FF_CREATE | FF_UPDATE, .min = 0, .max = 1000,
                                      .doc = "Receives after which a message goes to the dead-letter queue."),
    FIELD_MAP (T, tags,               FF_CREATE | FF_UPDATE | FF_CLEAR, .doc = "Labels of your own.", .example = "{\"team\":\"shop\"}"),
    FIELD_UUID(T, box_id,             FF_HIDDEN, .doc = "Where its messages hang."),
    FIELD_INT (T, depth,              FF_VIRTUAL, .doc = "Messages that wait to be received."),
    FIELD_INT (T, in_flight,          FF_VIRTUAL, .doc = "Messages received or delayed, and so hidden now."),
};
#undef T
/* clang-format on */
static const struct quota quota_queues = { "queues", { 5, 20, 200, 1000, 100000 } };
static const struct quota *const queue_quotas[] = { &quota_queues, NULL };
static int queue_count(struct call *c, void *row, struct err *e);
static int queue_fill(struct call *c, void *row, struct err *e);
const struct record queue_record =
    RECORD(queue, "queues", queue_fields, .prefix = "q", .arn_service = "queue",
           .arn_type = "queue", .quota = &quota_queues, .show = queue_count, .fill = queue_fill);

static const struct reconciler queue_sweep;

/* ---- counting */

/* What lives, and what is dead but not yet swept: by the counters, without a look at any message.
 */
static const char sql_counts[] =
    "SELECT CAST(coalesce(sum(CASE WHEN bucket >= $2 THEN messages END), 0) AS BIGINT),"
    " CAST(coalesce(sum(CASE WHEN bucket < $2 THEN messages END), 0) AS BIGINT)"
    " FROM queue_counts WHERE box_id = $1";
/* What is hidden now only the time can tell: the index (box_id, visible_at) has these side by side.
 */
static const char sql_in_flight[] = "SELECT count(*) FROM queue_messages WHERE box_id = $1"
                                    " AND visible_at > $2 AND visible_at < $3";
static const char sql_in_flight_alive[] =
    "SELECT count(*) FROM queue_messages WHERE box_id = $1"
    " AND visible_at > $2 AND visible_at < $3 AND created_at > $4";

struct counts {
    int64_t alive, expired;
};

static int take_counts(void *ctx, const struct col *cols, size_t n _unused_, struct err *e _unused_)
{
    *(struct counts *)ctx = (struct counts){ cols[0].i, cols[1].i };
    return 0;
}

static int box_counts(struct db *db, const struct queue *q, int64_t now, struct counts *out,
                      struct err *e)
{
    return db_each(db, sql_counts, ARGS(A(&q->box_id), A(queue_first_bucket(q, now))), take_counts,
                   out, e);
}

static int queue_count(struct call *c, void *row, struct err *e)
{
    struct queue *q = row;
    struct counts n = { 0 };

    TRY(box_counts(c->db, q, c->now, &n, e));
    if (n.expired)
        TRY(db_int(c->db, sql_in_flight_alive,
                   ARGS(A(&q->box_id), A(c->now), A(QUEUE_BEHIND), A(queue_oldest(q, c->now))), 0,
                   &q->in_flight, e));
    else if (n.alive)
        TRY(db_int(c->db, sql_in_flight, ARGS(A(&q->box_id), A(c->now), A(QUEUE_BEHIND)), 0,
                   &q->in_flight, e));
    q->depth = MAX(n.alive - q->in_flight, (int64_t)0);
    return 0;
}

/* ---- handlers */

/* A dead-letter queue and the number of receives come together. */
static void pair_check(struct call *c, bool dead, bool receives)
{
    if (receives && !dead)
        fault_add(c, "dead_letter_queue_id", "required", "is required with max_receives");
    if (dead && !receives)
        fault_add(c, "max_receives", "required", "must be 1 to 1000 with dead_letter_queue_id");
}

static void create_check(struct call *c)
{
    const struct queue *q = c->in;
    bool faulty = call_given(c, queue, max_receives) && !call_has(c, queue, max_receives);

    pair_check(c, call_given(c, queue, dead_letter_queue_id), faulty || q->max_receives > 0);
}

/* Both queues of a dead-letter pair are the tenant's, different, and of one kind. */
static int queue_check(struct call *c, const struct queue *q, struct err *e)
{
    struct queue dead;

    pair_check(c, !uuid_is_nil(&q->dead_letter_queue_id), q->max_receives > 0);
    if (uuid_is_nil(&q->dead_letter_queue_id))
        return call_faults(c, e);
    if (uuid_eq(&q->dead_letter_queue_id, &q->id))
        fault_add(c, "dead_letter_queue_id", "not_allowed", "must be another queue");
    TRY(call_faults(c, e));
    TRY(call_ref(c, &queue_record, "dead_letter_queue_id", &q->dead_letter_queue_id, &dead, e));
    if (dead.fifo != q->fifo)
        fault_add(c, "dead_letter_queue_id", "not_allowed",
                  "must be a %s queue too, as this one is", q->fifo ? "FIFO" : "standard");
    return call_faults(c, e);
}

static int queue_fill(struct call *c, void *row, struct err *e _unused_)
{
    struct queue *q = row;

    uuid_new(app_clock(c->app), &q->box_id);
    return 0;
}

static int queue_create(struct call *c, struct err *e)
{
    struct queue *q = c->in;

    TRY(queue_check(c, q, e));
    TRY(call_insert(c, &queue_record, q, e));
    TRY(call_due(c, &queue_sweep, &q->id, c->now + queue_sweep.every, e));
    return reply_shown(c, &queue_record, q, e);
}

static int queue_update(struct call *c, struct err *e)
{
    struct queue old, q;

    TRY(call_target(c, &queue_record, &old, e));
    q = old;
    record_copy(&queue_record, &q, c->in, c->set);
    TRY(queue_check(c, &q, e));
    if (c->set)
        TRY(call_update(c, &queue_record, &old, &q, c->set, e));
    call_signal(c, q.box_id.s); /* a longer retention gives back what is not swept yet */
    return reply_shown(c, &queue_record, &q, e);
}

static const char sql_box_dies[] =
    "INSERT INTO queue_dead_boxes (box_id, queue_id) VALUES ($1, $2)";

static int queue_delete(struct call *c, struct err *e)
{
    struct queue q;

    TRY(call_target(c, &queue_record, &q, e));
    TRY(call_delete(c, &queue_record, &q, e));
    TRY(db_exec(c->db, sql_box_dies, ARGS(A(&q.box_id), A(&q.id)), e));
    TRY(call_due(c, &queue_sweep, &q.id, c->now, e));
    call_signal(c, q.box_id.s);
    return reply_deleted(c, "queue deleted");
}

static int queue_purge(struct call *c, struct err *e)
{
    struct queue old, q;

    TRY(call_target(c, &queue_record, &old, e));
    q = old;
    uuid_new(app_clock(c->app), &q.box_id);
    TRY(db_exec(c->db, sql_box_dies, ARGS(A(&old.box_id), A(&q.id)), e));
    TRY(call_update(c, &queue_record, &old, &q, FIELD_SET(queue, box_id), e));
    TRY(call_event(c, "queue.purged", &queue_record, &q, e));
    TRY(call_due(c, &queue_sweep, &q.id, c->now, e));
    call_signal(c, old.box_id.s); /* who waits goes over to the new box */
    return reply_message(c, "queue purged");
}

/* ---- the sweep: dead boxes are emptied, messages past their retention dropped */

static const char sql_empty_box[] =
    "DELETE FROM queue_messages WHERE seq IN (SELECT seq FROM queue_messages WHERE box_id IN"
    " (SELECT box_id FROM queue_dead_boxes WHERE queue_id = $1) LIMIT $2)";
static const char sql_empty_dedup[] =
    "DELETE FROM queue_dedup WHERE box_id = $1 AND dedup_id IN"
    " (SELECT dedup_id FROM queue_dedup WHERE box_id = $1 LIMIT $2)";
static const char sql_empty_counts[] = "DELETE FROM queue_counts WHERE box_id IN"
                                       " (SELECT box_id FROM queue_dead_boxes WHERE queue_id = $1)";
/* Not a box that died only just now. */
static const char sql_forget_boxes[] =
    "DELETE FROM queue_dead_boxes WHERE queue_id = $1"
    " AND NOT EXISTS (SELECT 1 FROM queue_messages m WHERE m.box_id = queue_dead_boxes.box_id)"
    " AND NOT EXISTS (SELECT 1 FROM queue_dedup d WHERE d.box_id = queue_dead_boxes.box_id)";
static const char sql_dead_box[] =
    "SELECT min(d.box_id) FROM queue_dead_boxes d WHERE d.queue_id = $1"
    " AND EXISTS (SELECT 1 FROM queue_dedup x WHERE x.box_id = d.box_id)";
static const char sql_expire[] =
    "DELETE FROM queue_messages WHERE seq IN (SELECT seq FROM queue_messages"
    " WHERE box_id = $1 AND created_at <= $2 ORDER BY visible_at LIMIT $3) RETURNING @";
/* The queue's row is locked: nobody counts meanwhile. */
static const char sql_no_counts[] =
    "DELETE FROM queue_counts WHERE box_id = $1 AND bucket IN (SELECT bucket FROM queue_counts"
    " WHERE box_id = $1 GROUP BY bucket HAVING sum(messages) = 0)";
static const char sql_no_expired_counts[] =
    "DELETE FROM queue_counts WHERE box_id = $1 AND bucket < $2";
static const char sql_expire_dedup[] =
    "DELETE FROM queue_dedup WHERE box_id = $1 AND dedup_id IN"
    " (SELECT dedup_id FROM queue_dedup WHERE box_id = $1 AND until_at <= $2 LIMIT $3)";
static const char sql_locked[] = "SELECT @ FROM queues WHERE id = $1 /*pg: FOR UPDATE */";

struct sweep {
    const struct visit *v;
    bool more;
};

/* One statement that deletes at most SWEEP_ROWS; a full measure means that there is more. */
static int sweep_some(struct db *db, struct sweep *s, const char *sql, const struct arg *args,
                      size_t n_args, struct err *e)
{
    int64_t n;

    TRY(db_exec_n(db, sql, args, n_args, &n, e));
    s->more |= n == SWEEP_ROWS;
    return 0;
}

/* Drops what is past its retention; in a FIFO queue the next of each group comes forward.  Whether
 * and how many the counters tell, so that looking for them ends with the last one.  Where they are
 * wrong (an older release beside this one does not count) they are put right by what is found. */
static int sweep_expired(struct call *c, struct sweep *s, const struct queue *q, struct err *e)
{
    struct db *db = c->db;
    struct counts n = { 0 };
    struct rows old = { 0 };

    TRY(box_counts(db, q, s->v->now, &n, e));
    int64_t most = n.expired > 0 ? MIN(n.expired, (int64_t)SWEEP_ROWS) : SWEEP_ROWS;
    if (n.expired)
        TRY(db_query(db, s->v->arena, &message_record, sql_expire,
                     ARGS(A(&q->box_id), A(queue_oldest(q, s->v->now)), A(most)), &old, e));
    for (size_t i = 0; i < old.n; i++) {
        const struct message *m = &((struct message *)old.v)[i];

        TRY(message_counted(c, &q->box_id, m->created_at, -1, e));
        if (q->fifo)
            TRY(message_next(c, q, m->group_id, e));
    }
    s->more |= old.n == SWEEP_ROWS;
    if (n.expired && (int64_t)old.n < most)
        TRY(db_exec(db, sql_no_expired_counts,
                    ARGS(A(&q->box_id), A(queue_first_bucket(q, s->v->now))), e));
    TRY(db_exec(db, sql_no_counts, ARGS(A(&q->box_id)), e));
    return sweep_some(db, s, sql_expire_dedup,
                      ARGS(A(&q->box_id), A(s->v->now), A((int64_t)SWEEP_ROWS)), e);
}

static int sweep_dead(struct db *db, struct sweep *s, struct err *e)
{
    const struct uuid *queue = &s->v->id;
    struct uuid box = { 0 };

    TRY(sweep_some(db, s, sql_empty_box, ARGS(A(queue), A((int64_t)SWEEP_ROWS)), e));
    TRY(db_each(db, sql_dead_box, ARGS(A(queue)), take_uuid, &box, e));
    if (!uuid_is_nil(&box)) {
        TRY(db_exec(db, sql_empty_dedup, ARGS(A(&box), A((int64_t)SWEEP_ROWS)), e));
        s->more = true; /* there may be another box */
    }
    if (s->more)
        return 0;
    TRY(db_exec(db, sql_empty_counts, ARGS(A(queue)), e));
    return db_exec(db, sql_forget_boxes, ARGS(A(queue)), e);
}

static int sweep_write(struct call *c, void *arg, struct err *e)
{
    struct sweep *s = arg;
    struct rows got;

    s->more = false;
    TRY(sweep_dead(c->db, s, e));
    TRY(db_query(c->db, s->v->arena, &queue_record, sql_locked, ARGS(A(&s->v->id)), &got, e));
    return got.n ? sweep_expired(c, s, got.v, e) : 0;
}

static int queue_visit(struct visit *v, struct err *e)
{
    struct sweep s = { .v = v };

    TRY(app_write(v->app, sweep_write, &s, e));
    if (s.more)
        return visit_again(v, 0);
    return v->row ? visit_settled(v) : visit_forget(v);
}

static const struct reconciler queue_sweep = {
    .name = "queue",
    .record = &queue_record,
    .visit = queue_visit,
    .every = MINUTES(10),
    .budget = SECONDS(1),
    .backoff = { SECONDS(1), SECONDS(300) },
};
static const struct reconciler *const queue_loops[] = { &queue_sweep, NULL };

/* clang-format off */
#define Q &queue_record
#define M &message_record
#define BELOW .by_name = true, .parent = Q, .alone = queue_takes_turns
static const struct route queue_routes[] = {
    /*        path                                   action                 work   handler               in                        out   */
    { POST,   "/queues",                             "queue:create",        WRITE, queue_create,         Q,                        Q,    201, "Makes a queue.", .check = create_check },
    { GET,    "/queues",                             "queue:list",          READ,  crud_list,            NULL,                     Q,    200, "Lists queues.", .list = true },
    { GET,    "/queues/{id}",                        "queue:get",           READ,  crud_get,             NULL,                     Q,    200, "Shows one queue with its depth.", .by_name = true },
    { PATCH,  "/queues/{id}",                        "queue:update",        WRITE, queue_update,         Q,                        Q,    200, "Changes a queue.", .by_name = true },
    { DELETE, "/queues/{id}",                        "queue:delete",        WRITE, queue_delete,         NULL,                     NULL, 204, "Deletes a queue and its messages.", .by_name = true },
    { POST,   "/queues/{id}/purge",                  "queue:purge",         WRITE, queue_purge,          NULL,                     NULL, 200, "Drops all messages of a queue.", .by_name = true, .message = true },
    { POST,   "/queues/{id}/messages",               "queue:send",          WRITE, message_send,         M,                        M,    201, "Sends a message.", BELOW, .no_audit = true, .body_max = MIB(2), .cli = "queue send" },
    { GET,    "/queues/{id}/messages",               "queue:receive",       WRITE, message_receive,      NULL,                     M,    200, "Receives up to ten messages.", BELOW, .no_audit = true, .query = &message_receive_query, .cli = "queue receive", .rows = true },
    { POST,   "/queues/{id}/messages/batch",         "queue:send",          WRITE, message_send_batch,   &message_batch_record,    M,    201, "Sends up to ten messages.", BELOW, .no_audit = true, .body_max = MIB(4), .cli = "queue send-batch", .rows = true, .name = "sendMessageBatch" },
    { POST,   "/queues/{id}/messages/delete",        "queue:delete-message", WRITE, message_delete_batch, &message_receipts_record, &message_results_record, 200, "Deletes up to ten received messages.", BELOW, .no_audit = true, .cli = "queue ack-batch", .name = "deleteMessageBatch" },
    { PATCH,  "/queues/{id}/messages/{receipt_handle}", "queue:extend",     WRITE, message_extend,       &message_extend_record,   M,    200, "Changes how long a received message stays hidden.", BELOW, .no_audit = true, .cli = "queue extend" },
    { DELETE, "/queues/{id}/messages/{receipt_handle}", "queue:delete-message", WRITE, message_delete,   NULL,                     NULL, 204, "Deletes a received message.", BELOW, .no_audit = true, .cli = "queue ack" },
    { 0 },
};
/* clang-format on */

const struct service queue_service = {
    .name = "queue",
    .doc = "Message queues.",
    .migrations = queue_migrations,
    .routes = queue_routes,
    .loops = queue_loops,
    .quotas = queue_quotas,
};
