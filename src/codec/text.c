/* SPDX-License-Identifier: Apache-2.0 */
/* Strict on purpose: each text has one reading, and what has none is refused, so that no two floors
 * understand one input differently. */
#include "codec/text.h"

#include <sodium.h>
#include <zlib.h>

#include "base/put.h"

static const char alphabet64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char alphabet64_url[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
static const char hex_digits[] = "0123456789abcdef";

char *base64_encode(struct arena *a, const void *p, size_t n, bool url)
{
    const char *abc = url ? alphabet64_url : alphabet64;
    const uint8_t *in = p;
    char *out = arena_alloc(a, (n + 2) / 3 * 4 + 1), *o = out;

    for (size_t i = 0; i < n; i += 3) {
        size_t left = n - i;
        uint32_t v = (uint32_t)in[i] << 16;

        v |= left > 1 ? (uint32_t)in[i + 1] << 8 : 0;
        v |= left > 2 ? in[i + 2] : 0;
        *o++ = abc[v >> 18];
        *o++ = abc[v >> 12 & 63];
        if (left > 1 || !url)
            *o++ = left > 1 ? abc[v >> 6 & 63] : '=';
        if (left > 2 || !url)
            *o++ = left > 2 ? abc[v & 63] : '=';
    }
    return out;
}

static int value64(char c, bool url)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == (url ? '-' : '+'))
        return 62;
    return c == (url ? '_' : '/') ? 63 : -1;
}

void *base64_decode(struct arena *a, struct str s, bool url, size_t *n)
{
    if (!url) {
        if (s.n % 4)
            return NULL;
        for (int pad = 0; pad < 2 && s.n && s.p[s.n - 1] == '='; pad++)
            s.n--;
    }
    if (s.n % 4 == 1)
        return NULL;
    uint8_t *out = arena_alloc(a, s.n / 4 * 3 + 3);
    size_t at = 0;
    uint32_t bits = 0;
    unsigned have = 0;

    for (size_t i = 0; i < s.n; i++) {
        int v = value64(s.p[i], url);

        if (v < 0)
            return NULL;
        bits = (bits << 6 | (uint32_t)v) & 0xffff;
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[at++] = (uint8_t)(bits >> have);
        }
    }
    if (bits & ((1u << have) - 1))
        return NULL; /* bits past the last byte: a second spelling of the same bytes */
    *n = at;
    return out;
}

void hex_encode(const void *p, size_t n, char *out)
{
    const uint8_t *in = p;

    for (size_t i = 0; i < n; i++) {
        out[2 * i] = hex_digits[in[i] >> 4];
        out[2 * i + 1] = hex_digits[in[i] & 15];
    }
    out[2 * n] = '\0';
}

bool hex_decode(struct str s, void *out, size_t n)
{
    uint8_t *o = out;

    if (s.n != 2 * n)
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (hex_value(s.p[i]) < 0)
            return false;
    for (size_t i = 0; i < n; i++)
        o[i] =
            (uint8_t)((unsigned)hex_value(s.p[2 * i]) << 4 | (unsigned)hex_value(s.p[2 * i + 1]));
    return true;
}

void time_format(int64_t micros, char out[TIME_TEXT])
{
    put_time(out, micros);
    out[PUT_TIME_LEN] = '\0';
}

/* ---- reading times */

static bool digits(struct str *s, size_t n, int *out)
{
    int v = 0;

    if (s->n < n)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (s->p[i] < '0' || s->p[i] > '9')
            return false;
        v = v * 10 + (s->p[i] - '0');
    }
    s->p += n;
    s->n -= n;
    *out = v;
    return true;
}

static bool one_of(struct str *s, const char *set, char *which)
{
    if (!s->n || !s->p[0] || !strchr(set, s->p[0]))
        return false;
    if (which)
        *which = s->p[0];
    s->p++;
    s->n--;
    return true;
}

