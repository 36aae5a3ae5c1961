/* SPDX-License-Identifier: Apache-2.0 */
/* One request and one answer on a handle of libcurl.  Hides that curl is not told which address is
 * right: it asks for a socket for each that it wants to try, and is given none for a wrong one. */
#include "base/clock.h"
#include "http/outgoing_impl.h"
#include "os/address.h"

enum { HEAD_BYTES = 64 * 1024, IDLE_SECONDS = 60, MAX_HEADERS = 64 };

/* ---- before */

static int read_headers(struct transfer *t, const struct outgoing_request *q, struct err *e)
{
    bool typed = false, agent = false;

    if (q->n_headers > MAX_HEADERS)
        return err_set(e, ERR_INVALID, "there are more than %d headers", MAX_HEADERS);
    for (size_t i = 0; i < q->n_headers; i++) {
        const struct client_header *h = &q->headers[i];

        TRY(outgoing_check_header(h->name, h->value, e));
        ask_header(&t->headers, h->name, h->value);
        typed = typed || strcasecmp(h->name, "content-type") == 0;
        agent = agent || strcasecmp(h->name, "user-agent") == 0;
    }
    /* Neither a wait for "100 Continue" nor a type that nobody named. */
    ask_without(&t->headers, "Expect");
    if (!typed)
        ask_without(&t->headers, "Content-Type");
    if (!agent)
        ask_header(&t->headers, "User-Agent", t->rules->user_agent);
    return 0;
}

int transfer_read(struct transfer *t, const struct outgoing_request *q,
                  const struct outgoing_rules *rules, struct err *e)
{
    TRY(curl_start(e));
    t->rules = rules;
    t->retry_after = -1;
    t->keep = q->keep ? q->keep : OUTGOING_KEEP;
    t->connect = q->connect ? q->connect : SECONDS(5);
    if (t->keep > OUTGOING_MOST_KEPT || t->connect < 0 || q->timeout < 0)
        return err_set(e, ERR_INVALID, "a bound of the request is out of range");
    TRY(outgoing_check_method(q->method, e));
    TRY(read_headers(t, q, e));
    TRY(outgoing_read_url(q->url, &t->at, e));
    t->method = strdup(q->method);
    t->body = malloc(q->body.n + 1);
    if (!t->method || !t->body)
        abort();
    if (q->body.n)
        memcpy(t->body, q->body.p, q->body.n);
    t->body_n = q->body.n;
    t->answer = BUF(t->keep);
    return 0;
}

void transfer_free(struct transfer *t)
{
    if (t->easy)
        curl_easy_cleanup(t->easy);
    if (t->at.url)
        curl_url_cleanup(t->at.url);
    if (t->headers)
        curl_slist_free_all(t->headers);
    if (t->resolved)
        curl_slist_free_all(t->resolved);
    buf_free(&t->answer);
    free(t->method);
    free(t->body);
}

/* ---- on its way */

/* curl asks here for a socket for each address that it is about to connect to. */
static curl_socket_t open_socket(void *ctx, curlsocktype purpose _unused_, struct curl_sockaddr *to)
{
    struct transfer *t = ctx;
    struct ip ip;

    ip_of_sockaddr(&to->addr, &ip);
    if (!outgoing_listed(&ip, t->rules->allowed, t->rules->n_allowed) &&
        (!ip_is_public(&ip) || ip_is_own(&ip))) {
        t->refused = true;
        return CURL_SOCKET_BAD;
    }
    t->opened++;
    return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

static size_t on_body(char *p, size_t size, size_t n, void *ctx)
{
    struct transfer *t = ctx;

    n *= size;
    t->seen += n;
    buf_put(&t->answer, p, MIN(n, t->keep - t->answer.n));
    t->too_long = t->seen > MAX(t->keep, (size_t)OUTGOING_READ);
    return t->too_long ? 0 : n;
}

static size_t on_header(char *p, size_t size, size_t n, void *ctx)
{
    static const char name[] = "retry-after:";
    struct transfer *t = ctx;
    struct str value;

    n *= size;
    t->head_size += n;
    t->head_too_long = t->head_size > HEAD_BYTES;
    if (t->head_too_long)
        return 0;
    if (n > 5 && memcmp(p, "HTTP/", 5) == 0)
        t->retry_after = -1; /* of the last answer only, not of a "100 Continue" before it */
    if (n < sizeof(name) || strncasecmp(p, name, sizeof(name) - 1) != 0)
        return n;
    value = (struct str){ p + sizeof(name) - 1, n - (sizeof(name) - 1) };
    while (value.n && (*value.p == ' ' || *value.p == '\t')) {
        value.p++;
        value.n--;
    }
    while (value.n && strchr("\r\n \t", value.p[value.n - 1]))
        value.n--;
    t->retry_after = outgoing_retry_after(value, clock_wall(clock_system()));
    return n;
}

/* curl's own look-up is told its answer, so it makes none. */
static void tell_addresses(struct transfer *t, const struct ip *to, int n)
{
    struct buf line = BUF(KIB(1));
    char text[IP_TEXT];

    buf_printf(&line, "+%s:%d:", t->at.host, t->at.port);
    for (int i = 0; i < n; i++) {
        ip_format(&to[i], text);
        buf_printf(&line, to[i].family == 6 ? "%s[%s]" : "%s%s", i ? "," : "", text);
    }
    t->resolved = curl_slist_append(NULL, buf_cstr(&line));
    if (!t->resolved || line.failed)
        abort();
    buf_free(&line);
    curl_easy_setopt(t->easy, CURLOPT_RESOLVE, t->resolved);
}

static void set_what(struct transfer *t)
{
    CURL *c = t->easy;
    bool takes_body = t->body_n || strcmp(t->method, "POST") == 0 ||
                      strcmp(t->method, "PUT") == 0 || strcmp(t->method, "PATCH") == 0;

    curl_easy_setopt(c, CURLOPT_CURLU, t->at.url);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, t->headers);
    if (strcmp(t->method, "HEAD") == 0) {
        curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    } else if (takes_body) {
        curl_easy_setopt(c, CURLOPT_POST, 1L);
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, t->body);
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)t->body_n);
    }
    curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, t->method);
}

