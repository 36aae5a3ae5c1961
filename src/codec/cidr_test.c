/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "codec/cidr.h"

static struct cidr cidr(const char *s)
{
    struct cidr c = { 0 };

    if (!cidr_parse(str_of(s), true, &c))
        fail_msg("%s was refused", s);
    return c;
}

static void addresses_are_written_as_rfc_5952_says(void **state _unused_)
{
    static const char *const cases[][2] = {
        { "10.0.0.1", "10.0.0.1" },
        { "0.0.0.0", "0.0.0.0" },
        { "255.255.255.255", "255.255.255.255" },
        { "::", "::" },
        { "::1", "::1" },
        { "1::", "1::" },
        { "2001:DB8:0:0:0:0:0:1", "2001:db8::1" },
        { "2001:0db8:0000:0000:0001:0000:0000:0001", "2001:db8::1:0:0:1" },
        { "2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1" },
        { "::ffff:10.1.2.3", "::ffff:10.1.2.3" },
        { "::ffff:a01:203", "::ffff:10.1.2.3" },
        { "64:ff9b::1.2.3.4", "64:ff9b::102:304" },
        { "1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0" },
        { "::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8" },
        { "1:0:0:2:0:0:0:3", "1:0:0:2::3" },
        { "1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:102:304" },
    };
    char out[IP_TEXT];
    struct ip ip, again;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (!ip_parse(str_of(cases[i][0]), &ip))
            fail_msg("%s was refused", cases[i][0]);
        ip_format(&ip, out);
        assert_string_equal(out, cases[i][1]);
        assert_true(ip_parse(str_of(out), &again));
        assert_memory_equal(&ip, &again, sizeof(ip));
    }
}

static void what_is_no_address_is_refused(void **state _unused_)
{
    static const char *const bad[] = {
        "",
        "10",
        "10.1",
        "10.0.0",
        "10.0.0.0.0",
        "010.0.0.1",
        "10.0.0.256",
        "10.0.0.-1",
        "10.0.0.1 ",
        " 10.0.0.1",
        "0x0a.0.0.1",
        "10.0.0.",
        ".10.0.0.1",
        "10..0.1",
        ":",
        ":::",
        "1:2:3:4:5:6:7",
        "1:2:3:4:5:6:7:8:9",
        "1::2::3",
        "12345::",
        "g::",
        "1:2:3:4:5:6:7:8::",
        "::1%eth0",
        "[::1]",
        "::1.2.3",
        "1:2:3:4:5:6:7:1.2.3.4",
        "::1.2.3.4:5",
        "1:",
        ":1",
        "1:2:3:4:5:6:7:",
        "::01.2.3.4",
        "1:2:3:4::5:6:7:8:",
    };
    struct ip ip;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (ip_parse(str_of(bad[i]), &ip))
            fail_msg("%s was read", bad[i]);
}

static void prefixes_are_strict_about_host_bits_where_asked(void **state _unused_)
{
    struct cidr c;
    char out[CIDR_TEXT];

    assert_true(cidr_parse(STR("10.1.0.0/16"), true, &c));
    cidr_format(&c, out);
    assert_string_equal(out, "10.1.0.0/16");
    assert_false(cidr_parse(STR("10.1.0.1/16"), true, &c));
    assert_true(cidr_parse(STR("10.1.0.1/16"), false, &c));
    assert_true(cidr_parse(STR("10.1.0.1"), true, &c) && c.bits == 32);
    assert_true(cidr_parse(STR("::1"), true, &c) && c.bits == 128);
    assert_true(cidr_parse(STR("0.0.0.0/0"), true, &c));
    assert_true(cidr_parse(STR("2001:db8::/33"), true, &c));
    assert_false(cidr_parse(STR("2001:db8:4000::/33"), true, &c));
    static const char *const bad[] = { "10.0.0.0/33",  "10.0.0.0/",   "10.0.0.0/08",
                                       "/8",           "10.0.0.0/-1", "::/129",
                                       "10.0.0.0/8/8", "10.0.0.0/8 ", "" };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(cidr_parse(str_of(bad[i]), false, &c));
}

static void prefixes_contain_and_overlap_bit_by_bit(void **state _unused_)
{
    struct cidr big = cidr("10.0.0.0/8"), mid = cidr("10.64.0.0/10"), all = cidr("0.0.0.0/0");
    struct cidr other = cidr("10.128.0.0/10"), six = cidr("::/0");
    struct ip ip = ip4_from(0x0a400001);

    assert_true(cidr_contains(&mid, &ip));
    assert_false(cidr_contains(&other, &ip));
    assert_true(cidr_contains(&all, &ip));
    assert_false(cidr_contains(&six, &ip));
    assert_true(cidr_within(&mid, &big));
    assert_false(cidr_within(&big, &mid));
    assert_true(cidr_overlaps(&big, &mid) && cidr_overlaps(&mid, &big));
    assert_false(cidr_overlaps(&mid, &other));
    assert_false(cidr_overlaps(&all, &six));
    assert_true(ip4_num(&ip) == 0x0a400001);
    struct cidr six_mid = cidr("2001:db8::/33"), one = cidr("2001:db8:7fff::1");
    assert_true(cidr_contains(&six_mid, &one.ip));
    one = cidr("2001:db8:8000::1");
    assert_false(cidr_contains(&six_mid, &one.ip));
}

