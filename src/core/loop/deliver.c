/* SPDX-License-Identifier: Apache-2.0 */
/* Deliveries as rows: how one comes to be, is shown, is begun anew, and goes. */
#include "core/loop/deliver.h"

#include "codec/id.h"

static const struct enum_name status_names[] = { { DELIVERY_PENDING, "pending" },
                                                 { DELIVERY_SUCCEEDED, "succeeded" },
                                                 { DELIVERY_FAILED, "failed" },
                                                 { DELIVERY_CANCELED, "canceled" },
                                                 { 0 } };

/* clang-format off */
#define T struct delivery
static const struct field delivery_fields[] = {
    OWNED_FIELDS(T),
    FIELD_STR (T, kind,            FF_HIDDEN, .doc = "What it is of."),
    FIELD_UUID(T, owner_id,        FF_HIDDEN, .doc = "Where it goes."),
    FIELD_STR (T, event_id,        FF_ALWAYS, .doc = "Of what is delivered: the same in every attempt."),
    FIELD_STR (T, event_type,      FF_ALWAYS | FF_FILTER, .doc = "What it tells of."),
    FIELD_STR (T, object,          FF_HIDDEN, .doc = "What its order is by."),
    FIELD_INT (T, tries,           FF_HIDDEN, .doc = "Its place in the schedule."),
    FIELD_TIME(T, begun_at,        FF_HIDDEN, .doc = "When its schedule began."),
    FIELD_ENUM(T, status, enum delivery_status, FF_ALWAYS | FF_FILTER, .names = status_names,
                                   .doc = "pending: further attempts come; failed: none does; canceled: its destination was off."),
    FIELD_INT (T, attempt_count,   FF_ALWAYS, .doc = "Attempts so far."),
    FIELD_INT (T, status_code,     FF_NULL | FF_ABSENT_NEGATIVE, .doc = "Of the last answer."),
    FIELD_TIME(T, next_attempt_at, FF_NULL, .doc = "When the next attempt is due."),
    FIELD_TIME(T, completed_at,    FF_NULL, .doc = "When it came to its end."),
    FIELD_JSON(T, payload,         FF_VIRTUAL, .doc = "What is delivered; of one delivery only.", .example = "{}"),
    FIELD_JSON(T, attempts,        FF_VIRTUAL, .example = "[]",
                                   .doc = "Every attempt: number, at, status_code, duration_ms, error, response (its first 4 KiB); of one delivery only."),
};
#undef T
/* clang-format on */
const struct record delivery_record =
    RECORD(delivery, "core_deliveries", delivery_fields, .prefix = "dlv", .hangs = true);

const struct reconciler deliver_loop = { .name = "deliver" };

/* What is the same for all rows stands first. */
#define NEW                                                                               \
    "INSERT INTO core_deliveries (id, tenant_id, project_id, mode, revision, created_at," \
    " updated_at, kind, owner_id, event_id, event_type, object, tries, begun_at, status," \
    " attempt_count, status_code, next_attempt_at, completed_at, payload, log) VALUES "
#define ROW(id, owner, project)                                                                \
    "($" id ", $1, $" project ", $2, 1, $3, $3, $4, $" owner ", $5, $6, $7, 0, $3, 'pending'," \
    " 0, -1, $3, 0, $8, '')"
static const char sql_new[] = NEW ROW("9", "10", "11");
static const char sql_new_many[] = NEW
    ROW("9", "10", "11") "," ROW("12", "13", "14") "," ROW("15", "16", "17") "," ROW("18", "19", "20") "," ROW("21", "22", "23") "," ROW(
        "24", "25",
        "26") "," ROW("27", "28",
                      "29") "," ROW("30", "31",
                                    "32") "," ROW("33", "34",
                                                  "35") "," ROW("36", "37",
                                                                "38") "," ROW("39", "40",
                                                                              "41") "," ROW("42",
                                                                                            "43",
                                                                                            "44") "," ROW("45",
                                                                                                          "46",
                                                                                                          "47") "," ROW("48",
                                                                                                                        "49",
                                                                                                                        "50") "," ROW("51",
                                                                                                                                      "52",
                                                                                                                                      "53") "," ROW("54",
                                                                                                                                                    "55",
                                                                                                                                                    "56");
enum { SAME = 8, OWN = 3 };

