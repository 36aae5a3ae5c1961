/* SPDX-License-Identifier: Apache-2.0 */
/* The chainer of the audit, what its blocks are made of, and what a sweep leaves of them. */
#include "core/loop/chain.h"

#include "base/buf.h"
#include "codec/text.h"
#include "core/inside.h"
#include "core/secret/seal.h"

enum { TURN_ENTRIES = 2048, PERSONAL = 1, HASHED = 4 };

/* ---- what an entry and a block are */

/* So that no two different rows are one text: "3:abc", and "-" for nothing. */
static void put_field(struct buf *b, const struct col *c)
{
    if (!c->s) {
        buf_putc(b, '-');
        return;
    }
    buf_printf(b, "%zu:", c->n);
    buf_put(b, c->s, c->n);
}

bool chain_entry_impersonal(const struct col *c)
{
    for (int i = PERSONAL; i < HASHED; i++)
        if (c[i].s)
            return false;
    return true;
}

static void sign(struct app *app, const struct buf *b, uint8_t out[32])
{
    hmac_sha256(keyring_sign_key(app->keys), 32, b->p, b->n, out);
}

void chain_entry_make(struct app *app, const struct col *c, const uint8_t *personal,
                      struct chain_entry *out)
{
    struct buf b = BUF(MIB(1));
    uint8_t mac[32];

    for (int i = 0; i < CHAIN_SEQ; i++)
        out->seq[i] = (uint8_t)((uint64_t)c[0].i >> (8 * (CHAIN_SEQ - 1 - i)));
    memset(out->id, 0, sizeof(out->id));
    memcpy(out->id, c[HASHED].s, MIN(c[HASHED].n, sizeof(out->id)));
    if (!personal) {
        buf_puts(&b, "brume audit person\n");
        for (int i = PERSONAL; i < HASHED; i++)
            put_field(&b, &c[i]);
        sign(app, &b, mac);
        personal = mac;
    }
    memcpy(out->personal, personal, sizeof(out->personal));
    buf_clear(&b);
    for (int i = HASHED; i < CHAIN_N_COLUMNS; i++)
        put_field(&b, &c[i]);
    buf_put(&b, out->personal, sizeof(out->personal));
    sha256(b.p, b.n, out->digest);
    buf_free(&b);
}

void chain_hash(const char *tenant, int64_t number, const char *before, struct blob entries,
                char out[65])
{
    struct buf b = BUF(MIB(1));
    uint8_t h[32];

    buf_printf(&b, "brume audit\n%s\n%lld\n%s\n", tenant, (long long)number, before);
    buf_put(&b, entries.p, entries.n);
    sha256(b.p, b.n, h);
    buf_free(&b);
    hex_encode(h, sizeof(h), out);
}

void chain_sign_block(struct app *app, const char *tenant, int64_t number, const char *hash,
                      char out[65])
{
    struct buf b = BUF(KIB(1));
    uint8_t h[32];

    buf_printf(&b, "brume audit block\n%s\n%lld\n%s", tenant, (long long)number, hash);
    sign(app, &b, h);
    buf_free(&b);
    hex_encode(h, sizeof(h), out);
}

void chain_sign_anchor(struct app *app, const char *tenant, int64_t number, const char *hash,
                       int64_t swept_seq, int64_t swept_at, char out[65])
{
    struct buf b = BUF(KIB(1));
    uint8_t h[32];

    buf_printf(&b, "brume audit anchor\n%s\n%lld\n%s\n%lld\n%lld", tenant, (long long)number, hash,
               (long long)swept_seq, (long long)swept_at);
    sign(app, &b, h);
    buf_free(&b);
    hex_encode(h, sizeof(h), out);
}

/* ---- the chainer */

struct chained {
    struct uuid tenant;
    struct chain_entry entry;
};
struct chaining {
    struct app *app;
    struct chained *all;
    size_t n;
};

static int take_entry(void *ctx, const struct col *c, size_t n _unused_, struct err *e _unused_)
{
    struct chaining *w = ctx;
    struct chained *x = &w->all[w->n++];

    snprintf(x->tenant.s, sizeof(x->tenant.s), "%s", c[CHAIN_TENANT].s);
    chain_entry_make(w->app, c, NULL, &x->entry);
    return 0;
}

static int by_tenant(const void *a, const void *b)
{
    const struct chained *x = a, *y = b;
    int d = strcmp(x->tenant.s, y->tenant.s);

    return d ? d : memcmp(x->entry.seq, y->entry.seq, sizeof(x->entry.seq));
}

static int chain_read(struct turn *t, struct err *e)
{
    struct chaining *w = arena_new(t->arena, struct chaining);

    *w = (struct chaining){ .app = t->app };
    w->all = arena_new_n(t->arena, struct chained, TURN_ENTRIES);
    TRY(db_each(t->db,
                "SELECT " CHAIN_COLUMNS " FROM journal WHERE seq > $1 AND seq <= $2"
                " AND outcome IS NOT NULL AND tenant_id IS NOT NULL ORDER BY seq LIMIT $3",
                ARGS(A(t->from.seq), A(t->upto), A((int64_t)TURN_ENTRIES)), take_entry, w, e));
    t->work = w;
    t->n = w->n;
    t->to = (struct place){ t->upto, 0 };
    if (w->n == TURN_ENTRIES)
        t->to.seq = chain_entry_seq(&w->all[w->n - 1].entry);
    qsort(w->all, w->n, sizeof(*w->all), by_tenant);
    return 0;
}