static struct ip ip(const char *s)
{
    struct ip a = { 0 };

    if (!ip_parse(str_of(s), &a))
        fail_msg("%s was refused", s);
    return a;
}

/* The first and the last address of each block, and the neighbours of each that are public. */
static const char *const special_purpose[] = {
    "0.0.0.0",
    "0.255.255.255",
    "10.0.0.0",
    "10.255.255.255",
    "100.64.0.0",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.255",
    "169.254.0.0",
    "169.254.169.254",
    "169.254.255.255",
    "172.16.0.0",
    "172.31.255.255",
    "192.0.0.0",
    "192.0.0.9",
    "192.0.0.255",
    "192.0.2.0",
    "192.0.2.255",
    "192.88.99.0",
    "192.88.99.255",
    "192.168.0.0",
    "192.168.255.255",
    "198.18.0.0",
    "198.19.255.255",
    "198.51.100.0",
    "198.51.100.255",
    "203.0.113.0",
    "203.0.113.255",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.0",
    "255.255.255.255",
    "::",
    "::1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:0:8.8.8.8",
    "64:ff9b::a00:1",
    "64:ff9b::127.0.0.1",
    "64:ff9b:1::1",
    "64:ff9b::1:8.8.8.8",
    "100::1",
    "100:0:0:1::1",
    "2001::",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:1ff:ffff::1",
    "2001:db8::",
    "2001:db8:ffff::1",
    "2002:7f00:1::1",
    "2002:808:808::1",
    "3fff::1",
    "3fff:fff:ffff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fdff:ffff::1",
    "fe80::1",
    "febf::1",
    "fec0::1",
    "ff02::1",
    "1fff:ffff::1",
    "4000::1",
};

static const char *const public_neighbours[] = {
    "1.0.0.0",         "9.255.255.255",    "11.0.0.0",        "100.63.255.255", "100.128.0.0",
    "126.255.255.255", "128.0.0.0",        "169.253.255.255", "169.255.0.0",    "172.15.255.255",
    "172.32.0.0",      "191.255.255.255",  "192.0.1.0",       "192.0.3.0",      "192.88.98.255",
    "192.88.100.0",    "192.167.255.255",  "192.169.0.0",     "198.17.255.255", "198.20.0.0",
    "198.51.99.255",   "198.51.101.0",     "203.0.112.255",   "203.0.114.0",    "223.255.255.255",
    "8.8.8.8",         "64:ff9b::8.8.8.8", "2000::1",         "2001:200::1",    "2001:db7::1",
    "2001:db9::1",     "2003::1",          "2606:4700::1111", "3ffe:ffff::1",   "3fff:1000::1",
};

static void no_special_purpose_address_is_public(void **state _unused_)
{
    struct ip none = { 0 };

    for (size_t i = 0; i < ARRAY_LEN(special_purpose); i++) {
        struct ip a = ip(special_purpose[i]);
        if (ip_is_public(&a))
            fail_msg("%s is called public", special_purpose[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(public_neighbours); i++) {
        struct ip a = ip(public_neighbours[i]);
        if (!ip_is_public(&a))
            fail_msg("%s is not called public", public_neighbours[i]);
    }
    assert_false(ip_is_public(&none));
}

static void a_client_is_an_address_or_a_prefix_of_64(void **state _unused_)
{
    static const char *const cases[][2] = {
        { "192.0.2.7", "192.0.2.7/32" },
        { "::ffff:192.0.2.7", "192.0.2.7/32" },
        { "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64" },
        { "2001:db8:1:2:ffff::1", "2001:db8:1:2::/64" },
        { "2001:db8:1:3::1", "2001:db8:1:3::/64" },
    };
    char out[CIDR_TEXT];
    struct ip ip;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_true(ip_parse(str_of(cases[i][0]), &ip));
        struct cidr c = cidr_of_client(&ip);
        cidr_format(&c, out);
        assert_string_equal(out, cases[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_written_as_rfc_5952_says),
        cmocka_unit_test(what_is_no_address_is_refused),
        cmocka_unit_test(prefixes_are_strict_about_host_bits_where_asked),
        cmocka_unit_test(prefixes_contain_and_overlap_bit_by_bit),
        cmocka_unit_test(no_special_purpose_address_is_public),
        cmocka_unit_test(a_client_is_an_address_or_a_prefix_of_64),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
