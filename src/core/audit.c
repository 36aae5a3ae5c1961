/* SPDX-License-Identifier: Apache-2.0 */
/* The audit: who did what, a part of the journal's rows, and the proof that it is as it was. */
#include "core/audit.h"

#include "core/loop/chain.h"
#include "core/request/request.h"

static const struct enum_name outcome_names[] = {
    { OUTCOME_SUCCESS, "success" },
    { OUTCOME_FAILURE, "failure" },
    { OUTCOME_DENIED, "denied" },
    { 0 },
};

struct audit {
    struct uuid id;
    int64_t timestamp;
    const char *actor, *action, *resource;
    int status;
    const char *ip_address, *request_id, *user_agent;
    int64_t seq;
};

struct audit_query {
    int64_t limit;
    const char *cursor, *action, *actor;
    int status;
    int64_t created_after, created_before;
};

struct verify_query {
    const char *cursor;
};
/* What a proof looks like: for the description only. */
struct proof_head {
    int64_t block;
    const char *hash;
    int64_t swept_at;
};
struct proof_view {
    bool valid;
    int64_t records, from, to;
    struct uuid first, last;
    const void *head, *anchor; /* struct proof_head */
    struct uuid broken;
    const char *reason;
    int64_t redacted, pending;
    const char *next_cursor;
};

/* clang-format off */
#define T struct audit
static const struct field audit_fields[] = {
    FIELD_UUID(T, id,          0,       .doc = "Of the record."),
    FIELD_TIME(T, timestamp,   FF_ALWAYS, .doc = "When it was done."),
    FIELD_STR (T, actor,       FF_NULL, .doc = "Who did it: an e-mail address or the name of a key."),
    FIELD_STR (T, action,      FF_ALWAYS, .doc = "What was done: INSTANCE_LAUNCH."),
    FIELD_STR (T, resource,    FF_NULL, .doc = "Kind and id of what it was done to."),
    FIELD_ENUM(T, status, int, 0, .names = outcome_names, .doc = "How it went."),
    FIELD_STR (T, ip_address,  FF_NULL, .doc = "Whence the request came."),
    FIELD_STR (T, request_id,  FF_ALWAYS, .doc = "Of the request."),
    FIELD_STR (T, user_agent,  FF_NULL, .doc = "What the client calls itself."),
    FIELD_INT (T, seq,         FF_HIDDEN, .doc = "Place in the journal."),
};
#undef T
#define T struct audit_query
static const struct field audit_query_fields[] = {
    FIELD_INT (T, limit,  FF_CREATE, .min = 1, .max = 500, .dflt = 50, .doc = "How many at most."),
    FIELD_STR (T, cursor, FF_CREATE, .max = 1000, .doc = "Continues an earlier list."),
    FIELD_STR (T, action, FF_CREATE, .max = 64, .doc = "Only this action."),
    FIELD_STR (T, actor,  FF_CREATE, .max = 255, .doc = "Only by this actor."),
    FIELD_ENUM(T, status, int, FF_CREATE, .names = outcome_names, .doc = "Only what went like this."),
    FIELD_TIME(T, created_after,  FF_CREATE, .doc = "Only later ones."),
    FIELD_TIME(T, created_before, FF_CREATE, .doc = "Only earlier ones."),
};
#undef T
#define T struct verify_query
static const struct field verify_query_fields[] = {
    FIELD_STR (T, cursor, FF_CREATE, .max = 1000, .doc = "Goes on where an earlier proof ended."),
};
#undef T
#define T struct proof_head
static const struct field head_fields[] = {
    FIELD_INT (T, block, FF_ALWAYS, .doc = "Its number."),
    FIELD_STR (T, hash,  FF_ALWAYS, .doc = "Its hash, over all before it."),
};
static const struct field anchor_fields[] = {
    FIELD_INT (T, block,    FF_ALWAYS, .doc = "Its number."),
    FIELD_STR (T, hash,     FF_ALWAYS, .doc = "Its hash, over all before it."),
    FIELD_TIME(T, swept_at, FF_ALWAYS, .doc = "When what lies before was swept last."),
};
static const struct record head_record = RECORD(proof_head, NULL, head_fields);
static const struct record anchor_record = RECORD(proof_head, NULL, anchor_fields);
#undef T
const struct record audit_record = RECORD(audit, NULL, audit_fields, .prefix = "aud");
const struct record audit_query_record = RECORD(audit_query, NULL, audit_query_fields);
#define T struct proof_view
static const struct field proof_fields[] = {
    FIELD_BOOL(T, valid,    FF_ALWAYS, .doc = "Whether all is as it was written."),
    FIELD_INT (T, records,  FF_ALWAYS, .doc = "Records that were proved."),
    FIELD_TIME(T, from,     FF_NULL, .doc = "When the first of them was written."),
    FIELD_TIME(T, to,       FF_NULL, .doc = "When the last of them was written."),
    FIELD_REF (T, first, audit_record, FF_NULL, .doc = "The first of them."),
    FIELD_REF (T, last,  audit_record, FF_NULL, .doc = "The last of them."),
    FIELD_ROW (T, head,   head_record,   FF_NULL, .doc = "The chain's last block that was proved: what an auditor keeps."),
    FIELD_ROW (T, anchor, anchor_record, FF_NULL, .doc = "The last block that was swept, if one was."),
    FIELD_REF (T, broken, audit_record, FF_NULL, .doc = "The first record that is not as it was."),
    FIELD_STR (T, reason,   FF_NULL, .doc = "What is wrong: changed, missing, added, moved, chain or anchor."),
    FIELD_INT (T, redacted, FF_ALWAYS, .doc = "Records whose personal fields were taken out since."),
    FIELD_INT (T, pending,  FF_ALWAYS, .doc = "Records that are too new for the chain."),
    FIELD_STR (T, next_cursor, FF_NULL, .doc = "There is more to prove: ask again with this cursor."),
};
#undef T
const struct record audit_verify_query_record = RECORD(verify_query, NULL, verify_query_fields);
const struct record audit_proof_record = RECORD(proof_view, NULL, proof_fields);
/* clang-format on */

