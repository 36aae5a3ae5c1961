/* SPDX-License-Identifier: Apache-2.0 */
/* What may leave at all.  URLs are read by the same parser that sends them: two that disagree about
 * where the host ends are how such rules are passed. */
#include "codec/text.h"
#include "http/outgoing_impl.h"

enum { MAX_URL = 8192, MAX_NAME = 253, MAX_HEADER = 8192, MOST_RETRY = 366 * 86400 };

const char *outgoing_word(enum outgoing_end end)
{
    static const char *const words[] = {
#define X(symbol, word, code) word,
        OUTGOING_ENDS(X)
#undef X
    };

    return words[end];
}

bool outgoing_listed(const struct ip *ip, const struct cidr *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (cidr_contains(&list[i], ip))
            return true;
    return false;
}

bool outgoing_allowed(const struct ip *ip, const struct cidr *allowed, size_t n_allowed)
{
    return outgoing_listed(ip, allowed, n_allowed) || ip_is_public(ip);
}

/* ---- URLs */

/* An address, or a name of letters, digits, '-' and '_' between dots. */
static int read_host(const char *text, struct outgoing_place *out, struct err *e)
{
    struct str s = str_of(text);
    bool dot = true;

    if (s.n > 2 && s.p[0] == '[' && s.p[s.n - 1] == ']')
        s = (struct str){ s.p + 1, s.n - 2 };
    if (s.n > MAX_NAME)
        return err_set(e, ERR_INVALID, "the host of the URL is longer than %d bytes", MAX_NAME);
    snprintf(out->host, sizeof(out->host), STR_FMT, STR_ARG(s));
    if (ip_parse(s, &out->ip))
        return 0;
    for (char *c = out->host; *c; c++) {
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c + ('a' - 'A'));
        bool fine = (*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') || *c == '-' || *c == '_';
        if (!fine && (*c != '.' || dot))
            return err_set(e, ERR_INVALID,
                           "the host of the URL is no name in ASCII (\"xn--…\" where it is none)");
        dot = *c == '.';
    }
    if (dot)
        return err_set(e, ERR_INVALID, "the host of the URL is empty, or ends with a dot");
    return 0;
}

static int why_not(CURLUcode rc, struct err *e)
{
    switch (rc) {
    case CURLUE_USER_NOT_ALLOWED:
        return err_set(e, ERR_INVALID, "the URL has credentials: put them into a header");
    case CURLUE_UNSUPPORTED_SCHEME:
    case CURLUE_BAD_SCHEME:
        return err_set(e, ERR_INVALID, "the URL is not of http or https");
    case CURLUE_BAD_PORT_NUMBER:
        return err_set(e, ERR_INVALID, "the port of the URL is not one of 1 to 65535");
    default:
        return err_set(e, ERR_INVALID, "the URL is malformed");
    }
}

static int read_place(CURLU *u, struct outgoing_place *out, struct err *e)
{
    char *scheme = NULL, *host = NULL, *port = NULL, *zone = NULL;
    int64_t number;
    int rc = -1;

    curl_url_get(u, CURLUPART_SCHEME, &scheme, 0);
    curl_url_get(u, CURLUPART_HOST, &host, 0);
    curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT);
    curl_url_get(u, CURLUPART_ZONEID, &zone, 0);
    if (!scheme || (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0))
        why_not(CURLUE_BAD_SCHEME, e);
    else if (!host || zone)
        why_not(CURLUE_MALFORMED_INPUT, e);
    else if (!port || !int_parse(str_of(port), 1, 65535, &number))
        why_not(CURLUE_BAD_PORT_NUMBER, e);
    else if ((rc = read_host(host, out, e)) == 0)
        out->port = (int)number;
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_free(zone);
    return rc;
}

int outgoing_read_url(const char *url, struct outgoing_place *out, struct err *e)
{
    struct outgoing_place at = { 0 };

    TRY(curl_start(e));
    if (!url || strlen(url) > MAX_URL)
        return err_set(e, ERR_INVALID, "the URL is missing or longer than %d bytes", MAX_URL);
    for (const char *c = url; *c; c++)
        if ((unsigned char)*c <= ' ' || *c == 0x7f || *c == '\\')
            return err_set(e, ERR_INVALID, "the URL has a character that must be escaped");
    /* curl takes one slash, or three, for two. */
    const char *colon = strchr(url, ':');
    if (!colon || strncmp(colon, "://", 3) != 0 || colon[3] == '/')
        return err_set(e, ERR_INVALID,
                       "the URL does not begin with http:// or https:// and a host");
    at.url = curl_url();
    if (!at.url)
        abort();
    CURLUcode rc = curl_url_set(at.url, CURLUPART_URL, url, CURLU_DISALLOW_USER);
    if (rc != CURLUE_OK ? why_not(rc, e) : read_place(at.url, &at, e)) {
        curl_url_cleanup(at.url);
        return -1;
    }
    *out = at;
    return 0;
}