static bool read_date(struct str *s, int64_t *days)
{
    static const int lengths[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    int y, m, d;

    if (!digits(s, 4, &y) || !one_of(s, "-", NULL) || !digits(s, 2, &m) || !one_of(s, "-", NULL) ||
        !digits(s, 2, &d))
        return false;
    if (m < 1 || m > 12 || d < 1)
        return false;
    bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    if (d > lengths[m - 1] + (m == 2 && leap))
        return false;
    *days = days_of_date(y, m, d);
    return true;
}

static bool read_fraction(struct str *s, int64_t *micros)
{
    int64_t v = 0;
    size_t n = 0;

    *micros = 0;
    if (!one_of(s, ".", NULL))
        return true;
    while (n < s->n && n < 9 && s->p[n] >= '0' && s->p[n] <= '9')
        v = v * 10 + (s->p[n++] - '0');
    if (n == 0)
        return false;
    s->p += n;
    s->n -= n;
    for (size_t i = n; i < 9; i++)
        v *= 10;
    *micros = v / 1000;
    return true;
}

/* Seconds east of UTC. */
static bool read_offset(struct str *s, int64_t *out)
{
    char sign;
    int h, m;

    *out = 0;
    if (one_of(s, "Zz", NULL))
        return true;
    if (!one_of(s, "+-", &sign) || !digits(s, 2, &h) || !one_of(s, ":", NULL) ||
        !digits(s, 2, &m) || h > 23 || m > 59)
        return false;
    *out = (h * 3600 + m * 60) * (sign == '-' ? -1 : 1);
    return true;
}

bool time_parse(struct str s, int64_t *micros)
{
    static const int64_t first = INT64_C(-62167219200), last = INT64_C(253402300799);
    int64_t days, fraction = 0, east = 0;
    int h = 0, m = 0, sec = 0;

    if (!read_date(&s, &days))
        return false;
    if (s.n) {
        if (!one_of(&s, "Tt ", NULL) || !digits(&s, 2, &h) || !one_of(&s, ":", NULL) ||
            !digits(&s, 2, &m) || !one_of(&s, ":", NULL) || !digits(&s, 2, &sec) ||
            !read_fraction(&s, &fraction) || !read_offset(&s, &east) || s.n)
            return false;
        if (h > 23 || m > 59 || sec > 60) /* 60: a leap second */
            return false;
    }
    int64_t t = days * 86400 + h * 3600 + m * 60 + sec - east;
    if (t < first || t > last)
        return false;
    *micros = t * 1000000 + fraction;
    return true;
}

/* ---- percent */

static bool unreserved(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

int percent_decode(struct arena *a, struct str s, bool query, struct str *out)
{
    char *o = arena_alloc(a, s.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];

        if (c == '%') {
            int high = s.n - i > 2 ? hex_value(s.p[i + 1]) : -1;
            int low = s.n - i > 2 ? hex_value(s.p[i + 2]) : -1;

            if (high < 0 || low < 0)
                return -1;
            c = (char)(high << 4 | low);
            i += 2;
        } else if (c == '+' && query) {
            c = ' ';
        }
        if (c == '\0' && !query)
            return -1;
        o[n++] = c;
    }
    *out = (struct str){ o, n };
    return 0;
}

void percent_encode(struct arena *a, struct str s, struct str *out)
{
    static const char upper[] = "0123456789ABCDEF";
    char *o = arena_alloc(a, s.n * 3 + 1);
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (unreserved((char)c)) {
            o[n++] = (char)c;
            continue;
        }
        o[n++] = '%';
        o[n++] = upper[c >> 4];
        o[n++] = upper[c & 15];
    }
    *out = (struct str){ o, n };
}

bool utf8_valid(struct str s)
{
    size_t i = 0;

    while (i < s.n) {
        uint64_t eight;

        if (s.n - i >= 8) {
            memcpy(&eight, s.p + i, 8);
            if (!(eight & UINT64_C(0x8080808080808080))) {
                i += 8;
                continue;
            }
        }
        size_t len = utf8_char(s.p + i, s.n - i);
        if (!len)
            return false;
        i += len;
    }
    return true;
}

uint32_t crc32_of(const void *p, size_t n)
{
    return (uint32_t)crc32_z(0, p, n);
}

void sha256(const void *p, size_t n, uint8_t out[32])
{
    crypto_hash_sha256(out, p, n);
}

void hmac_sha256(const void *key, size_t kn, const void *p, size_t n, uint8_t out[32])
{
    crypto_auth_hmacsha256_state st;

    crypto_auth_hmacsha256_init(&st, key, kn);
    crypto_auth_hmacsha256_update(&st, p, n);
    crypto_auth_hmacsha256_final(&st, out);
    sodium_memzero(&st, sizeof(st));
}

bool mem_eq_const(const void *a, const void *b, size_t n)
{
    return sodium_memcmp(a, b, n) == 0;
}

bool int_parse(struct str s, int64_t min, int64_t max, int64_t *out)
{
    bool minus = s.n && s.p[0] == '-';
    int64_t v = 0;

    if (s.n == (size_t)minus)
        return false;
    for (size_t i = minus; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        /* Counted below zero, where there is one more. */
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_sub_overflow(v, s.p[i] - '0', &v))
            return false;
    }
    if (!minus && __builtin_sub_overflow((int64_t)0, v, &v))
        return false;
    if (v < min || v > max)
        return false;
    *out = v;
    return true;
}