struct head {
    int64_t number;
    char hash[65];
};

static int take_head(void *ctx, const struct col *c, size_t n _unused_, struct err *e _unused_)
{
    struct head *h = ctx;

    h->number = c[0].i;
    snprintf(h->hash, sizeof(h->hash), "%s", c[1].s);
    return 0;
}

static int block_add(struct call *c, const char *tenant, const struct chained *all, size_t n,
                     struct err *e)
{
    struct chain_entry *entries = arena_new_n(c->arena, struct chain_entry, n);
    struct blob bytes = { entries, n * sizeof(*entries) };
    struct head h = { 0 };
    char hash[65], signature[65];

    TRY(db_each(c->db,
                "SELECT number, hash FROM core_audit_block WHERE tenant_id = $1"
                " ORDER BY number DESC LIMIT 1",
                ARGS(A(tenant)), take_head, &h, e));
    if (!h.number)
        TRY(db_each(c->db, "SELECT number, hash FROM core_audit_anchor WHERE tenant_id = $1",
                    ARGS(A(tenant)), take_head, &h, e));
    for (size_t i = 0; i < n; i++)
        entries[i] = all[i].entry;
    chain_hash(tenant, h.number + 1, h.hash, bytes, hash);
    chain_sign_block(c->app, tenant, h.number + 1, hash, signature);
    return db_exec(c->db,
                   "INSERT INTO core_audit_block (tenant_id, number, last_seq, entries, hash,"
                   " signature) VALUES ($1, $2, $3, $4, $5, $6)",
                   ARGS(A(tenant), A(h.number + 1), A(chain_entry_seq(&entries[n - 1])), A(bytes),
                        A((const char *)hash), A((const char *)signature)),
                   e);
}

static int chain_write(struct call *c, struct turn *t, struct err *e)
{
    const struct chaining *w = t->work;
    size_t end;

    for (size_t i = 0; i < w->n; i = end) {
        for (end = i + 1; end < w->n && uuid_eq(&w->all[end].tenant, &w->all[i].tenant); end++)
            ;
        TRY(block_add(c, w->all[i].tenant.s, &w->all[i], end - i, e));
    }
    return 0;
}

const struct consumer_kind chain_kind = {
    .read = chain_read,
    .write = chain_write,
    .waiting = "outcome IS NOT NULL AND tenant_id IS NOT NULL",
};
/* It gathers, for a block costs more than an entry in it. */
const struct consumer audit_chain = {
    .name = "audit.chain",
    .kind = &chain_kind,
    .from_start = true,
    .gather = SECONDS(1),
};

/* ---- what a sweep leaves */

struct sweeping {
    struct uuid tenants[512];
    size_t n;
};

static int take_tenant(void *ctx, const struct col *c, size_t n _unused_, struct err *e)
{
    struct sweeping *s = ctx;

    if (s->n == ARRAY_LEN(s->tenants))
        return err_cause(e, ERR_INTERNAL, "a sweep is of too many rows", "internal error");
    snprintf(s->tenants[s->n++].s, sizeof(s->tenants[0].s), "%s", c[0].s);
    return 0;
}

static int anchor_move(struct call *c, const char *tenant, int64_t to, struct err *e)
{
    char signature[65];
    struct head h = { 0 };

    TRY(db_each(c->db, "SELECT number, hash FROM core_audit_anchor WHERE tenant_id = $1",
                ARGS(A(tenant)), take_head, &h, e));
    TRY(db_each(c->db,
                "SELECT number, hash FROM core_audit_block WHERE tenant_id = $1 AND last_seq <= $2"
                " ORDER BY number DESC LIMIT 1",
                ARGS(A(tenant), A(to)), take_head, &h, e));
    chain_sign_anchor(c->app, tenant, h.number, h.hash, to, c->now, signature);
    TRY(db_exec(c->db,
                "INSERT INTO core_audit_anchor (tenant_id, number, hash, swept_seq, swept_at,"
                " signature) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant_id) DO UPDATE SET"
                " number = $2, hash = $3, swept_seq = $4, swept_at = $5, signature = $6",
                ARGS(A(tenant), A(h.number), A((const char *)h.hash), A(to), A(c->now),
                     A((const char *)signature)),
                e));
    return db_exec(c->db, "DELETE FROM core_audit_block WHERE tenant_id = $1 AND number <= $2",
                   ARGS(A(tenant), A(h.number)), e);
}

int chain_anchor(struct call *c, int64_t from, int64_t to, struct err *e)
{
    struct sweeping *s = arena_new(c->arena, struct sweeping);

    s->n = 0;
    TRY(db_each(c->db,
                "SELECT DISTINCT tenant_id FROM journal WHERE seq > $1 AND seq <= $2"
                " AND outcome IS NOT NULL AND tenant_id IS NOT NULL",
                ARGS(A(from), A(to)), take_tenant, s, e));
    for (size_t i = 0; i < s->n; i++)
        TRY(anchor_move(c, s->tenants[i].s, to, e));
    return 0;
}