/* 'n' is 1 or DUE_MANY. */
static int insert(struct call *c, const struct delivery_kind *k, const struct delivery_new *x,
                  const struct delivery_to *to, size_t n, struct uuid *ids, struct err *e)
{
    struct arg args[SAME + OWN * DUE_MANY] = { A(&c->tenant),
                                               A(enum_to_str(mode_names, (int)c->who->mode)),
                                               A(c->now),
                                               A(k->name),
                                               A(x->event_id),
                                               A(x->event_type),
                                               A(x->object ? x->object : ""),
                                               A(x->body) };

    for (size_t i = 0; i < n; i++) {
        uuid_new(c->app->clock, &ids[i]);
        args[SAME + OWN * i] = A(&ids[i]);
        args[SAME + OWN * i + 1] = A(&to[i].owner);
        args[SAME + OWN * i + 2] = A(&to[i].project);
    }
    return db_exec(c->db, n == 1 ? sql_new : sql_new_many, args, SAME + OWN * n, e);
}

int deliver(struct call *c, const struct delivery_kind *k, const struct delivery_new *x,
            const struct delivery_to *to, size_t n, struct uuid *id, struct err *e)
{
    struct uuid ids[DUE_MANY];

    for (; n >= DUE_MANY; n -= DUE_MANY, to += DUE_MANY) {
        TRY(insert(c, k, x, to, DUE_MANY, ids, e));
        TRY(deliver_due(c, to, e));
    }
    for (; n; n--, to++) {
        TRY(insert(c, k, x, to, 1, ids, e));
        TRY(call_due(c, &deliver_loop, &to->owner, c->now, e));
    }
    if (id)
        *id = ids[0];
    return 0;
}

static const char sql_get[] =
    "SELECT @ FROM core_deliveries WHERE id = $1 AND owner_id = $2 AND tenant_id = $3";

int delivery_get(struct call *c, const struct uuid *owner, const struct uuid *id,
                 struct delivery *out, struct err *e)
{
    if (db_one(c->db, c->arena, &delivery_record, sql_get, ARGS(A(id), A(owner), A(&c->tenant)),
               out, e) == 0)
        return 0;
    if (e->code != ERR_NOT_FOUND)
        return -1;
    return err_set(e, ERR_NOT_FOUND, "There is no such delivery");
}

struct showing {
    struct arena *a;
    struct delivery *d;
};

static int take_texts(void *ctx, const struct col *c, size_t n _unused_, struct err *e _unused_)
{
    struct showing *s = ctx;

    s->d->payload = arena_strdup(s->a, c[0].s);
    s->d->attempts = arena_printf(s->a, "[%s]", c[1].s);
    return 0;
}

int delivery_show(struct call *c, struct delivery *d, struct err *e)
{
    struct showing s = { c->arena, d };

    return db_each(c->db, "SELECT payload, log FROM core_deliveries WHERE id = $1", ARGS(A(&d->id)),
                   take_texts, &s, e);
}

static const char sql_again[] =
    "UPDATE core_deliveries SET status = 'pending', tries = 0, begun_at = $2, next_attempt_at = $2,"
    " completed_at = 0, updated_at = $2, revision = revision + 1 WHERE id = $1 RETURNING @";

int deliver_again(struct call *c, struct delivery *d, struct err *e)
{
    TRY(db_one(c->db, c->arena, &delivery_record, sql_again, ARGS(A(&d->id), A(c->now)), d, e));
    call_changed(c, &delivery_record, &d->id);
    return call_due(c, &deliver_loop, &d->owner_id, c->now, e);
}

int deliver_well(struct call *c, const struct uuid *owner, struct err *e)
{
    TRY(db_exec(c->db, "DELETE FROM core_endpoints WHERE owner_id = $1", ARGS(A(owner)), e));
    return call_due(c, &deliver_loop, owner, c->now, e);
}

static const char sql_over[] =
    "DELETE FROM core_deliveries WHERE id IN (SELECT id FROM core_deliveries"
    " WHERE status <> 'pending' AND completed_at < $1 ORDER BY completed_at LIMIT 500)";

int deliveries_sweep(struct call *c, void *n, struct err *e)
{
    return db_exec_n(c->db, sql_over, ARGS(A(c->now - DAYS(c->app->config->deliveries_days))), n,
                     e);
}
