/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON writer: straight into the answer's buffer, no tree, no printf for what rows are made of.
 * Strings are copied in runs; only what stands out in 'special' is looked at byte by byte. */
#include "codec/json.h"

#include <math.h>

#include "base/put.h"
#include "codec/id.h"

enum { DEPTH_MAX = 64, KEY_PLAIN = 60 };

/* How a byte of a string is written: 0 as it is; 'u' as \u00xx; 1 starts a longer UTF-8 character;
 * else by a backslash and this letter. */
/* clang-format off */
static const char special[256] = {
    [0x00 ... 0x07] = 'u', ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', [0x0b] = 'u', ['\f'] = 'f',
    ['\r'] = 'r', [0x0e ... 0x1f] = 'u',
    ['"'] = '"', ['\\'] = '\\', [0x80 ... 0xff] = 1,
};
/* clang-format on */

static inline void put(struct json_out *o, const char *p, size_t n)
{
    struct buf *b = o->b;

    if (b->failed || b->cap - b->n < n || b->max - b->n < n) {
        buf_put(b, p, n);
        return;
    }
    memcpy(b->p + b->n, p, n);
    b->n += n;
}

static inline void put_byte(struct json_out *o, char c)
{
    put(o, &c, 1);
}

/* The comma before a value or a key, where one is due. */
static inline void begin(struct json_out *o)
{
    if (o->keyed) {
        o->keyed = false;
        return;
    }
    if (o->depth < 1 || o->depth > DEPTH_MAX)
        return;
    uint64_t bit = UINT64_C(1) << (o->depth - 1);
    if (o->comma & bit)
        put_byte(o, ',');
    o->comma |= bit;
}

/* True if none of eight bytes needs a look. */
static inline bool eight_plain(const char *p)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), high = ones * 0x80;
    uint64_t v, quote, slash;

    memcpy(&v, p, 8);
    quote = v ^ (ones * '"');
    slash = v ^ (ones * '\\');
    return !((v | (v - ones * 0x20) | (quote - ones) | (slash - ones)) & high);
}

