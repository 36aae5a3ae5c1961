/* SPDX-License-Identifier: Apache-2.0 */
/* A line is put together on the stack and leaves by one write(2), so lines of many threads and
 * roles on one descriptor never mix, and logging allocates nothing.  Every value passes
 * put_escaped(), the one place that decides what may stand in a line. */
#include "base/log.h"

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

static void put_escaped(struct line *l, const char *s, size_t n)
{
    size_t i = 0, end = MIN(n, (size_t)VALUE_MAX);

    while (i < end) {
        size_t whole, prefix = credential_at(s + i, n - i, &whole);

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

static void write_line(const struct line *l)
{
    size_t done = 0;

    while (done < l->n) {
        ssize_t n = write(STDERR_FILENO, l->p + done, l->n - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* nobody reads the log: nowhere to say so */
        done += (size_t)n;
    }
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
    write_line(&l);
    errno = was;
}

void log_err(enum log_level level, const char *event, const struct err *e)
{
    log_event(level, event, L_STR("code", err_wire(e->code)), L_STR("message", e->msg),
              L_STR("cause", e->cause));
}
