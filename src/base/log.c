/* SPDX-License-Identifier: Apache-2.0 */
/* A line is put together on the stack and leaves by one write(2), so lines of many threads and
 * roles on one descriptor never mix, and logging allocates nothing.  Every value passes
 * put_escaped(), the one place that decides what may stand in a line. */
#include "base/log.h"

#include <limits.h>
#include <math.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/put.h"

enum { LINE_MAX_ = 8192, VALUE_MAX = 1024, CREDENTIAL_MIN = 8 };

struct line {
    char p[LINE_MAX_];
    size_t n;
};

static struct {
    atomic_int level;
    bool json;
    char role[32];
} config = { .level = LOG_INFO, .role = "brume" };

/* Lines of this thread that have not left yet.  No more of them than a pipe takes whole. */
static _Thread_local struct {
    bool gathers;
    size_t n;
    char p[PIPE_BUF];
} waiting;

static const char *const level_names[] = { "DEBUG", "INFO", "WARN", "ERROR" };
static const char *const credentials[] = { "thecloud_", "sk_live_", "sk_test_", "cap_", "whsec_" };

void log_init(enum log_level level, bool json, const char *role)
{
    log_set_level(level);
    config.json = json;
    snprintf(config.role, sizeof(config.role), "%s", role);
}

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&config.level, (int)level, memory_order_relaxed);
}

bool log_on(enum log_level level)
{
    return (int)level >= atomic_load_explicit(&config.level, memory_order_relaxed);
}

/* What would pass the end is left out; two bytes stay for the line's own end. */
static void put(struct line *l, const char *p, size_t n)
{
    if (n > LINE_MAX_ - 2 - l->n)
        return;
    memcpy(l->p + l->n, p, n);
    l->n += n;
}

static void puts_(struct line *l, const char *s)
{
    put(l, s, strlen(s));
}

static bool is_word(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* Bytes that may be copied as they are, and those with which a credential may begin. */
enum { PLAIN = 1, BEGINS = 2 };
/* clang-format off */
static const unsigned char class_of[256] = {
    [' '] = PLAIN, ['!'] = PLAIN, ['#' ... '['] = PLAIN, [']' ... 'b'] = PLAIN, ['c'] = PLAIN | BEGINS,
    ['d' ... 'r'] = PLAIN, ['s' ... 't'] = PLAIN | BEGINS, ['u' ... 'v'] = PLAIN, ['w'] = PLAIN | BEGINS,
    ['x' ... '~'] = PLAIN,
};
/* clang-format on */

/* If a credential stands at 's': the bytes of its prefix, and of all of it in '*whole'. */
static size_t credential_at(const char *s, size_t n, size_t *whole)
{
    for (size_t i = 0; i < ARRAY_LEN(credentials); i++) {
        size_t k = strlen(credentials[i]);

        if (n < k || memcmp(s, credentials[i], k) != 0)
            continue;
        size_t end = k;
        while (end < n && is_word(s[end]))
            end++;
        if (end - k < CREDENTIAL_MIN)
            continue;
        *whole = end;
        return k;
    }
    return 0;
}

static void put_char(struct line *l, const char *s, size_t len)
{
    unsigned char c = (unsigned char)s[0];
    char esc[8];

    if (len == 0) {
        puts_(l, "\\ufffd");
    } else if (c == '"' || c == '\\') {
        put(l, (const char[]){ '\\', (char)c }, 2);
    } else if (c < 0x20 || c == 0x7f) {
        snprintf(esc, sizeof(esc), "\\u%04x", c);
        puts_(l, esc);
    } else if (len == 2 && c == 0xc2 && (unsigned char)s[1] < 0xa0) {
        snprintf(esc, sizeof(esc), "\\u%04x", (unsigned char)s[1]); /* C1 controls move terminals */
        puts_(l, esc);
    } else {
        put(l, s, len);
    }
}

/* How many bytes from 's' on need no look of their own.  Every credential has a '_'. */
static size_t plain_run(const char *s, size_t n, bool credentials_possible)
{
    unsigned stop = credentials_possible ? BEGINS : 0;
    size_t i = 0;

    while (i < n && (class_of[(unsigned char)s[i]] & (PLAIN | stop)) == PLAIN)
        i++;
    return i;
}

static void put_escaped(struct line *l, const char *s, size_t n)
{
    bool possible = n && memchr(s, '_', n);
    size_t i = 0, end = MIN(n, (size_t)VALUE_MAX);

    while (i < end) {
        size_t run = plain_run(s + i, end - i, possible), whole, prefix;

        put(l, s + i, run);
        i += run;
        if (i == end)
            break;
        prefix = possible ? credential_at(s + i, n - i, &whole) : 0;
        if (prefix) {
            put(l, s + i, prefix);
            puts_(l, "…");
            i += whole;
            continue;
        }
        size_t len = utf8_char(s + i, n - i);
        put_char(l, s + i, len);
        i += len ? len : 1;
    }
    if (i < n)
        puts_(l, "…");
}

static bool plain(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (s[i] <= ' ' || s[i] == 0x7f || s[i] == '"' || s[i] == '=' || s[i] == '\\')
            return false;
    return n > 0;
}

static void put_value(struct line *l, const struct log_field *f)
{
    char tmp[64];

    if (f->type == LOG_NUMBER) {
        put(l, tmp, put_int(tmp, f->i));
    } else if (f->type == LOG_REAL && f->d >= 0.001 && f->d < 1e9) {
        put(l, tmp, put_micro(tmp, (int64_t)(f->d * 1e6 + 0.5)));
    } else if (f->type == LOG_REAL && isfinite(f->d)) {
        snprintf(tmp, sizeof(tmp), "%.6g", f->d);
        puts_(l, tmp);
    } else if (f->type == LOG_REAL || !f->s) {
        puts_(l, config.json ? "null" : "-");
    } else {
        size_t n = strlen(f->s);
        bool quote = config.json || !plain(f->s, n);

        puts_(l, quote ? "\"" : "");
        put_escaped(l, f->s, n);
        puts_(l, quote ? "\"" : "");
    }
}

static void put_head(struct line *l, enum log_level level, const char *event)
{
    char when[PUT_TIME_LEN];

    put_time(when, clock_wall(clock_system()));
    puts_(l, config.json ? "{\"time\":\"" : "");
    put(l, when, sizeof(when));
    puts_(l, config.json ? "\",\"level\":\"" : " ");
    puts_(l, level_names[level]);
    puts_(l, config.json ? "\",\"role\":\"" : " ");
    put_escaped(l, config.role, strlen(config.role));
    puts_(l, config.json ? "\",\"event\":\"" : " ");
    put_escaped(l, event, strlen(event));
    puts_(l, config.json ? "\"" : "");
}

static void write_all(const char *p, size_t len)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = write(STDERR_FILENO, p + done, len - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* nobody reads the log: nowhere to say so */
        done += (size_t)n;
    }
}