void transfer_begin(struct transfer *t, CURLSH *share, const struct ip *to, int n, int64_t left)
{
    CURL *c = t->easy = curl_easy_init();

    if (!c)
        abort();
    ask_defaults(c);
    set_what(t);
    if (n > 0)
        tell_addresses(t, to, n);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, t->detail);
    curl_easy_setopt(c, CURLOPT_SHARE, share);
    curl_easy_setopt(c, CURLOPT_MAXAGE_CONN, (long)IDLE_SECONDS);
    curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L); /* never joins a look-up of curl's */
    curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (t->rules->ca_file)
        curl_easy_setopt(c, CURLOPT_CAINFO, t->rules->ca_file);
    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)((MAX(left, 1) + 999) / 1000));
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)((t->connect + 999) / 1000));
    curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, t);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
}

/* ---- after */

void outgoing_say(struct outgoing_result *r, enum outgoing_end end, const char *fmt, ...)
{
    static const enum err_code codes[] = {
#define X(symbol, word, code) code,
        OUTGOING_ENDS(X)
#undef X
    };
    char text[sizeof(r->err.msg)];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    r->end = end;
    err_fill(&r->err, codes[end], "%s", text);
}

static void judge(const struct transfer *t, CURLcode rc, struct outgoing_result *out)
{
    const char *why = t->detail[0] ? t->detail : curl_easy_strerror(rc);
    curl_off_t ready = 0;

    switch (rc) {
    case CURLE_COULDNT_RESOLVE_HOST:
        outgoing_say(out, OUTGOING_NO_NAME, "there is no address for %.100s", t->at.host);
        break;
    case CURLE_COULDNT_CONNECT:
    case CURLE_INTERFACE_FAILED:
        if (t->refused && !t->opened)
            outgoing_say(out, OUTGOING_NOT_ALLOWED, "the URL leads to no public address");
        else
            outgoing_say(out, OUTGOING_NO_CONNECTION, "the other side takes no connection");
        break;
    case CURLE_OPERATION_TIMEDOUT:
        curl_easy_getinfo(t->easy, CURLINFO_PRETRANSFER_TIME_T, &ready);
        outgoing_say(out, OUTGOING_TIMED_OUT,
                     ready ? "no whole answer came in time" : "no connection came about in time");
        break;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_SSL_CACERT_BADFILE:
        outgoing_say(out, OUTGOING_TLS, "TLS failed: %s", why);
        break;
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
        outgoing_say(out, OUTGOING_CUT, "what the other side says is not HTTP");
        break;
    default:
        outgoing_say(out, OUTGOING_CUT, "the connection ended before the answer did");
    }
    snprintf(out->err.cause, sizeof(out->err.cause), "%.159s", why);
}

void transfer_end(struct transfer *t, CURLcode rc, struct outgoing_result *out)
{
    char *address = NULL;
    long status = 0;

    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(t->easy, CURLINFO_PRIMARY_IP, &address);
    snprintf(out->address, sizeof(out->address), "%s", address ? address : "");
    out->status = (int)status;
    out->body = buf_str(&t->answer);
    out->more = t->seen > t->answer.n;
    out->retry_after = t->retry_after;
    if (rc == CURLE_OK || t->too_long)
        out->end = OUTGOING_ANSWERED;
    else if (t->head_too_long)
        outgoing_say(out, OUTGOING_CUT, "the head of the answer is over %d bytes", HEAD_BYTES);
    else
        judge(t, rc, out);
}
