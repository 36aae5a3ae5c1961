/* SPDX-License-Identifier: Apache-2.0 */
/* The client side of whoever waits for the answer: one handle of libcurl a request.  Hides how an
 * answer is kept from being larger than allowed. */
#include "http/client.h"

#include <sys/stat.h>

#include "http/ask.h"

enum { MAX_ANSWER_HEADERS = 128, MAX_HEADERS_SIZE = 64 * 1024, ARENA_SLACK = 256 * 1024 };

struct transfer {
    struct arena *arena;
    const struct client_request *q;
    struct client_response *out;
    struct buf body;
    size_t head_size;
    bool stopped; /* by on_data */
};

static size_t on_body(char *p, size_t size, size_t n, void *ctx)
{
    struct transfer *t = ctx;

    n *= size;
    if (t->q->on_data) {
        t->stopped = t->q->on_data(t->q->ctx, (struct str){ p, n }) < 0;
        return t->stopped ? 0 : n;
    }
    buf_put(&t->body, p, n);
    return t->body.failed ? 0 : n;
}

static size_t on_header(char *p, size_t size, size_t n, void *ctx)
{
    struct transfer *t = ctx;
    struct client_response *out = t->out;

    n *= size;
    if (n > 5 && memcmp(p, "HTTP/", 5) == 0) {
        out->n_headers = 0; /* of the last answer only, not of a "100 Continue" before it */
        return n;
    }
    const char *colon = memchr(p, ':', n);
    t->head_size += n;
    if (t->head_size > MAX_HEADERS_SIZE)
        return 0;
    if (!colon || out->n_headers == MAX_ANSWER_HEADERS)
        return n;
    char *name = arena_dup(t->arena, p, (size_t)(colon - p));
    for (char *c = name; *c; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c + ('a' - 'A'));
    const char *from = colon + 1, *end = p + n;
    while (from < end && (*from == ' ' || *from == '\t'))
        from++;
    while (end > from && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' ' || end[-1] == '\t'))
        end--;
    out->headers[out->n_headers++] =
        (struct client_header){ name, arena_dup(t->arena, from, (size_t)(end - from)) };
    return n;
}

static size_t on_upload(char *p, size_t size, size_t n, void *ctx)
{
    const struct client_request *q = ctx;
    ssize_t got;

    do
        got = read(q->upload_fd, p, size * n);
    while (got < 0 && errno == EINTR);
    return got < 0 ? CURL_READFUNC_ABORT : (size_t)got;
}

/* A line that could end early would be a header of somebody else's. */
static int add_headers(const struct client_request *q, struct curl_slist **list, struct err *e)
{
    bool typed = false;

    if (strpbrk(q->method, " \r\n"))
        return err_set(e, ERR_INVALID, "the method of the request is malformed");
    for (size_t i = 0; i < q->n_headers; i++) {
        const struct client_header *h = &q->headers[i];

        if (strpbrk(h->name, "\r\n:") || strpbrk(h->value, "\r\n"))
            return err_set(e, ERR_INVALID, "a header of the request has a line end");
        ask_header(list, h->name, h->value);
        typed = typed || strcasecmp(h->name, "content-type") == 0;
    }
    /* Neither a wait for "100 Continue" nor a type that nobody named. */
    ask_without(list, "Expect");
    if (!typed)
        ask_without(list, "Content-Type");
    return 0;
}

static int set_body(CURL *c, const struct client_request *q, struct err *e)
{
    struct stat st;

    if (q->upload_fd > 0) {
        if (fstat(q->upload_fd, &st) < 0)
            return err_sys(e, errno, "fstat of a file to upload");
        curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(c, CURLOPT_READFUNCTION, on_upload);
        curl_easy_setopt(c, CURLOPT_READDATA, (void *)(uintptr_t)q);
        if (S_ISREG(st.st_mode))
            curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE,
                             (curl_off_t)(st.st_size - lseek(q->upload_fd, 0, SEEK_CUR)));
    } else if (q->body.p) {
        curl_easy_setopt(c, CURLOPT_POST, 1L);
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, q->body.p);
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body.n);
    } else if (strcmp(q->method, "HEAD") == 0) {
        curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    }
    curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, q->method);
    return 0;
}

static void set_options(CURL *c, struct transfer *t)
{
    const struct client_request *q = t->q;
    int64_t timeout = q->timeout == 0 ? SECONDS(30) : q->timeout;

    curl_easy_setopt(c, CURLOPT_URL, q->url);
    ask_defaults(c);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, 10000L);
    if (timeout > 0)
        curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)((timeout + 999) / 1000));
    if (q->ca_file)
        curl_easy_setopt(c, CURLOPT_CAINFO, q->ca_file);
    if (q->unix_socket)
        curl_easy_setopt(c, CURLOPT_UNIX_SOCKET_PATH, q->unix_socket);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
}

static int judge(struct transfer *t, CURLcode rc, const char *detail, struct err *e)
{
    const char *why = detail[0] ? detail : curl_easy_strerror(rc);

    snprintf(t->out->reason, sizeof(t->out->reason), "%s", why);
    if (t->stopped)
        return err_set(e, ERR_ENGINE_UNAVAILABLE, "the transfer was stopped");
    if (t->body.failed)
        return err_set(e, ERR_TOO_LARGE, "the answer is over %zu bytes", t->body.max);
    if (rc == CURLE_UNSUPPORTED_PROTOCOL || rc == CURLE_URL_MALFORMAT)
        return err_set(e, ERR_INVALID, "the URL cannot be used");
    if (rc == CURLE_OPERATION_TIMEDOUT)
        return err_cause(e, ERR_ENGINE_UNAVAILABLE, why, "the other side did not answer in time");
    return err_cause(e, ERR_ENGINE_UNAVAILABLE, why, "the other side could not be reached");
}

static int perform(CURL *c, struct transfer *t, struct err *e)
{
    char detail[CURL_ERROR_SIZE] = "";
    struct curl_slist *headers = NULL;
    long status = 0;
    int rc = -1;

    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, detail);
    set_options(c, t);
    if (set_body(c, t->q, e) == 0 && add_headers(t->q, &headers, e) == 0) {
        curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
        CURLcode got = curl_easy_perform(c);
        curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
        t->out->status = (int)status;
        rc = got == CURLE_OK ? 0 : judge(t, got, detail, e);
    }
    curl_slist_free_all(headers);
    return rc;
}

int client_do(struct arena *a, const struct client_request *q, struct client_response *out,
              struct err *e)
{
    size_t room = a->limit > a->used + ARENA_SLACK ? a->limit - a->used - ARENA_SLACK : 0;
    /* The answer ends up in the arena, whose limit no stranger may reach. */
    struct transfer t = { .arena = a, .q = q, .out = out };

    t.body = BUF(MIN(q->max_body ? q->max_body : MIB(16), room));

    TRY(curl_start(e));
    *out = (struct client_response){ 0 };
    out->headers = arena_new_n(a, struct client_header, MAX_ANSWER_HEADERS);
    CURL *c = curl_easy_init();
    if (!c)
        abort();
    int rc = perform(c, &t, e);
    curl_easy_cleanup(c);
    if (rc == 0)
        out->body = (struct str){ arena_dup(a, t.body.p ? t.body.p : "", t.body.n), t.body.n };
    buf_free(&t.body);
    return rc;
}

const char *client_header(const struct client_response *r, const char *name)
{
    for (size_t i = 0; i < r->n_headers; i++)
        if (strcmp(r->headers[i].name, name) == 0)
            return r->headers[i].value;
    return NULL;
}
