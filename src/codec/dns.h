/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* DNS messages (RFC 1035, RFC 6891): what a small responder must read and write.  Strict: every
 * offset is checked, compression pointers lead only backwards, exactly one question. */

#include "base/base.h"

enum { DNS_HEADER = 12, DNS_NAME_TEXT = 256, DNS_UDP_MIN = 512, DNS_MESSAGE_MAX = 65535 };
enum dns_type { DNS_A = 1, DNS_PTR = 12, DNS_AAAA = 28, DNS_OPT = 41, DNS_ANY = 255 };
enum dns_rcode {
    DNS_NOERROR = 0,
    DNS_FORMERR = 1,
    DNS_SERVFAIL = 2,
    DNS_NXDOMAIN = 3,
    DNS_NOTIMP = 4,
    DNS_REFUSED = 5,
};

struct dns_question {
    uint16_t id, type, class;
    bool rd;                  /* recursion is wanted */
    char name[DNS_NAME_TEXT]; /* lower case, no dot at the end, "" is the root */
    bool plain; /* every byte of it is a letter, digit, '-', '_' or a dot between labels */
    size_t end; /* where the question ends in the message */
    bool edns;
    size_t udp_max; /* bytes that the asker takes by UDP */
};

enum dns_parse { DNS_OK, DNS_DROP /* no query: say nothing */, DNS_BAD /* answer 'rcode' */ };
/* Reads a query.  On DNS_BAD 'out->id' and '*rcode' are set and 'out->end' is 0 or the question's
 * end. */
enum dns_parse dns_query_parse(const uint8_t *p, size_t n, struct dns_question *out,
                               enum dns_rcode *rcode);
/* Reads the name at 'at' as dotted text; returns where it ends in the message, 0 if it is
 * malformed. */
size_t dns_name_read(const uint8_t *p, size_t n, size_t at, char out[DNS_NAME_TEXT], bool *plain);
/* An answer to the query 'p' of which 'q' was read: 'count' IPv4 addresses (four bytes each,
 * network order).  What does not fit in 'max' bytes is left out and marked.  Returns its length, 0
 * if 'max' is too small even for an empty one. */
size_t dns_answer(const uint8_t *p, const struct dns_question *q, enum dns_rcode rcode,
                  const uint8_t (*addrs)[4], size_t count, uint32_t ttl, uint8_t *out, size_t max);
/* True if 'p' answers the query whose number is 'id' and whose question is 'question' (the bytes
 * after the header, of 'q_n' bytes, letters in the same case). */
bool dns_reply_matches(const uint8_t *p, size_t n, uint16_t id, const uint8_t *question,
                       size_t q_n);
