/* SPDX-License-Identifier: Apache-2.0 */
/* The statements a connection keeps.  Texts are mostly constants, so a statement is first sought by
 * the address of its text and then by its content; the content decides in either case, for an
 * address may hold another text tomorrow. */
#include "db/driver.h"

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ (h >> 29);
}

static uint64_t key_hash(const struct stmt_key *k)
{
    uint64_t h = mix((uint64_t)k->kind + 1, (uint64_t)(uintptr_t)k->r);

    h = mix(h, k->set);
    for (const char *p = k->sql; p && *p; p++)
        h = (h ^ (unsigned char)*p) * 0x100000001b3u;
    return mix(h, 0);
}

static bool key_eq(const struct stmt_key *a, const struct stmt_key *b)
{
    return a->kind == b->kind && a->r == b->r && a->set == b->set &&
           (a->kind != STMT_TEXT || strcmp(a->sql, b->sql) == 0);
}

static size_t hint_of(const struct stmt_key *k)
{
    const void *p = k->sql ? (const void *)k->sql : (const void *)k->r;

    return mix(mix(k->set, (uint64_t)k->kind), (uint64_t)(uintptr_t)p) % DB_STATEMENTS;
}

struct stmt *stmt_find(struct stmts *c, const struct stmt_key *k)
{
    uint16_t *hint = &c->hint[hint_of(k)];

    if (*hint) {
        struct stmt *st = &c->all[*hint - 1];

        if (st->handle && key_eq(&st->key, k)) {
            st->used = ++c->tick;
            return st;
        }
    }
    uint64_t h = key_hash(k);

    for (struct stmt *st = c->chain[h % DB_STATEMENTS]; st; st = st->next) {
        if (st->hash == h && st->handle && key_eq(&st->key, k)) {
            st->used = ++c->tick;
            *hint = (uint16_t)(st - c->all + 1);
            return st;
        }
    }
    return NULL;
}

void stmt_forget(struct stmts *c, struct stmt *st)
{
    struct stmt **p = &c->chain[st->hash % DB_STATEMENTS];
    union {
        const char *in;
        char *out;
    } sql = { .in = st->key.sql };

    while (*p && *p != st)
        p = &(*p)->next;
    if (*p)
        *p = st->next;
    free(sql.out);
    memset(st, 0, sizeof(*st));
}

struct stmt *stmt_place(struct stmts *c, const struct stmt_key *k,
                        void (*drop)(void *ctx, struct stmt *st), void *ctx)
{
    struct stmt *st = NULL;

    for (size_t i = 0; i < DB_STATEMENTS; i++) {
        struct stmt *at = &c->all[i];

        if (!at->busy && (!st || at->used < st->used))
            st = at;
    }
    if (!st)
        return NULL;
    if (st->handle)
        drop(ctx, st);
    stmt_forget(c, st);
    st->key = *k;
    if (k->sql && !(st->key.sql = strdup(k->sql)))
        abort();
    st->hash = key_hash(k);
    st->used = ++c->tick;
    st->next = c->chain[st->hash % DB_STATEMENTS];
    c->chain[st->hash % DB_STATEMENTS] = st;
    return st;
}

void stmt_clear(struct stmts *c, void (*drop)(void *ctx, struct stmt *st), void *ctx)
{
    for (size_t i = 0; i < DB_STATEMENTS; i++) {
        if (c->all[i].handle && drop)
            drop(ctx, &c->all[i]);
        stmt_forget(c, &c->all[i]);
    }
    memset(c, 0, sizeof(*c));
}

static void insert_text(struct buf *out, const struct record *r)
{
    int n = 0;

    buf_printf(out, "INSERT INTO %s (", r->table);
    sql_columns(out, r, (struct str){ NULL, 0 });
    buf_puts(out, ") VALUES (");
    for (size_t i = 0; i < r->n_fields; i++)
        if (field_has_column(&r->fields[i])) {
            buf_printf(out, "%s$%d", n ? ", " : "", n + 1);
            n++;
        }
    buf_puts(out, ")");
}

static void update_text(struct buf *out, const struct record *r, uint64_t set)
{
    int n = 0;

    buf_printf(out, "UPDATE %s SET ", r->table);
    for (size_t i = 0; i < r->n_fields; i++)
        if (set >> i & 1) {
            buf_printf(out, "%s%s = $%d", n ? ", " : "", r->fields[i].name, n + 1);
            n++;
        }
    buf_printf(out, " WHERE id = $%d", n + 1);
}

void stmt_text(struct buf *out, const struct stmt_key *k, bool postgres)
{
    if (k->kind == STMT_INSERT)
        insert_text(out, k->r);
    else if (k->kind == STMT_UPDATE)
        update_text(out, k->r, k->set);
    else
        sql_render(out, k->sql, k->r, postgres);
}
