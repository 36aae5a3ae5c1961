/* SPDX-License-Identifier: Apache-2.0 */
/* Idempotency keys (contracts 3): which requests run at this moment, and what earlier ones
 * answered. The record is a part of the write's own journal row.  On SQLite one process owns the
 * store: what keys there are is kept in memory and only the answer is read; on PostgreSQL a unique
 * index and an advisory lock decide. */
#include <sodium.h>

#include "base/log.h"
#include "core/private.h"

struct record_known {
    int64_t seq, until;
    char print[PRINT_HEX];
};
struct idem {
    pthread_mutex_t lock;
    size_t most;
    struct map *running;
    struct map *known; /* of struct record_known: SQLite */
};

struct idem *idem_new(size_t max)
{
    struct idem *i = calloc(1, sizeof(*i));

    if (!i)
        abort();
    pthread_mutex_init(&i->lock, NULL);
    i->most = max;
    i->running = map_new();
    i->known = map_new();
    return i;
}

void idem_free(struct idem *i)
{
    const void *key;
    size_t at = 0, n;
    void *v;

    if (!i)
        return;
    while (map_next(i->known, &at, &key, &n, &v))
        free(v);
    map_free(i->known);
    map_free(i->running);
    pthread_mutex_destroy(&i->lock);
    free(i);
}

/* What a record is known by: 32 bytes. */
static void record_name(const char *scope, const char *key, uint8_t out[32])
{
    char text[600];
    int n = snprintf(text, sizeof(text), "%s\n%s", scope, key);

    sha256(text, MIN((size_t)n, sizeof(text) - 1), out);
}

static void remember(struct idem *i, const char *scope, const char *key, int64_t seq,
                     const char *print, int64_t until)
{
    struct record_known *k = calloc(1, sizeof(*k));
    uint8_t name[32];

    if (!k)
        abort();
    *k = (struct record_known){ .seq = seq, .until = until };
    snprintf(k->print, sizeof(k->print), "%s", print);
    record_name(scope, key, name);
    pthread_mutex_lock(&i->lock);
    free(map_set(i->known, name, sizeof(name), k));
    pthread_mutex_unlock(&i->lock);
}

static int load_one(void *ctx, const struct col *c, size_t n, struct err *e _unused_)
{
    if (n == 5 && c[1].s && c[2].s && c[3].s)
        remember(ctx, c[1].s, c[2].s, c[0].i, c[3].s, c[4].i);
    return 0;
}

int idem_load(struct app *app, struct err *e)
{
    if (app->postgres)
        return 0;
    struct db *db = store_reader(app->store, e);
    if (!db)
        return -1;
    int rc = db_each(db,
                     "SELECT seq, idem_scope, idem_key, idem_print, idem_until FROM journal"
                     " WHERE idem_key IS NOT NULL AND idem_until > $1",
                     ARGS(A(clock_wall(app->clock))), load_one, app->idem, e);
    store_reader_back(app->store, db);
    return rc;
}

void idem_forget(struct app *app, int64_t now)
{
    struct idem *i = app->idem;
    const void *key;
    size_t at = 0, n;
    void *v;

    pthread_mutex_lock(&i->lock);
    while (map_next(i->known, &at, &key, &n, &v)) {
        struct record_known *k = v;

        if (k->until <= now)
            free(map_del(i->known, key, n));
    }
    pthread_mutex_unlock(&i->lock);
}

/* ---- the header */

/* A structured-field string, or the bare token that most clients send. */
static int key_text(struct call_private *p, struct str s, const char **out, struct err *e)
{
    char *text = arena_alloc(p->c.arena, s.n + 1);
    size_t n = 0;
    bool quoted = s.n >= 2 && s.p[0] == '"' && s.p[s.n - 1] == '"';

    for (size_t i = quoted; i < s.n - quoted; i++) {
        char ch = s.p[i];

        if (quoted && ch == '\\' && i + 1 < s.n - 1 && (s.p[i + 1] == '"' || s.p[i + 1] == '\\'))
            ch = s.p[++i];
        else if (ch == '"' || (quoted && ch == '\\'))
            n = 256; /* refused below */
        if (ch < 0x20 || ch > 0x7e)
            n = 256;
        if (n > 255)
            break;
        text[n++] = ch;
    }
    if (n < 1 || n > 255) {
        fault_add(&p->c, "Idempotency-Key", "malformed",
                  "must be 1 to 255 printable characters, quoted or not");
        return call_faults(&p->c, e);
    }
    *out = text;
    return 0;
}

/* 001: a version 4 X-Request-Id counts as the key of a new resource. */
static const char *key_of_request_id(struct call_private *p)
{
    const struct http_head *h = http_req_head(p->r);
    const char *path = p->mount->info->route->path;
    struct str id = http1_header(h, "x-request-id");
    struct uuid u;
    bool v1 = h->path.n >= 4 && memcmp(h->path.p, "/v1/", 4) == 0;
    bool v2 = h->path.n >= 4 && memcmp(h->path.p, "/v2/", 4) == 0;

    if (h->method != POST || (!v1 && !v2) ||
        (strcmp(path, "/resources") != 0 && strcmp(path, "/data") != 0) || !id.p ||
        !uuid_parse(id, &u) || u.s[14] != '4')
        return NULL;
    return arena_printf(p->c.arena, "rid:%s:%.32s", u.s, p->idem_print);
}

