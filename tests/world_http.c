/* SPDX-License-Identifier: Apache-2.0 */
/* The world's client: requests by hand, answers held against their route's tables. */
#include "tests/world_private.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include "os/file.h"

enum { RING = 512 };

/* ---- speaking HTTP */

const char *fmt(const char *f, ...)
{
    static char ring[RING][4096];
    static int at;
    va_list ap;

    at = (at + 1) % RING;
    va_start(ap, f);
    vsnprintf(ring[at], sizeof(ring[at]), f, ap);
    va_end(ap);
    return ring[at];
}

static int dial(struct world *w)
{
    struct sockaddr_in to = { .sin_family = AF_INET,
                              .sin_port = htons((uint16_t)w->port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    must(fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0, "connect", NULL);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

static void send_all(int fd, const char *p, size_t n)
{
    struct err e = { 0 };

    must(fd_write_all(fd, p, n, &e) == 0, "send", &e);
}

static struct str receive_all(struct world *w, int fd)
{
    struct buf b = BUF(MIB(128));
    struct pollfd f = { .fd = fd, .events = POLLIN };

    for (;;) {
        must(poll(&f, 1, 60000) > 0, "no answer within a minute", NULL);
        char *room = buf_room(&b, KIB(64));
        ssize_t n = read(fd, room, KIB(64));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        buf_grew(&b, (size_t)n);
    }
    close(fd);
    struct str s = { arena_dup(&w->arena, b.p, b.n), b.n };
    buf_free(&b);
    return s;
}

static struct str unchunk(struct world *w, struct str in, bool *cut)
{
    struct http1_chunked c = { 0 };
    struct buf b = BUF(MIB(128));
    struct err e;

    for (;;) {
        struct str data = { NULL, 0 };
        size_t used = 0;
        enum http1_result r = http1_chunked(&c, in, &used, &data, &e);

        buf_put(&b, data.p, data.n);
        in.p += used;
        in.n -= used;
        *cut = r == HTTP1_MORE;
        if (r != HTTP1_MORE || (used == 0 && data.n == 0))
            break;
    }
    struct str s = { arena_dup(&w->arena, b.p, b.n), b.n };
    buf_free(&b);
    return s;
}

const char *header(struct reply r, const char *name)
{
    size_t n = strlen(name);

    for (const char *at = strstr(r.headers, "\r\n"); at; at = strstr(at + 2, "\r\n")) {
        const char *line = at + 2, *end = strstr(line, "\r\n");

        if (strncasecmp(line, name, n) == 0 && line[n] == ':') {
            line += n + 1;
            line += strspn(line, " ");
            return fmt("%.*s", end ? (int)(end - line) : (int)strlen(line), line);
        }
    }
    return NULL;
}

/* ---- answers against their tables */

static bool id_fits(const char *s)
{
    struct uuid u;
    char prefix[64];

    return s && (uuid_parse(str_of(s), &u) || typeid_parse(str_of(s), prefix, &u));
}

static void check_member(const struct record *r, const char *key, const struct json_value *v)
{
    const struct field *f = record_field(r, key);
    struct arena a = ARENA(MIB(4));
    int64_t t;

    if (!f && strcmp(key, "arn") == 0 && r->arn_service) {
        arena_free(&a);
        return;
    }
    if (!f || (f->flags & (FF_SECRET | FF_HIDDEN)))
        fail_msg("%s.%s is out, and its table does not say so", r->name, key);
    const char *s = json_str_of(v, NULL);
    if (json_type_of(v) == JSON_NULL) {
        arena_free(&a);
        return;
    }
    if ((f->type == F_UUID || f->type == F_REF) && !id_fits(s))
        fail_msg("%s.%s is no id: %s", r->name, key, json_text(&a, v));
    if (f->type == F_TIME && (!s || !time_parse(str_of(s), &t)))
        fail_msg("%s.%s is no time: %s", r->name, key, json_text(&a, v));
    if (f->type == F_ENUM && (!s || enum_from_str(f->names, s) < 0))
        fail_msg("%s.%s is no word of its enum: %s", r->name, key, json_text(&a, v));
    arena_free(&a);
}

static void check_object(const struct record *r, const struct json_value *v)
{
    if (json_type_of(v) != JSON_OBJ)
        fail_msg("not an object of %s", r->name);
    for (size_t i = 0; i < json_len(v); i++) {
        const char *key;
        const struct json_value *m = json_member(v, i, &key);

        check_member(r, key, m);
    }
    for (size_t i = 0; i < r->n_fields; i++)
        if ((r->fields[i].flags & (FF_ALWAYS | FF_NULL)) && !(r->fields[i].flags & FF_ONCE) &&
            !json_get(v, r->fields[i].name))
            fail_msg("%s.%s is not out, and its table says it always is", r->name,
                     r->fields[i].name);
}

/* A list, a message or an object, as the route's row says. */
static void check_shape(const struct route *t, const struct json_value *v)
{
    bool list = json_type_of(v) == JSON_ARR;

    if (list != (t->list || t->rows))
        fail_msg("%s %s: %s", method_name(t->method), t->path,
                 list ? "answers a list, and its row does not say so"
                      : "answers no list, and its row says it does");
    if (t->message && (json_len(v) != 1 || !json_get(v, "message")))
        fail_msg("%s %s answers more or less than a message", method_name(t->method), t->path);
}

static void check_error(struct reply *r)
{
    const struct json_value *v = r->json ? json_get(r->json, "error") : NULL;
    const char *type = header(*r, "Content-Type");

    if (type && strcmp(type, "application/problem+json") == 0) {
        r->code = json_str_of(json_get(r->json, "code"), NULL);
        if (!r->code || !json_get(r->json, "title") || !json_get(r->json, "status"))
            fail_msg("not a problem: %s", r->body.p);
        return;
    }
    if (!v || !json_get(v, "code") || !json_get(v, "message") || !json_get(v, "details") ||
        !json_get(v, "request_id"))
        fail_msg("status %d and no error in our shape: %s", r->status, r->body.p);
    r->code = json_str_of(json_get(v, "code"), NULL);
}

static struct seen find_seen(struct world *w, const char *request_id)
{
    struct seen s = { 0 };

    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; request_id && i < SEEN; i++)
        if (strcmp(w->seen[i].request_id, request_id) == 0)
            s = w->seen[i];
    pthread_mutex_unlock(&w->lock);
    return s;
}

static void check_reply(struct world *w, struct reply *r, enum method m)
{
    struct seen s = find_seen(w, header(*r, "X-Request-Id"));
    const struct json_value *v = r->json;

    if (r->status >= 400 && m != HEAD) {
        const char *path = s.route ? s.route->path : "";

        if (strcmp(path, "/health/ready") != 0)
            check_error(r);
        return;
    }
    if (!v)
        return;
    if (json_type_of(v) == JSON_OBJ && s.surface == PLATFORM && json_get(v, "data") &&
        json_get(v, "request_id"))
        v = json_get(v, "data");
    if (json_type_of(v) == JSON_ARR)
        r->len = json_len(v);
    r->id = json_type_of(v) == JSON_OBJ ? json_str_of(json_get(v, "id"), NULL) : NULL;
    if (s.route && m != HEAD && r->status < 300)
        check_shape(s.route, v);
    if (!s.route || !s.route->out || m == HEAD)
        return;
    if (json_type_of(v) == JSON_OBJ)
        check_object(s.route->out, v);
    for (size_t i = 0; json_type_of(v) == JSON_ARR && i < json_len(v); i++)
        check_object(s.route->out, json_at(v, i));
}

static struct reply take(struct world *w, struct str all, enum method m)
{
    struct reply r = { 0 };
    const char *end = all.n ? memmem(all.p, all.n, "\r\n\r\n", 4) : NULL;

    if (!end || all.n < 12)
        fail_msg("no answer: '%.*s'", (int)MIN(all.n, (size_t)200), all.p ? all.p : "");
    r.headers = arena_dup(&w->arena, all.p, (size_t)(end - all.p));
    r.status = (int)strtoul(all.p + 9, NULL, 10);
    r.body = (struct str){ end + 4, (size_t)(all.p + all.n - end - 4) };
    if (header(r, "Transfer-Encoding"))
        r.body = unchunk(w, r.body, &r.cut);
    const char *type = header(r, "Content-Type");
    if (type && strstr(type, "json") && r.body.n && !header(r, "Content-Encoding")) {
        struct err e;

        r.json = json_parse(r.body, &e);
        if (!r.json || w->n_trees == ARRAY_LEN(w->trees))
            fail_msg("not JSON: %s (%s)", r.body.p, e.msg);
        w->trees[w->n_trees++] = r.json;
    }
    check_reply(w, &r, m);
    return r;
}

struct reply ask_raw(struct world *w, struct str request)
{
    int fd = dial(w);

    send_all(fd, request.p, request.n);
    shutdown(fd, SHUT_WR);
    return take(w, receive_all(w, fd), GET);
}

/* 'text' with " for each ', if it begins like an object or a list written so. */
static const char *json_body(struct world *w, const char *text)
{
    if (!text || (text[0] != '{' && text[0] != '[') || text[1 + strspn(text + 1, " [{")] != '\'')
        return text;
    char *s = arena_strdup(&w->arena, text);
    for (char *p = s; *p; p++)
        if (*p == '\'')
            *p = '"';
    return s;
}

static enum method last_method;

int ask_begin(struct world *w, enum method m, const char *path, const char *key,
              const char *headers, const char *body)
{
    struct buf b = BUF(MIB(64));
    int fd = dial(w);
    bool typed = headers && strcasestr(headers, "content-type:");

    last_method = m;
    body = json_body(w, body);
    if (!key)
        key = world_key(w, AS_OWNER);
    buf_printf(&b, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n", method_name(m),
               path);
    if (*key)
        buf_printf(&b, "X-API-Key: %s\r\n", key);
    for (const char *at = headers; at && *at;) {
        size_t n = strcspn(at, "\n");

        buf_printf(&b, "%.*s\r\n", (int)n, at);
        at += n + (at[n] == '\n');
    }
    if (body)
        buf_printf(&b, "%sContent-Length: %zu\r\n",
                   typed ? "" : "Content-Type: application/json\r\n", strlen(body));
    buf_puts(&b, "\r\n");
    if (body)
        buf_puts(&b, body);
    send_all(fd, b.p, b.n);
    buf_free(&b);
    return fd;
}

struct reply ask_end(struct world *w, int fd)
{
    return take(w, receive_all(w, fd), last_method);
}

struct reply ask(struct world *w, enum method m, const char *path, const char *key,
                 const char *headers, const char *body)
{
    return ask_end(w, ask_begin(w, m, path, key, headers, body));
}

static void speaks(struct world *w, enum speaker who)
{
    pthread_mutex_lock(&w->lock);
    w->speaking = who;
    pthread_mutex_unlock(&w->lock);
}

struct reply as(struct world *w, enum speaker who, enum method m, const char *path,
                const char *body)
{
    const char *key = world_key(w, who);

    speaks(w, who);
    struct reply r = ask(w, m, path, key, NULL, body);
    speaks(w, AS_OWNER);
    return r;
}

struct reply get(struct world *w, const char *path, ...)
{
    char text[2048];
    va_list ap;

    va_start(ap, path);
    vsnprintf(text, sizeof(text), path, ap);
    va_end(ap);
    return ask(w, GET, text, NULL, NULL, NULL);
}

struct reply del(struct world *w, const char *path, ...)
{
    char text[2048];
    va_list ap;

    va_start(ap, path);
    vsnprintf(text, sizeof(text), path, ap);
    va_end(ap);
    return ask(w, DELETE, text, NULL, NULL, NULL);
}

struct reply post(struct world *w, const char *path, const char *body)
{
    return ask(w, POST, path, NULL, NULL, body);
}

struct reply put(struct world *w, const char *path, const char *body)
{
    return ask(w, PUT, path, NULL, NULL, body);
}

struct reply patch(struct world *w, const char *path, const char *body)
{
    return ask(w, PATCH, path, NULL, NULL, body);
}

/* ---- members */

static const struct json_value *member_of(struct reply r, const char *path)
{
    const struct json_value *v = r.json;

    while (v && *path) {
        char word[128];
        size_t n = strcspn(path, ".");
        int64_t i;

        snprintf(word, sizeof(word), "%.*s", (int)n, path);
        if (json_type_of(v) == JSON_ARR)
            v = int_parse(str_of(word), 0, 1000000, &i) ? json_at(v, (size_t)i) : NULL;
        else
            v = json_type_of(v) == JSON_OBJ ? json_get(v, word) : NULL;
        path += n + (path[n] == '.');
    }
    return v;
}

const char *member(struct reply r, const char *path)
{
    const struct json_value *v = member_of(r, path);
    struct arena a = ARENA(MIB(16));

    if (!v || json_type_of(v) == JSON_NULL)
        return NULL;
    if (json_type_of(v) == JSON_STR)
        return json_str_of(v, NULL);
    const char *s = fmt("%s", json_text(&a, v));
    arena_free(&a);
    return s;
}

int64_t member_int(struct reply r, const char *path)
{
    const struct json_value *v = member_of(r, path);

    if (!v || (json_type_of(v) != JSON_INT && json_type_of(v) != JSON_BOOL))
        fail_msg("no number at %s: %s", path, r.body.p ? r.body.p : "");
    return json_type_of(v) == JSON_BOOL ? json_bool_of(v) : json_int_of(v);
}