static void put_special(struct json_out *o, const char *s, size_t len)
{
    static const char hex[] = "0123456789abcdef";
    unsigned char c = (unsigned char)s[0];

    if (special[c] == 'u')
        put(o, (const char[]){ '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] }, 6);
    else if (special[c] != 1)
        put(o, (const char[]){ '\\', special[c] }, 2);
    else if (len)
        put(o, s, len);
    else
        put(o, "\xef\xbf\xbd", 3);
}

static void put_string(struct json_out *o, const char *s, size_t n)
{
    size_t from = 0, i = 0;

    put_byte(o, '"');
    while (i < n) {
        if (n - i >= 8 && eight_plain(s + i)) {
            i += 8;
            continue;
        }
        if (!special[(unsigned char)s[i]]) {
            i++;
            continue;
        }
        size_t len = utf8_char(s + i, n - i);
        put(o, s + from, i - from);
        put_special(o, s + i, len);
        i += len ? len : 1;
        from = i;
    }
    if (n > from)
        put(o, s + from, n - from);
    put_byte(o, '"');
}

void json_open(struct json_out *o, char bracket)
{
    begin(o);
    put_byte(o, bracket);
    int at = o->depth++;
    if (at < 0 || at >= DEPTH_MAX) {
        o->failed = true;
        return;
    }
    uint64_t bit = UINT64_C(1) << at;
    o->comma &= ~bit;
    o->list = bracket == '[' ? o->list | bit : o->list & ~bit;
}

void json_close(struct json_out *o)
{
    if (o->depth < 1 || o->keyed) {
        o->failed = true;
        return;
    }
    bool list = o->depth <= DEPTH_MAX && o->list >> (o->depth - 1) & 1;
    put_byte(o, list ? ']' : '}');
    o->depth--;
}

/* A key of plain characters, as every field's name is, in one go; false if it is none. */
static bool put_plain_key(struct json_out *o, const char *key)
{
    struct buf *b = o->b;
    size_t room = b->failed ? 0 : MIN(b->cap, b->max) - MIN(b->n, b->max), n = 0;

    if (room < KEY_PLAIN + 4 || o->keyed || o->depth < 1 || o->depth > DEPTH_MAX)
        return false;
    uint64_t bit = UINT64_C(1) << (o->depth - 1);
    char *p = b->p + b->n;
    *p = ',';
    p += (o->comma & bit) != 0;
    *p++ = '"';
    for (; key[n]; n++) {
        if (n == KEY_PLAIN || special[(unsigned char)key[n]])
            return false;
        p[n] = key[n];
    }
    p[n] = '"';
    p[n + 1] = ':';
    b->n = (size_t)(p + n + 2 - b->p);
    o->comma |= bit;
    o->keyed = true;
    return true;
}

void json_key(struct json_out *o, const char *key)
{
    if (put_plain_key(o, key))
        return;
    begin(o);
    put_string(o, key, strlen(key));
    put_byte(o, ':');
    o->keyed = true;
}

void json_strn(struct json_out *o, const char *s, size_t n)
{
    begin(o);
    put_string(o, s, n);
}

void json_str(struct json_out *o, const char *s)
{
    if (!s) {
        json_null(o);
        return;
    }
    begin(o);
    put_string(o, s, strlen(s));
}

void json_int(struct json_out *o, int64_t v)
{
    char tmp[PUT_INT_MAX];

    begin(o);
    put(o, tmp, put_int(tmp, v));
}

void json_bool(struct json_out *o, bool v)
{
    begin(o);
    if (v)
        put(o, "true", 4);
    else
        put(o, "false", 5);
}

void json_null(struct json_out *o)
{
    begin(o);
    put(o, "null", 4);
}

void json_micro(struct json_out *o, int64_t millionths)
{
    char tmp[PUT_MICRO_MAX];

    begin(o);
    put(o, tmp, put_micro(tmp, millionths));
}

void json_double(struct json_out *o, double v)
{
    char tmp[40];
    int n = 0;

    if (!isfinite(v)) {
        json_null(o);
        return;
    }
    /* The fewest digits that read back as the same number. */
    for (int digits = 15; digits <= 17; digits++) {
        n = snprintf(tmp, sizeof(tmp) - 2, "%.*g", digits, v);
        if (strtod(tmp, NULL) == v)
            break;
    }
    if (!strpbrk(tmp, ".e")) {
        memcpy(tmp + n, ".0", 2);
        n += 2;
    }
    begin(o);
    put(o, tmp, (size_t)n);
}

void json_time(struct json_out *o, int64_t micros)
{
    char tmp[PUT_TIME_LEN + 2];

    if (micros == 0) {
        json_null(o);
        return;
    }
    tmp[0] = '"';
    put_time(tmp + 1, micros);
    tmp[PUT_TIME_LEN + 1] = '"';
    begin(o);
    put(o, tmp, sizeof(tmp));
}

void json_raw(struct json_out *o, const char *json)
{
    begin(o);
    put(o, json ? json : "null", json ? strlen(json) : 4);
}

void json_kstr(struct json_out *o, const char *key, const char *s)
{
    json_key(o, key);
    json_str(o, s);
}

void json_kint(struct json_out *o, const char *key, int64_t v)
{
    json_key(o, key);
    json_int(o, v);
}

void json_kbool(struct json_out *o, const char *key, bool v)
{
    json_key(o, key);
    json_bool(o, v);
}

void json_ktime(struct json_out *o, const char *key, int64_t micros)
{
    json_key(o, key);
    json_time(o, micros);
}

void json_id(struct json_out *o, const char *prefix, const struct uuid *id)
{
    char tmp[TYPEID_MAX + 2];
    size_t n;

    if (uuid_is_nil(id)) {
        json_null(o);
        return;
    }
    tmp[0] = '"';
    if (o->view.typeid && prefix) {
        typeid_format(prefix, id, tmp + 1);
        n = strlen(prefix) + 27;
    } else {
        n = sizeof(id->s) - 1;
        memcpy(tmp + 1, id->s, n);
    }
    tmp[n + 1] = '"';
    begin(o);
    put(o, tmp, n + 2);
}

int json_done(struct json_out *o)
{
    return o->failed || o->b->failed || o->depth != 0 || o->keyed ? -1 : 0;
}
