/* SPDX-License-Identifier: Apache-2.0 */
/* Proves a tenant's chain: each block against the one before and its signature, each entry in the
 * journal against its block.  Ends at the first that is not what it was. */
#include "core/loop/chain.h"

#include "core/request/request.h"

enum { VERIFY_ENTRIES = 50000 }; /* in one request, about */

struct block {
    int64_t number, last_seq;
    const struct chain_entry *entries;
    size_t n;
    char hash[65], signature[65];
};
struct verify {
    struct call *c;
    struct audit_proof *out;
    struct arena arena; /* of a block */
    int64_t swept_seq;  /* entries up to here are gone, rightly */
    struct block block;
    size_t at;   /* the entry that comes next */
    bool astray; /* a row is not the next entry: is that one further behind? */
};

static int fails(struct audit_proof *out, const char *reason, const char *id)
{
    out->valid = false;
    out->reason = reason;
    if (id)
        snprintf(out->broken.s, sizeof(out->broken.s), "%.*s", CHAIN_ID, id);
    return 0;
}

/* ---- the entries of a block */

static bool is_id(const struct chain_entry *x, const struct col *c)
{
    return x && c->s && c->n == CHAIN_ID && memcmp(x->id, c->s, CHAIN_ID) == 0;
}

static bool in_block(const struct block *b, const struct col *id)
{
    for (size_t i = 0; i < b->n; i++)
        if (is_id(&b->entries[i], id))
            return true;
    return false;
}

static bool entry_holds(struct verify *v, const struct col *c, const struct chain_entry *x)
{
    struct chain_entry now;

    chain_entry_make(v->c->app, c, NULL, &now);
    if (memcmp(now.digest, x->digest, sizeof(now.digest)) == 0)
        return true;
    if (!chain_entry_impersonal(c))
        return false;
    chain_entry_make(v->c->app, c, x->personal, &now);
    if (memcmp(now.digest, x->digest, sizeof(now.digest)) != 0)
        return false;
    v->out->redacted++;
    return true;
}

/* What c[4] and c[5] are: chain.h. */
static void proved(struct audit_proof *out, const struct col *c)
{
    snprintf(out->last.s, sizeof(out->last.s), "%s", c[4].s);
    int_parse((struct str){ c[CHAIN_AT].s, c[CHAIN_AT].n }, 0, INT64_MAX, &out->to);
    if (!out->records++) {
        out->first = out->last;
        out->from = out->to;
    }
}

static int take_entry(void *ctx, const struct col *c, size_t n _unused_, struct err *e)
{
    struct verify *v = ctx;
    const struct block *b = &v->block;
    const struct chain_entry *next = v->at < b->n ? &b->entries[v->at] : NULL;

    if (v->astray) {
        if (!is_id(next, &c[4]))
            return 0;
        v->out->reason = "moved";
        return err_set(e, ERR_NONE, "enough");
    }
    if (next && is_id(next, &c[4])) {
        if (entry_holds(v, c, next)) {
            proved(v->out, c);
            v->at++;
            return 0;
        }
        fails(v->out, "changed", next->id);
        return err_set(e, ERR_NONE, "enough");
    }
    if (!next || !in_block(b, &c[4])) {
        fails(v->out, "added", c[4].s);
        return err_set(e, ERR_NONE, "enough");
    }
    v->astray = true;
    return fails(v->out, "missing", next->id);
}

static const char sql_entries[] =
    "SELECT " CHAIN_COLUMNS " FROM journal WHERE tenant_id = $1 AND seq > $2 AND seq <= $3"
    " AND outcome IS NOT NULL ORDER BY seq";

/* What stands in the journal behind the block before, up to 'to'. */
static int entries_hold(struct verify *v, int64_t to, struct err *e)
{
    struct audit_proof *out = v->out;

    v->astray = false;
    for (v->at = 0; v->at < v->block.n; v->at++)
        if (chain_entry_seq(&v->block.entries[v->at]) > v->swept_seq)
            break;
    if (db_each(v->c->db, sql_entries,
                ARGS(A(&v->c->tenant), A(MAX(out->head_seq, v->swept_seq)), A(to)), take_entry, v,
                e) < 0)
        return out->valid ? -1 : 0;
    if (out->valid && v->at < v->block.n)
        return fails(out, "missing", v->block.entries[v->at].id);
    return 0;
}

/* ---- blocks */

static int take_block(void *ctx, const struct col *c, size_t n _unused_, struct err *e _unused_)
{
    struct verify *v = ctx;
    struct block *b = &v->block;

    b->number = c[0].i;
    b->last_seq = c[1].i;
    b->n = c[2].n / sizeof(struct chain_entry);
    b->entries = (const struct chain_entry *)arena_dup(&v->arena, c[2].s, c[2].n);
    snprintf(b->hash, sizeof(b->hash), "%s", c[3].s);
    snprintf(b->signature, sizeof(b->signature), "%s", c[4].s);
    return 0;
}