static void fingerprint(struct call_private *p)
{
    const struct http_head *h = http_req_head(p->r);
    crypto_hash_sha256_state s;
    uint8_t sum[32];
    struct str part[] = { h->method_text, h->path, h->query, str_of(p->version ? p->version : ""),
                          p->raw_body };

    crypto_hash_sha256_init(&s);
    for (size_t i = 0; i < ARRAY_LEN(part); i++) {
        uint64_t n = part[i].n;

        crypto_hash_sha256_update(&s, (const uint8_t *)&n, sizeof(n));
        crypto_hash_sha256_update(&s, (const uint8_t *)part[i].p, part[i].n);
    }
    crypto_hash_sha256_final(&s, sum);
    hex_encode(sum, sizeof(sum), p->idem_print);
}

int idem_header(struct call_private *p, struct err *e)
{
    const struct route_info *info = p->mount->info;
    struct str s = http1_header(http_req_head(p->r), "idempotency-key");

    if (!info->keyed || !p->authenticated)
        return 0;
    if (!s.p && info->route->method != POST)
        return 0;
    if (s.p) {
        TRY(key_text(p, s, &p->idem_key, e));
        fingerprint(p);
    } else {
        struct str id = http1_header(http_req_head(p->r), "x-request-id");

        if (!id.p)
            return 0;
        fingerprint(p);
        p->idem_key = key_of_request_id(p);
    }
    if (!p->idem_key)
        return 0;
    p->idem_scope =
        arena_printf(p->c.arena, "%s/%s/%s", p->who.key_id.s, p->who.user_id.s, p->who.tenant_id.s);
    return 1;
}

/* ---- the record */

bool idem_kept(enum err_code code)
{
    int status = err_status(code);

    return code == ERR_NONE || code == ERR_QUOTA_EXCEEDED || status == 500 ||
           (status == 409 && code != ERR_IDEMPOTENCY_IN_PROGRESS);
}

static struct str bound_to(struct call_private *p)
{
    return str_of(arena_printf(p->c.arena, "%s\n%s", p->idem_scope, p->idem_key));
}

/* Status, type, tag, headers, an empty line, the body: sealed, for it may hold a secret shown once.
 */
const char *idem_pack(struct call_private *p)
{
    struct buf b = BUF(MIB(72));

    buf_printf(&b, "%d %d\n%s\n%s\n", p->status, (int)p->code,
               p->content_type ? p->content_type : "", p->etag ? p->etag : "");
    for (const struct reply_header *h = p->headers; h; h = h->next)
        buf_printf(&b, "%s: %s\n", h->name, h->value);
    buf_puts(&b, "\n");
    buf_put(&b, p->body.p, p->body.n);
    const char *s = keyring_seal(p->c.app->keys, p->c.arena, buf_str(&b), bound_to(p));
    if (b.p)
        sodium_memzero(b.p, b.n);
    buf_free(&b);
    return s;
}

static struct str line_of(struct str *s)
{
    const char *nl = s->n ? memchr(s->p, '\n', s->n) : NULL;
    struct str line = { s->p, nl ? (size_t)(nl - s->p) : s->n };
    size_t used = line.n + (nl ? 1 : 0);

    s->p += used;
    s->n -= used;
    return line;
}

static int unpack(struct call_private *p, const char *sealed, struct err *e)
{
    struct arena *a = p->c.arena;
    struct str s, line;
    int64_t status = 0, code = 0;

    TRY(keyring_unseal(p->c.app->keys, a, sealed, bound_to(p), &s, e));
    line = line_of(&s);
    const char *space = line.n ? memchr(line.p, ' ', line.n) : NULL;
    if (!space || !int_parse((struct str){ line.p, (size_t)(space - line.p) }, 100, 599, &status) ||
        !int_parse((struct str){ space + 1, (size_t)(line.p + line.n - space - 1) }, 0, 1000,
                   &code))
        return err_cause(e, ERR_INTERNAL, "an idempotency record is damaged", "internal error");
    p->headers = NULL;
    p->headers_end = &p->headers;
    p->status = (int)status;
    p->code = (enum err_code)code;
    line = line_of(&s);
    p->content_type = line.n ? arena_dup(a, line.p, line.n) : NULL;
    line = line_of(&s);
    p->etag = line.n ? arena_dup(a, line.p, line.n) : NULL;
    while (s.n && (line = line_of(&s)).n) {
        const char *colon = memchr(line.p, ':', line.n);

        if (colon && colon + 2 <= line.p + line.n)
            reply_header(&p->c, arena_dup(a, line.p, (size_t)(colon - line.p)),
                         arena_dup(a, colon + 2, (size_t)(line.p + line.n - colon - 2)));
    }
    p->body = s;
    p->replied = p->replay = true;
    return 0;
}

