/* SPDX-License-Identifier: Apache-2.0 */
/* UUIDv7: 48 bits of milliseconds, then 74 bits that start at random with each millisecond and grow
 * by a random step within it (RFC 9562, 6.2, method 2), under one lock for the process.  When the
 * clock steps back, or the 74 bits run over, the time part stays at, or goes one past, the newest
 * given out, so order never turns.  A forked child starts anew, else it would repeat its parent's.
 */
#include "codec/id.h"

#include <endian.h>
#include <pthread.h>
#include <sodium.h>

#include "codec/text.h"

static const char hex_digits[] = "0123456789abcdef";
static const char crockford[] = "0123456789abcdefghjkmnpqrstvwxyz";
static const char base62[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/* ---- making UUIDs */

static struct {
    pthread_mutex_t lock;
    uint64_t ms;        /* of the newest */
    uint64_t high, low; /* its 74 bits: 10 and 64 */
    uint8_t pool[1024]; /* random bytes not used yet stand from 'used' on */
    size_t used;
} maker = { .lock = PTHREAD_MUTEX_INITIALIZER, .used = sizeof(maker.pool) };

static void before_fork(void)
{
    pthread_mutex_lock(&maker.lock);
}

static void after_fork_parent(void)
{
    pthread_mutex_unlock(&maker.lock);
}

static void after_fork_child(void)
{
    maker.used = sizeof(maker.pool);
    maker.ms = maker.ms ? maker.ms + 1 : 0;
    randombytes_buf(&maker.low, sizeof(maker.low));
    maker.high = randombytes_random() & 0x1ff;
    pthread_mutex_unlock(&maker.lock);
}

static void maker_start(void)
{
    if (sodium_init() < 0)
        abort();
    if (pthread_atfork(before_fork, after_fork_parent, after_fork_child) != 0)
        abort();
}

static void random_take(void *out, size_t n)
{
    if (sizeof(maker.pool) - maker.used < n) {
        randombytes_buf(maker.pool, sizeof(maker.pool));
        maker.used = 0;
    }
    memcpy(out, maker.pool + maker.used, n);
    maker.used += n;
}

/* The next 122 bits; called under the lock. */
static void step(uint64_t now)
{
    if (now > maker.ms) {
        uint16_t top;

        maker.ms = now;
        random_take(&top, sizeof(top));
        random_take(&maker.low, sizeof(maker.low));
        maker.high = top & 0x1ff; /* the highest bit free: room for steps */
        return;
    }
    uint32_t by;
    random_take(&by, sizeof(by));
    uint64_t low = maker.low + by + 1;
    if (low < maker.low && ++maker.high > 0x3ff) {
        maker.high = 0;
        maker.ms++;
    }
    maker.low = low;
}

void uuid_new(struct clock *c, struct uuid *out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    int64_t wall = clock_wall(c);
    uint64_t now = wall > 0 ? (uint64_t)wall / 1000 : 0;
    uint8_t b[16];

    pthread_once(&once, maker_start);
    pthread_mutex_lock(&maker.lock);
    step(now);
    uint64_t ms = maker.ms, high = maker.high, low = maker.low;
    pthread_mutex_unlock(&maker.lock);

    for (int i = 0; i < 6; i++)
        b[i] = (uint8_t)(ms >> (40 - 8 * i));
    /* 74 bits as 12 behind the version and 62 behind the variant. */
    uint64_t a12 = high << 2 | low >> 62;
    b[6] = (uint8_t)(0x70 | a12 >> 8);
    b[7] = (uint8_t)a12;
    for (int i = 0; i < 8; i++)
        b[8 + i] = (uint8_t)(low >> (56 - 8 * i));
    b[8] = (uint8_t)(0x80 | (b[8] & 0x3f));
    uuid_from_bytes(b, out);
}

/* ---- UUID text */

/* Value of a hex digit and one more; 0 for what is none. */
/* clang-format off */
static const uint8_t hex_plus_one[256] = {
    ['0'] = 1, ['1'] = 2, ['2'] = 3, ['3'] = 4, ['4'] = 5, ['5'] = 6, ['6'] = 7, ['7'] = 8,
    ['8'] = 9, ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
    ['A'] = 11, ['B'] = 12, ['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16,
};
/* clang-format on */

static bool is_dash(size_t i)
{
    return i == 8 || i == 13 || i == 18 || i == 23;
}

bool uuid_parse(struct str s, struct uuid *out)
{
    struct uuid u;

    if (s.n != 36)
        return false;
    for (size_t i = 0; i < 36; i++) {
        unsigned v = hex_plus_one[(unsigned char)s.p[i]];

        if (is_dash(i) ? s.p[i] != '-' : v == 0)
            return false;
        u.s[i] = is_dash(i) ? '-' : hex_digits[v - 1];
    }
    u.s[36] = '\0';
    *out = u;
    return true;
}

void uuid_bytes(const struct uuid *u, uint8_t out[16])
{
    const char *p = u->s;

    if (uuid_is_nil(u)) {
        memset(out, 0, 16);
        return;
    }
    for (size_t i = 0; i < 16; i++, p += 2) {
        if (*p == '-')
            p++;
        out[i] = (uint8_t)((hex_plus_one[(unsigned char)p[0]] - 1) << 4 |
                           (hex_plus_one[(unsigned char)p[1]] - 1));
    }
}

void uuid_from_bytes(const uint8_t in[16], struct uuid *out)
{
    char *p = out->s;

    for (size_t i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *p++ = '-';
        *p++ = hex_digits[in[i] >> 4];
        *p++ = hex_digits[in[i] & 15];
    }
    *p = '\0';
}

/* ---- TypeID */

void typeid_format(const char *prefix, const struct uuid *u, char out[TYPEID_MAX])
{
    size_t n = strnlen(prefix, 63);
    uint64_t high, low, middle;
    uint8_t b[16];

    uuid_bytes(u, b);
    memcpy(&high, b, 8);
    memcpy(&low, b + 8, 8);
    high = be64toh(high);
    low = be64toh(low);
    memcpy(out, prefix, n);
    out[n] = '_';
    /* 26 digits of five bits: twelve from the low half, one across, thirteen from the high. */
    char *p = out + n + 1;
    for (int i = 0; i < 12; i++)
        p[25 - i] = crockford[low >> (5 * i) & 31];
    middle = low >> 60 | high << 4;
    p[13] = crockford[middle & 31];
    for (int i = 0; i < 13; i++)
        p[12 - i] = crockford[high >> (1 + 5 * i) & 31];
    p[26] = '\0';
}

static int crockford_value(char c)
{
    const char *at = c ? strchr(crockford, c) : NULL;

    return at ? (int)(at - crockford) : -1;
}

static bool prefix_right(const char *p, size_t n)
{
    if (n < 1 || n > 63 || p[0] == '_' || p[n - 1] == '_')
        return false;
    for (size_t i = 0; i < n; i++)
        if (p[i] != '_' && (p[i] < 'a' || p[i] > 'z'))
            return false;
    return true;
}

bool typeid_parse(struct str s, char prefix[64], struct uuid *out)
{
    if (s.n < 28 || s.n >= TYPEID_MAX || s.p[s.n - 27] != '_')
        return false;
    size_t n = s.n - 27;
    const char *p = s.p + n + 1;
    uint64_t high = 0, low = 0;
    uint8_t b[16];

    if (!prefix_right(s.p, n) || p[0] > '7')
        return false;
    for (int i = 0; i < 26; i++) {
        int v = crockford_value(p[i]);

        if (v < 0)
            return false;
        high = high << 5 | low >> 59;
        low = low << 5 | (uint64_t)v;
    }
    for (int i = 0; i < 8; i++) {
        b[i] = (uint8_t)(high >> (56 - 8 * i));
        b[8 + i] = (uint8_t)(low >> (56 - 8 * i));
    }
    memcpy(prefix, s.p, n);
    prefix[n] = '\0';
    uuid_from_bytes(b, out);
    return true;
}

enum id_form id_parse(struct str s, const char *prefix, struct uuid *out)
{
    struct uuid u;
    char got[64];

    if (uuid_parse(s, out))
        return ID_OK;
    if (!typeid_parse(s, got, &u))
        return ID_NONE;
    if (!prefix || strcmp(got, prefix) != 0)
        return ID_WRONG_PREFIX;
    *out = u;
    return ID_OK;
}

bool id_looks_like(struct str s)
{
    struct uuid u;
    char prefix[64];

    return uuid_parse(s, &u) || typeid_parse(s, prefix, &u);
}

/* ---- secrets */

enum { SECRET_RANDOM = 34, SECRET_CHECK = 6 };

static void checksum(const char *p, size_t n, char out[SECRET_CHECK])
{
    uint32_t crc = crc32_of(p, n);

    for (int i = SECRET_CHECK - 1; i >= 0; i--, crc /= 62)
        out[i] = base62[crc % 62];
}

void secret_new(const char *prefix, char out[SECRET_MAX])
{
    size_t n = strlen(prefix);

    if (sodium_init() < 0 || n + SECRET_RANDOM + SECRET_CHECK >= SECRET_MAX)
        abort();
    memcpy(out, prefix, n);
    for (int i = 0; i < SECRET_RANDOM; i++)
        out[n++] = base62[randombytes_uniform(62)];
    checksum(out, n, out + n);
    out[n + SECRET_CHECK] = '\0';
}

bool secret_check(const char *prefix, struct str s)
{
    size_t n = strlen(prefix);
    char right[SECRET_CHECK];

    if (s.n != n + SECRET_RANDOM + SECRET_CHECK || memcmp(s.p, prefix, n) != 0)
        return false;
    for (size_t i = n; i < s.n; i++)
        if (!(s.p[i] >= '0' && s.p[i] <= '9') && !(s.p[i] >= 'A' && s.p[i] <= 'Z') &&
            !(s.p[i] >= 'a' && s.p[i] <= 'z'))
            return false;
    checksum(s.p, n + SECRET_RANDOM, right);
    return memcmp(right, s.p + s.n - SECRET_CHECK, SECRET_CHECK) == 0;
}