void log_gather(void)
{
    waiting.gathers = true;
}

void log_flush(void)
{
    int was = errno;

    write_all(waiting.p, waiting.n);
    waiting.n = 0;
    errno = was;
}

static void line_out(const struct line *l, enum log_level level)
{
    if (waiting.n + l->n > sizeof(waiting.p) || level >= LOG_WARN)
        log_flush();
    if (!waiting.gathers || level >= LOG_WARN || l->n > sizeof(waiting.p)) {
        write_all(l->p, l->n);
        return;
    }
    memcpy(waiting.p + waiting.n, l->p, l->n);
    waiting.n += l->n;
}

void log_fields(enum log_level level, const char *event, const struct log_field *f, size_t n)
{
    int was = errno;
    struct line l;

    if (!log_on(level))
        return;
    l.n = 0;
    put_head(&l, level, event);
    for (size_t i = 0; i < n; i++) {
        size_t before = l.n;

        /* A field stands whole or not at all: six escaped bytes for each of its own, at most. */
        size_t most = f[i].type == LOG_STRING && f[i].s ? strnlen(f[i].s, VALUE_MAX) * 6 : 64;
        if (strlen(f[i].key) * 6 + most + 16 > LINE_MAX_ - 2 - before)
            continue;
        puts_(&l, config.json ? ",\"" : " ");
        put_escaped(&l, f[i].key, strlen(f[i].key));
        puts_(&l, config.json ? "\":" : "=");
        put_value(&l, &f[i]);
    }
    if (config.json)
        l.p[l.n++] = '}';
    l.p[l.n++] = '\n';
    line_out(&l, level);
    errno = was;
}

void log_err(enum log_level level, const char *event, const struct err *e)
{
    log_event(level, event, L_STR("code", err_wire(e->code)), L_STR("message", e->msg),
              L_STR("cause", e->cause));
}