static int reused(struct err *e)
{
    return err_set(e, ERR_IDEMPOTENCY_KEY_REUSED,
                   "This Idempotency-Key was used with another request");
}

static int in_progress(struct err *e)
{
    return err_set(e, ERR_IDEMPOTENCY_IN_PROGRESS,
                   "The first request with this Idempotency-Key is still running");
}

struct found {
    struct call_private *p;
    const char *print, *answer;
    int64_t until;
};

static int found_row(void *ctx, const struct col *c, size_t n _unused_, struct err *e _unused_)
{
    struct found *f = ctx;

    f->print = arena_strdup(f->p->c.arena, c[0].s);
    f->answer = arena_strdup(f->p->c.arena, c[1].s);
    f->until = c[2].i;
    return 0;
}

static int replay_seq(struct call_private *p, struct db *db, int64_t seq, struct err *e)
{
    struct found f = { .p = p };

    TRY(db_read_round(db, e));
    TRY(db_each(db, "SELECT idem_print, idem_answer, idem_until FROM journal WHERE seq = $1",
                ARGS(A(seq)), found_row, &f, e));
    if (!f.answer)
        return err_cause(e, ERR_INTERNAL, "an idempotency record has gone", "internal error");
    TRY(unpack(p, f.answer, e));
    return 1;
}

int idem_begin(struct call_private *p, struct db *db, struct err *e)
{
    struct idem *i = p->c.app->idem;
    uint8_t name[32];
    int64_t seq = 0;
    int rc = 0;

    record_name(p->idem_scope, p->idem_key, name);
    pthread_mutex_lock(&i->lock);
    struct record_known *k = map_get(i->known, name, sizeof(name));
    if (map_get(i->running, name, sizeof(name)))
        rc = in_progress(e);
    else if (k && k->until > p->c.now && strcmp(k->print, p->idem_print) != 0)
        rc = reused(e);
    else if (k && k->until > p->c.now)
        seq = k->seq;
    else if (!k && map_count(i->known) >= i->most)
        rc = err_set(e, ERR_OVERLOADED, "Too many idempotency keys are remembered");
    else {
        map_set(i->running, name, sizeof(name), i);
        p->idem_held = true;
    }
    pthread_mutex_unlock(&i->lock);
    return seq ? replay_seq(p, db, seq, e) : rc;
}

static const char sql_record[] =
    "SELECT idem_print, idem_answer, idem_until FROM journal"
    " WHERE idem_scope = $1 AND idem_key = $2 AND idem_key IS NOT NULL";

int idem_seen_pg(struct call_private *p, struct db *db, struct err *e)
{
    struct found f = { .p = p };

    TRY(db_each(db, sql_record, ARGS(A(p->idem_scope), A(p->idem_key)), found_row, &f, e));
    if (!f.answer || f.until <= p->c.now)
        return 0;
    if (strcmp(f.print, p->idem_print) != 0)
        return reused(e);
    TRY(unpack(p, f.answer, e));
    return 1;
}

int idem_begin_pg(struct call_private *p, struct db *db, struct err *e)
{
    struct found f = { .p = p };
    uint8_t name[32];
    int64_t number, got;

    record_name(p->idem_scope, p->idem_key, name);
    memcpy(&number, name, sizeof(number));
    TRY(db_int(db, "SELECT CASE WHEN pg_try_advisory_xact_lock($1) THEN 1 ELSE 0 END",
               ARGS(A(number)), 0, &got, e));
    if (!got)
        return in_progress(e);
    TRY(db_each(db, sql_record, ARGS(A(p->idem_scope), A(p->idem_key)), found_row, &f, e));
    if (!f.answer)
        return 0;
    if (f.until <= p->c.now)
        return db_exec(db,
                       "UPDATE journal SET idem_scope = NULL, idem_key = NULL, idem_print = NULL,"
                       " idem_answer = NULL, idem_until = NULL"
                       " WHERE idem_scope = $1 AND idem_key = $2",
                       ARGS(A(p->idem_scope), A(p->idem_key)), e);
    if (strcmp(f.print, p->idem_print) != 0)
        return reused(e);
    TRY(unpack(p, f.answer, e));
    return 1;
}

void idem_committed(struct call_private *p)
{
    struct app *app = p->c.app;

    if (!p->idem_seq || app->postgres)
        return;
    remember(app->idem, p->idem_scope, p->idem_key, p->idem_seq, p->idem_print,
             p->c.now + HOURS(app->config->idempotency_hours));
    p->idem_seq = 0;
}

void idem_end(struct call_private *p)
{
    struct idem *i = p->c.app->idem;
    uint8_t name[32];

    if (!p->idem_held)
        return;
    p->idem_held = false;
    record_name(p->idem_scope, p->idem_key, name);
    pthread_mutex_lock(&i->lock);
    map_del(i->running, name, sizeof(name));
    pthread_mutex_unlock(&i->lock);
}
