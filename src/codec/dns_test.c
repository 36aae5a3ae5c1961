/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/dns.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* Web.default.internal A, with EDNS of 1232 bytes. */
static const uint8_t query[] = {
    0x12, 0x34, 0x01, 0x00, 0,   1,   0,    0,    0,    0,   0,   1,   3,   'W', 'e', 'b', 7,
    'd',  'e',  'f',  'a',  'u', 'l', 't',  8,    'i',  'n', 't', 'e', 'r', 'n', 'a', 'l', 0,
    0,    1,    0,    1,    0,   0,   0x29, 0x04, 0xd0, 0,   0,   0,   0,   0,   0,
};

static void a_query_is_read(void **state _unused_)
{
    struct dns_question q;
    enum dns_rcode rcode;

    assert_int_equal(dns_query_parse(query, sizeof(query), &q, &rcode), DNS_OK);
    assert_string_equal(q.name, "web.default.internal");
    assert_true(q.plain && q.rd && q.edns);
    assert_int_equal(q.udp_max, 1232);
    assert_int_equal(q.type, DNS_A);
    assert_int_equal(q.class, 1);
    assert_int_equal(q.id, 0x1234);
    assert_int_equal(q.end, 38);
}

static void an_answer_repeats_the_question_and_fits(void **state _unused_)
{
    static uint8_t addrs[100][4];
    struct dns_question q;
    enum dns_rcode rcode;
    uint8_t out[1232];

    addrs[0][0] = 10;
    assert_int_equal(dns_query_parse(query, sizeof(query), &q, &rcode), DNS_OK);
    size_t n = dns_answer(query, &q, DNS_NOERROR, addrs, 1, 30, out, sizeof(out));
    assert_int_equal(n, 38 + 16 + 11);
    assert_memory_equal(out + 12, query + 12, 26);
    assert_int_equal(out[7], 1);
    assert_int_equal(out[2] & 2, 0);
    n = dns_answer(query, &q, DNS_NOERROR, addrs, 100, 30, out, sizeof(out));
    assert_true(n <= sizeof(out));
    assert_int_equal(out[2] & 2, 2);
    assert_int_equal(out[7], (1232 - 38 - 11) / 16);
    assert_int_equal(dns_answer(query, &q, DNS_NOERROR, addrs, 1, 30, out, 20), 0);
    assert_true(dns_reply_matches(out, n, 0x1234, query + 12, 26));
    assert_false(dns_reply_matches(out, n, 0x1235, query + 12, 26));
    assert_false(dns_reply_matches(query, sizeof(query), 0x1234, query + 12, 26));
}

static void what_is_malformed_is_refused(void **state _unused_)
{
    struct dns_question q;
    enum dns_rcode rcode;
    uint8_t m[sizeof(query)];

    assert_int_equal(dns_query_parse(query, 11, &q, &rcode), DNS_DROP);
    for (size_t n = 12; n < sizeof(query); n++) {
        assert_int_equal(dns_query_parse(query, n, &q, &rcode), DNS_BAD);
        assert_int_equal(rcode, DNS_FORMERR);
    }
    memcpy(m, query, sizeof(m));
    m[2] |= 0x80;
    assert_int_equal(dns_query_parse(m, sizeof(m), &q, &rcode), DNS_DROP);
    m[2] = 0x28;
    assert_int_equal(dns_query_parse(m, sizeof(m), &q, &rcode), DNS_BAD);
    assert_int_equal(rcode, DNS_NOTIMP);
    m[2] = 1;
    m[5] = 2;
    assert_int_equal(dns_query_parse(m, sizeof(m), &q, &rcode), DNS_BAD);
    m[5] = 1;
    m[12] = 0x40; /* a label of no known kind */
    assert_int_equal(dns_query_parse(m, sizeof(m), &q, &rcode), DNS_BAD);
}

static void pointers_lead_only_backwards(void **state _unused_)
{
    /* At 12 "a" and the root; at 15 "b" and a pointer to 12; at 19 a pointer to itself; at 21 one
     * forward; at 23 one into the header. */
    static const uint8_t m[] = { 0,   0, 0, 0,   0,    0,  0,    0,  0,    0,  0,    0, 1,
                                 'a', 0, 1, 'b', 0xc0, 12, 0xc0, 19, 0xc0, 23, 0xc0, 2 };
    char name[DNS_NAME_TEXT];
    bool plain;

    assert_int_equal(dns_name_read(m, sizeof(m), 15, name, &plain), 19);
    assert_string_equal(name, "b.a");
    assert_int_equal(dns_name_read(m, sizeof(m), 19, name, &plain), 0);
    assert_int_equal(dns_name_read(m, sizeof(m), 21, name, &plain), 0);
    assert_int_equal(dns_name_read(m, sizeof(m), 23, name, &plain), 0);
    assert_int_equal(dns_name_read(m, 24, 23, name, &plain), 0);
}

static void a_name_of_strange_bytes_is_marked(void **state _unused_)
{
    uint8_t m[sizeof(query)];
    struct dns_question q;
    enum dns_rcode rcode;

    memcpy(m, query, sizeof(m));
    m[14] = '.';
    assert_int_equal(dns_query_parse(m, sizeof(m), &q, &rcode), DNS_OK);
    assert_false(q.plain);
    assert_string_equal(q.name, "w?b.default.internal");
}

static void a_name_is_at_most_255_bytes(void **state _unused_)
{
    uint8_t m[400] = { 0 };
    char name[DNS_NAME_TEXT];
    bool plain;
    size_t at = 12;

    for (int i = 0; i < 4; i++) {
        m[at] = i == 3 ? 61 : 63;
        memset(m + at + 1, 'x', m[at]);
        at += m[at] + 1u;
    }
    assert_int_equal(dns_name_read(m, sizeof(m), 12, name, &plain), at + 1);
    assert_int_equal(strlen(name), 253);
    m[12 + 64 * 3] = 62;
    m[at] = 'x';
    assert_int_equal(dns_name_read(m, sizeof(m), 12, name, &plain), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_query_is_read),
        cmocka_unit_test(an_answer_repeats_the_question_and_fits),
        cmocka_unit_test(what_is_malformed_is_refused),
        cmocka_unit_test(pointers_lead_only_backwards),
        cmocka_unit_test(a_name_of_strange_bytes_is_marked),
        cmocka_unit_test(a_name_is_at_most_255_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
