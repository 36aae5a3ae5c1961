/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses are read by hand: inet_aton() takes "10.1" and "010.0.0.1", each another address to
 * another program, and that is how filters are passed. */
#include "codec/cidr.h"

#include "base/put.h"

/* A decimal number up to 'max' without leading zeros at s[*at]. */
static bool number(struct str s, size_t *at, int max, int *out)
{
    size_t from = *at;
    int v = 0;

    while (*at < s.n && s.p[*at] >= '0' && s.p[*at] <= '9' && v <= max)
        v = v * 10 + (s.p[(*at)++] - '0');
    if (*at == from || v > max || (*at - from > 1 && s.p[from] == '0'))
        return false;
    *out = v;
    return true;
}

static bool parse4(struct str s, uint8_t out[4])
{
    size_t at = 0;
    int v;

    for (int i = 0; i < 4; i++) {
        if (i && (at >= s.n || s.p[at++] != '.'))
            return false;
        if (!number(s, &at, 255, &v))
            return false;
        out[i] = (uint8_t)v;
    }
    return at == s.n;
}

/* One group of up to four hex digits; false if there is none. */
static bool group(struct str s, size_t *at, uint8_t out[2])
{
    unsigned v = 0;
    size_t n = 0;

    while (*at < s.n && n < 4 && hex_value(s.p[*at]) >= 0) {
        v = v << 4 | (unsigned)hex_value(s.p[(*at)++]);
        n++;
    }
    out[0] = (uint8_t)(v >> 8);
    out[1] = (uint8_t)v;
    return n > 0;
}

static bool parse6(struct str s, uint8_t out[16])
{
    uint8_t b[16] = { 0 };
    size_t n = 0, at = 0, gap = 17; /* gap: bytes before "::" */

    if (s.n >= 2 && s.p[0] == ':' && s.p[1] == ':') {
        gap = 0;
        at = 2;
    }
    while (at < s.n) {
        const char *dot = memchr(s.p + at, '.', s.n - at);
        const char *colon = memchr(s.p + at, ':', s.n - at);

        if (n > 14)
            return false;
        if (dot && !colon) {
            if (n > 12 || !parse4((struct str){ s.p + at, s.n - at }, b + n))
                return false;
            n += 4;
            break;
        }
        if (!group(s, &at, b + n))
            return false;
        n += 2;
        if (at == s.n)
            break;
        if (s.p[at++] != ':' || at == s.n)
            return false;
        if (s.p[at] == ':') {
            if (gap != 17)
                return false;
            gap = n;
            at++;
        }
    }
    if (gap == 17 ? n != 16 : n > 14)
        return false;
    memset(out, 0, 16);
    if (gap == 17)
        gap = n;
    memcpy(out, b, gap);
    memcpy(out + 16 - (n - gap), b + gap, n - gap);
    return true;
}

bool ip_parse(struct str s, struct ip *out)
{
    struct ip ip = { 0 };

    if (s.n == 0 || s.n >= IP_TEXT)
        return false;
    ip.family = memchr(s.p, ':', s.n) ? 6 : 4;
    if (ip.family == 6 ? !parse6(s, ip.b) : !parse4(s, ip.b))
        return false;
    *out = ip;
    return true;
}

static char *put4(char *p, const uint8_t b[4])
{
    for (int i = 0; i < 4; i++) {
        if (i)
            *p++ = '.';
        p += put_int(p, b[i]);
    }
    return p;
}

static char *put_group(char *p, const uint8_t b[2])
{
    static const char hex[] = "0123456789abcdef";
    unsigned v = (unsigned)b[0] << 8 | b[1];

    for (int shift = 12; shift >= 0; shift -= 4)
        if (v >> shift || shift == 0)
            *p++ = hex[v >> shift & 15];
    return p;
}

static char *put6(char *p, const uint8_t b[16])
{
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
    int best = -1, length = 1; /* the first longest run of zero groups, of two at least */

    if (memcmp(b, mapped, sizeof(mapped)) == 0) {
        memcpy(p, "::ffff:", 7);
        return put4(p + 7, b + 12);
    }
    for (int i = 0, run = 0; i < 8; i++) {
        run = b[2 * i] || b[2 * i + 1] ? 0 : run + 1;
        if (run > length) {
            length = run;
            best = i - run + 1;
        }
    }
    for (int i = 0; i < 8; i++) {
        if (i == best) {
            *p++ = ':';
            *p++ = ':';
            i += length - 1;
            continue;
        }
        if (i && i != best + length)
            *p++ = ':';
        else if (i && best < 0)
            *p++ = ':';
        p = put_group(p, b + 2 * i);
    }
    return p;
}

void ip_format(const struct ip *ip, char out[IP_TEXT])
{
    char *p = out;

    if (ip->family == 4)
        p = put4(p, ip->b);
    else if (ip->family == 6)
        p = put6(p, ip->b);
    *p = '\0';
}

struct cidr cidr_of_client(const struct ip *ip)
{
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
    struct cidr c = { *ip, ip->family == 6 ? 64 : 32 };