static const char sql_audit[] =
    "SELECT id, at, actor, action,"
    " CASE WHEN object_kind IS NULL THEN NULL"
    "      WHEN object_id IS NULL THEN object_kind ELSE object_kind || '/' || object_id END,"
    " outcome, ip, request_id, user_agent, seq FROM journal"
    " WHERE tenant_id = $1 AND seq < $2 AND mode = $3 AND outcome IS NOT NULL"
    " AND at > $4 AND at < $5 AND (action = $6 OR $6 = '') AND (actor = $7 OR $7 = '')"
    " AND (outcome = $8 OR $8 = '')"
    " ORDER BY seq DESC LIMIT $9";

int audit_list(struct call *c, struct err *e)
{
    const struct audit_query *q = c->query;
    const char *outcome = q->status ? enum_to_str(outcome_names, q->status) : "";
    struct rows rows;
    int64_t seq, index;
    const char *next = NULL;

    TRY(journal_place_read(c, "audit", q->cursor, &seq, &index, e));
    TRY(db_query(c->db, c->arena, &audit_record, sql_audit,
                 ARGS(A(&c->tenant), A(seq), A(enum_to_str(mode_names, (int)c->who->mode)),
                      A(q->created_after), A(q->created_before ? q->created_before : INT64_MAX),
                      A(q->action ? q->action : ""), A(q->actor ? q->actor : ""), A(outcome),
                      A(q->limit + 1)),
                 &rows, e));
    if ((int64_t)rows.n > q->limit) {
        const struct audit *all = rows.v;

        rows.n = (size_t)q->limit;
        next = journal_place(c, "audit", all[rows.n - 1].seq, 0);
    }
    return reply_page(c, &audit_record, &rows, next);
}

/* ---- proof */

static void put_id(struct json_out *o, const char *key, const struct uuid *id)
{
    json_key(o, key);
    if (uuid_is_nil(id))
        json_null(o);
    else
        json_id(o, audit_record.prefix, id);
}

static void put_block(struct json_out *o, const char *key, int64_t number, const char *hash,
                      int64_t swept_at)
{
    json_key(o, key);
    if (!number && !swept_at) {
        json_null(o);
        return;
    }
    json_open(o, '{');
    json_kint(o, "block", number);
    json_kstr(o, "hash", hash);
    if (swept_at)
        json_ktime(o, "swept_at", swept_at);
    json_close(o);
}

int audit_verify(struct call *c, struct err *e)
{
    const struct verify_query *q = c->query;
    struct json_out *o = c->out;
    struct audit_proof p;
    int64_t number = 0, seq = 0;

    if (q->cursor)
        TRY(journal_place_read(c, "audit/verify", q->cursor, &number, &seq, e));
    TRY(chain_verify(c, number, seq, &p, e));
    json_open(o, '{');
    json_kbool(o, "valid", p.valid);
    json_kint(o, "records", p.records);
    json_ktime(o, "from", p.from);
    json_ktime(o, "to", p.to);
    put_id(o, "first", &p.first);
    put_id(o, "last", &p.last);
    put_block(o, "head", p.head_number, p.head_hash, 0);
    put_block(o, "anchor", p.anchor_number, p.anchor_hash, p.anchored ? p.anchor_at : 0);
    put_id(o, "broken", &p.broken);
    json_kstr(o, "reason", p.reason);
    json_kint(o, "redacted", p.redacted);
    json_kint(o, "pending", p.pending);
    json_kstr(o, "next_cursor",
              p.more ? journal_place(c, "audit/verify", p.head_number, p.head_seq) : NULL);
    json_close(o);
    return reply_json(c);
}
