/* SPDX-License-Identifier: Apache-2.0 */
/* What stands for a request: its key, and the print of what it asks by which a retry is told from
 * another request under the same key. */
#include <sodium.h>

#include "core/request/request.h"

enum { PRINT_HALF = (PRINT_HEX - 1) / 2, DRAIN = 16384 };

struct idem_body {
    crypto_hash_sha256_state sum;
};

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
    return arena_printf(p->c.arena, "rid:%s:%.32s", u.s, p->idem.print);
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
    hex_encode(sum, sizeof(sum), p->idem.print);
    if (p->c.route->body != BODY_RAW)
        return;
    memset(p->idem.print + PRINT_HALF, '0', PRINT_HALF);
    p->idem.body = arena_new(p->c.arena, struct idem_body);
    crypto_hash_sha256_init(&p->idem.body->sum);
}

void idem_body_read(struct call_private *p, const void *bytes, size_t n)
{
    uint8_t sum[32];

    if (p->body_over)
        return;
    p->body_over = n == 0;
    if (!p->idem.body)
        return;
    if (n) {
        crypto_hash_sha256_update(&p->idem.body->sum, bytes, n);
        return;
    }
    crypto_hash_sha256_final(&p->idem.body->sum, sum);
    hex_encode(sum, PRINT_HALF / 2, p->idem.print + PRINT_HALF);
}

int body_end(struct call *c, struct err *e)
{
    struct call_private *p = c->p;
    char *piece = arena_alloc(c->arena, DRAIN);
    ssize_t n = p->body_over ? 0 : 1;

    while (n > 0)
        n = body_read(c, piece, DRAIN, e);
    return (int)n;
}

bool idem_same(const struct call_private *p, const char *print)
{
    /* Of a raw body that has not been read: all but the body. */
    size_t n = p->idem.body && !p->body_over ? PRINT_HALF : PRINT_HEX - 1;

    return strncmp(print, p->idem.print, n) == 0;
}

const char *idem_scope(struct arena *a, const struct principal *who)
{
    const char *text = arena_printf(a, "%s/%s/%s", who->key_id.s, who->user_id.s, who->tenant_id.s);
    uint8_t sum[16];

    crypto_generichash(sum, sizeof(sum), (const uint8_t *)text, strlen(text), NULL, 0);
    return base64_encode(a, sum, sizeof(sum), true);
}

int idem_header(struct call_private *p, struct err *e)
{
    const struct route_info *info = p->mount->info;
    struct str s = http1_header(http_req_head(p->r), "idempotency-key");

    if (!info->keyed || !p->auth.authenticated)
        return 0;
    if (!s.p && info->route->method != POST)
        return 0;
    if (s.p) {
        TRY(key_text(p, s, &p->idem.key, e));
        fingerprint(p);
    } else {
        struct str id = http1_header(http_req_head(p->r), "x-request-id");

        if (!id.p)
            return 0;
        fingerprint(p);
        p->idem.key = key_of_request_id(p);
    }
    if (!p->idem.key)
        return 0;
    p->idem.scope = idem_scope(p->c.arena, &p->who);
    return 1;
}