int outgoing_check_url(const char *url, const struct cidr *allowed, size_t n_allowed, struct err *e)
{
    struct outgoing_place at;

    TRY(outgoing_read_url(url, &at, e));
    curl_url_cleanup(at.url);
    if (at.ip.family && !outgoing_allowed(&at.ip, allowed, n_allowed))
        return err_set(e, ERR_INVALID, "the URL leads to no public address");
    return 0;
}

/* ---- headers */

static bool is_token(const char *s)
{
    static const char marks[] = "!#$%&'*+-.^_`|~";

    if (!*s)
        return false;
    for (; *s; s++)
        if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') ||
              strchr(marks, *s)))
            return false;
    return true;
}

int outgoing_check_method(const char *method, struct err *e)
{
    if (!method || !is_token(method) || strlen(method) > 32)
        return err_set(e, ERR_INVALID, "the method is malformed");
    if (strcasecmp(method, "CONNECT") == 0 || strcasecmp(method, "TRACE") == 0)
        return err_set(e, ERR_INVALID, "the method %s is not for URLs of tenants", method);
    return 0;
}

int outgoing_check_header(const char *name, const char *value, struct err *e)
{
    static const char *const ours[] = {
        "host",   "connection",        "keep-alive", "proxy-connection", "proxy-authenticate",
        "te",     "trailer",           "upgrade",    "content-length",   "proxy-authorization",
        "expect", "transfer-encoding",
    };

    if (!is_token(name) || strlen(name) > 256)
        return err_set(e, ERR_INVALID, "the name of a header is malformed");
    for (size_t i = 0; i < ARRAY_LEN(ours); i++)
        if (strcasecmp(name, ours[i]) == 0)
            return err_set(e, ERR_INVALID, "the header %s is set by the connection itself",
                           ours[i]);
    if (strlen(value) > MAX_HEADER)
        return err_set(e, ERR_INVALID, "the header %s is longer than %d bytes", name, MAX_HEADER);
    for (const char *c = value; *c; c++)
        if (((unsigned char)*c < ' ' && *c != '\t') || *c == 0x7f)
            return err_set(e, ERR_INVALID, "the header %s has a line end or a control character",
                           name);
    return 0;
}

/* ---- Retry-After */

static int month_of(const char *name)
{
    static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

    for (int i = 0; i < 12; i++)
        if (memcmp(names + i * 3, name, 3) == 0)
            return i + 1;
    return 0;
}

static bool read_date(const char *text, int64_t now, int64_t *out)
{
    char month[4] = "", iso[64], today[TIME_TEXT];
    int year, day, h, m, s, end = 0;

    if (sscanf(text, "%*3[A-Za-z], %2d %3[A-Za-z] %4d %2d:%2d:%2d GMT%n", &day, month, &year, &h,
               &m, &s, &end) != 6 ||
        !end) {
        end = 0;
        if (sscanf(text, "%*[A-Za-z], %2d-%3[A-Za-z]-%2d %2d:%2d:%2d GMT%n", &day, month, &year, &h,
                   &m, &s, &end) == 6 &&
            end) {
            /* Two digits that would lie over fifty years ahead are of the last century. */
            time_format(now, today);
            int this_year = (today[0] - '0') * 1000 + (today[1] - '0') * 100 +
                            (today[2] - '0') * 10 + today[3] - '0';
            year += this_year / 100 * 100;
            year -= year > this_year + 50 ? 100 : 0;
        } else if (sscanf(text, "%*3[A-Za-z] %3[A-Za-z] %2d %2d:%2d:%2d %4d%n", month, &day, &h, &m,
                          &s, &year, &end) != 6 ||
                   !end) {
            return false;
        }
    }
    if (text[end] || !month_of(month))
        return false;
    snprintf(iso, sizeof(iso), "%04d-%02d-%02dT%02d:%02d:%02dZ", year, month_of(month), day, h, m,
             MIN(s, 59)); /* a leap second */
    return time_parse(str_of(iso), out);
}

int64_t outgoing_retry_after(struct str value, int64_t now)
{
    char text[64];
    int64_t at;

    if (value.n == 0 || value.n >= sizeof(text))
        return -1;
    snprintf(text, sizeof(text), STR_FMT, STR_ARG(value));
    if (strspn(text, "0123456789") == value.n)
        return int_parse(value, 0, MOST_RETRY, &at) ? at : MOST_RETRY;
    if (!read_date(text, now, &at))
        return -1;
    return at <= now ? 0 : MIN((at - now + 999999) / 1000000, (int64_t)MOST_RETRY);
}