    if (ip->family == 6 && memcmp(ip->b, mapped, sizeof(mapped)) == 0) {
        c = (struct cidr){ { .family = 4 }, 32 };
        memcpy(c.ip.b, ip->b + 12, 4);
    } else if (ip->family == 6) {
        memset(c.ip.b + 8, 0, 8);
    }
    return c;
}

static int width(const struct ip *ip)
{
    return ip->family == 4 ? 32 : 128;
}

static bool host_bits(const struct cidr *c)
{
    for (int i = c->bits; i < width(&c->ip); i++)
        if (c->ip.b[i / 8] >> (7 - i % 8) & 1)
            return true;
    return false;
}

bool cidr_parse(struct str s, bool strict, struct cidr *out)
{
    const char *slash = s.n ? memchr(s.p, '/', s.n) : NULL;
    size_t n = slash ? (size_t)(slash - s.p) : s.n, at = n + 1;
    struct cidr c;

    if (!ip_parse((struct str){ s.p, n }, &c.ip))
        return false;
    c.bits = width(&c.ip);
    if (slash && (!number(s, &at, width(&c.ip), &c.bits) || at != s.n))
        return false;
    if (strict && host_bits(&c))
        return false;
    *out = c;
    return true;
}

void cidr_format(const struct cidr *c, char out[CIDR_TEXT])
{
    char ip[IP_TEXT];

    ip_format(&c->ip, ip);
    snprintf(out, CIDR_TEXT, "%s/%d", ip, c->bits);
}

static bool same_prefix(const struct ip *a, const struct ip *b, int bits)
{
    size_t whole = (size_t)bits / 8;

    if (a->family != b->family || a->family == 0)
        return false;
    if (memcmp(a->b, b->b, whole) != 0)
        return false;
    return bits % 8 == 0 || (a->b[whole] ^ b->b[whole]) >> (8 - bits % 8) == 0;
}

bool cidr_contains(const struct cidr *c, const struct ip *ip)
{
    return same_prefix(&c->ip, ip, c->bits);
}

bool cidr_within(const struct cidr *inner, const struct cidr *outer)
{
    return inner->bits >= outer->bits && same_prefix(&inner->ip, &outer->ip, outer->bits);
}

bool cidr_overlaps(const struct cidr *a, const struct cidr *b)
{
    return same_prefix(&a->ip, &b->ip, MIN(a->bits, b->bits));
}

uint32_t ip4_num(const struct ip *ip)
{
    return (uint32_t)ip->b[0] << 24 | (uint32_t)ip->b[1] << 16 | (uint32_t)ip->b[2] << 8 | ip->b[3];
}

struct ip ip4_from(uint32_t n)
{
    return (struct ip){
        .family = 4, .b = { (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n }
    };
}

/* clang-format off */
static const struct cidr special4[] = {
    { { 4, { 0 } },             8 },  /* "this network" */
    { { 4, { 10 } },            8 },  /* private use */
    { { 4, { 100, 64 } },       10 }, /* shared by carriers */
    { { 4, { 127 } },           8 },  /* loopback */
    { { 4, { 169, 254 } },      16 }, /* link-local: metadata services of clouds */
    { { 4, { 172, 16 } },       12 }, /* private use */
    { { 4, { 192, 0, 0 } },     24 }, /* protocol assignments */
    { { 4, { 192, 0, 2 } },     24 }, /* documentation */
    { { 4, { 192, 88, 99 } },   24 }, /* relays of 6to4, deprecated */
    { { 4, { 192, 168 } },      16 }, /* private use */
    { { 4, { 198, 18 } },       15 }, /* benchmarks, and our own transit */
    { { 4, { 198, 51, 100 } },  24 }, /* documentation */
    { { 4, { 203, 0, 113 } },   24 }, /* documentation */
    { { 4, { 224 } },           4 },  /* multicast */
    { { 4, { 240 } },           4 },  /* reserved, and broadcast */
};
static const struct cidr global6 = { { 6, { 0x20 } }, 3 };
static const struct cidr special6[] = {
    { { 6, { 0x20, 0x01 } },             23 }, /* protocol assignments: Teredo, ORCHID, benchmarks */
    { { 6, { 0x20, 0x01, 0x0d, 0xb8 } }, 32 }, /* documentation */
    { { 6, { 0x20, 0x02 } },             16 }, /* 6to4 */
    { { 6, { 0x3f, 0xff } },             20 }, /* documentation */
};
static const struct cidr nat64 = { { 6, { 0x00, 0x64, 0xff, 0x9b } }, 96 };
/* clang-format on */

static bool in_any(const struct cidr *blocks, size_t n, const struct ip *ip)
{
    for (size_t i = 0; i < n; i++)
        if (cidr_contains(&blocks[i], ip))
            return true;
    return false;
}

bool ip_is_public(const struct ip *ip)
{
    struct ip four = *ip;

    if (ip->family == 6 && cidr_contains(&nat64, ip))
        four = (struct ip){ 4, { ip->b[12], ip->b[13], ip->b[14], ip->b[15] } };
    if (four.family == 4)
        return !in_any(special4, ARRAY_LEN(special4), &four);
    return cidr_contains(&global6, ip) && !in_any(special6, ARRAY_LEN(special6), ip);
}