static bool block_holds(struct verify *v)
{
    const struct block *b = &v->block;
    const char *tenant = v->c->tenant.s;
    char hash[65], signature[65];

    chain_hash(tenant, b->number, v->out->head_hash,
               (struct blob){ b->entries, b->n * sizeof(*b->entries) }, hash);
    chain_sign_block(v->c->app, tenant, b->number, hash, signature);
    return b->number == v->out->head_number + 1 && b->n > 0 && strcmp(hash, b->hash) == 0 &&
           strcmp(signature, b->signature) == 0 &&
           chain_entry_seq(&b->entries[b->n - 1]) == b->last_seq;
}

/* .block.n 0: there is no further one. */
static int block_next(struct verify *v, struct err *e)
{
    struct audit_proof *out = v->out;
    struct block *b = &v->block;

    arena_reset(&v->arena, KIB(64));
    *b = (struct block){ 0 };
    TRY(db_each(v->c->db,
                "SELECT number, last_seq, entries, hash, signature FROM core_audit_block"
                " WHERE tenant_id = $1 AND number > $2 ORDER BY number LIMIT 1",
                ARGS(A(&v->c->tenant), A(out->head_number)), take_block, v, e));
    if (!b->number)
        return 0;
    if (!block_holds(v))
        return fails(out, "chain", b->n ? b->entries[0].id : NULL);
    TRY(entries_hold(v, b->last_seq, e));
    if (!out->valid)
        return 0;
    out->head_number = b->number;
    out->head_seq = b->last_seq;
    memcpy(out->head_hash, b->hash, sizeof(out->head_hash));
    return 0;
}

static int take_hash(void *ctx, const struct col *c, size_t n _unused_, struct err *e _unused_)
{
    snprintf(ctx, 65, "%s", c[0].s);
    return 0;
}

static int take_anchor(void *ctx, const struct col *c, size_t n _unused_, struct err *e _unused_)
{
    struct verify *v = ctx;
    struct audit_proof *out = v->out;
    char signature[65];

    out->anchored = true;
    out->anchor_number = c[0].i;
    snprintf(out->anchor_hash, sizeof(out->anchor_hash), "%s", c[1].s);
    v->swept_seq = c[2].i;
    out->anchor_at = c[3].i;
    chain_sign_anchor(v->c->app, v->c->tenant.s, c[0].i, out->anchor_hash, c[2].i, c[3].i,
                      signature);
    if (strcmp(signature, c[4].s) != 0)
        fails(out, "anchor", NULL);
    return 0;
}

static int begin(struct verify *v, int64_t number, int64_t seq, struct err *e)
{
    struct audit_proof *out = v->out;

    TRY(db_each(v->c->db,
                "SELECT number, hash, swept_seq, swept_at, signature FROM core_audit_anchor"
                " WHERE tenant_id = $1",
                ARGS(A(&v->c->tenant)), take_anchor, v, e));
    if (number > out->anchor_number) {
        out->head_number = number;
        out->head_seq = seq;
        return db_each(v->c->db,
                       "SELECT hash FROM core_audit_block WHERE tenant_id = $1 AND number = $2",
                       ARGS(A(&v->c->tenant), A(number)), take_hash, out->head_hash, e);
    }
    out->head_number = out->anchor_number;
    memcpy(out->head_hash, out->anchor_hash, sizeof(out->head_hash));
    return 0;
}

/* Behind the last block: what the chainer has passed over, and what it has not had yet. */
static int rest(struct verify *v, struct err *e)
{
    int64_t chained;

    TRY(db_int(v->c->db, "SELECT seq FROM core_cursor WHERE consumer = $1",
               ARGS(A(audit_chain.name)), 0, &chained, e));
    v->block = (struct block){ 0 };
    TRY(entries_hold(v, chained, e));
    return db_int(v->c->db,
                  "SELECT COUNT(*) FROM journal WHERE tenant_id = $1 AND seq > $2"
                  " AND outcome IS NOT NULL",
                  ARGS(A(&v->c->tenant), A(chained)), 0, &v->out->pending, e);
}

int chain_verify(struct call *c, int64_t number, int64_t seq, struct audit_proof *out,
                 struct err *e)
{
    struct verify v = { .c = c, .out = out, .arena = ARENA(MIB(4)) };
    int rc;

    *out = (struct audit_proof){ .valid = true };
    rc = begin(&v, number, seq, e);
    while (rc == 0 && out->valid) {
        rc = block_next(&v, e);
        if (rc == 0 && out->valid && !v.block.number) {
            rc = rest(&v, e);
            break;
        }
        out->more = rc == 0 && out->valid && out->records >= VERIFY_ENTRIES;
        if (out->more)
            break;
    }
    arena_free(&v.arena);
    return rc;
}
