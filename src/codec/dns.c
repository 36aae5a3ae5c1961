/* SPDX-License-Identifier: Apache-2.0 */
/* Hides the wire format of DNS: labels, compression, EDNS. */
#include "codec/dns.h"

enum { LABEL_MAX = 63, WIRE_NAME_MAX = 255, POINTERS_MAX = 16, RECORDS_MAX = 64 };

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static bool plain_byte(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

size_t dns_name_read(const uint8_t *p, size_t n, size_t at, char out[DNS_NAME_TEXT], bool *plain)
{
    size_t end = 0, len = 0, wire = 0, lowest = at;
    int pointers = 0;

    *plain = true;
    for (;;) {
        if (at >= n)
            return 0;
        uint8_t c = p[at];
        if ((c & 0xc0) == 0xc0) {
            size_t to = at + 1 < n ? (size_t)(get16(p + at) & 0x3fff) : n;
            if (!end)
                end = at + 2;
            /* Each jump leads before everything read so far, so it ends. */
            if (to >= lowest || to < DNS_HEADER || ++pointers > POINTERS_MAX)
                return 0;
            at = lowest = to;
            continue;
        }
        if (c > LABEL_MAX || (wire += c + 1u) > WIRE_NAME_MAX || at + 1 + c > n)
            return 0;
        if (c == 0)
            break;
        if (len)
            out[len++] = '.';
        for (size_t i = 0; i < c; i++) {
            uint8_t b = p[at + 1 + i];
            b = b >= 'A' && b <= 'Z' ? (uint8_t)(b + 32) : b;
            if (!plain_byte(b)) {
                *plain = false;
                b = '?';
            }
            out[len++] = (char)b;
        }
        at += 1 + c;
    }
    out[len] = '\0';
    return end ? end : at + 1;
}

/* Skips a resource record, and notes an OPT. */
static size_t skip_record(const uint8_t *p, size_t n, size_t at, struct dns_question *q)
{
    char name[DNS_NAME_TEXT];
    bool plain;

    at = dns_name_read(p, n, at, name, &plain);
    if (!at || at + 10 > n)
        return 0;
    if (get16(p + at) == DNS_OPT && !*name) {
        q->edns = true;
        q->udp_max = MAX((size_t)DNS_UDP_MIN, (size_t)get16(p + at + 2));
    }
    at += 10 + (size_t)get16(p + at + 8);
    return at <= n ? at : 0;
}

enum dns_parse dns_query_parse(const uint8_t *p, size_t n, struct dns_question *out,
                               enum dns_rcode *rcode)
{
    struct dns_question q = { .udp_max = DNS_UDP_MIN };

    if (n < DNS_HEADER || n > DNS_MESSAGE_MAX || (p[2] & 0x80))
        return DNS_DROP;
    q.id = get16(p);
    q.rd = p[2] & 1;
    *out = q;
    *rcode = DNS_FORMERR;
    if (((p[2] >> 3) & 15) != 0) {
        *rcode = DNS_NOTIMP;
        return DNS_BAD;
    }
    unsigned records = (unsigned)get16(p + 6) + get16(p + 8) + get16(p + 10);
    if (get16(p + 4) != 1 || records > RECORDS_MAX)
        return DNS_BAD;
    size_t at = dns_name_read(p, n, DNS_HEADER, q.name, &q.plain);
    if (!at || at + 4 > n)
        return DNS_BAD;
    q.type = get16(p + at);
    q.class = get16(p + at + 2);
    q.end = at + 4;
    at = q.end;
    *out = q;
    for (unsigned i = 0; i < records; i++)
        if (!(at = skip_record(p, n, at, &q)))
            return DNS_BAD;
    *out = q;
    return DNS_OK;
}

size_t dns_answer(const uint8_t *p, const struct dns_question *q, enum dns_rcode rcode,
                  const uint8_t (*addrs)[4], size_t count, uint32_t ttl, uint8_t *out, size_t max)
{
    enum { RECORD = 16, OPT = 11 };
    size_t n = q->end ? q->end : DNS_HEADER, opt = q->edns ? OPT : 0, put = 0;

    if (n + opt > max)
        return 0;
    memcpy(out, p, n);
    put16(out, q->id);
    out[2] = (uint8_t)(0x80 | (p[2] & 0x79)); /* an answer; its opcode and RD as asked */
    out[3] = (uint8_t)(0x80 | rcode);
    put16(out + 4, q->end ? 1 : 0);
    memset(out + 6, 0, 6);
    for (; put < count && n + RECORD + opt <= max; put++, n += RECORD) {
        put16(out + n, 0xc000 | DNS_HEADER);
        put16(out + n + 2, DNS_A);
        put16(out + n + 4, 1);
        put16(out + n + 6, ttl >> 16);
        put16(out + n + 8, ttl & 0xffff);
        put16(out + n + 10, 4);
        memcpy(out + n + 12, addrs[put], 4);
    }
    put16(out + 6, (unsigned)put);
    if (put < count)
        out[2] |= 2;
    if (opt) {
        memset(out + n, 0, OPT);
        put16(out + n + 1, DNS_OPT);
        put16(out + n + 3, 1232);
        put16(out + 10, 1);
        n += OPT;
    }
    return n;
}

bool dns_reply_matches(const uint8_t *p, size_t n, uint16_t id, const uint8_t *question, size_t q_n)
{
    return n >= DNS_HEADER + q_n && (p[2] & 0x80) && get16(p) == id && get16(p + 4) == 1 &&
           memcmp(p + DNS_HEADER, question, q_n) == 0;
}
