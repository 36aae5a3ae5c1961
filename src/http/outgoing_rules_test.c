/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/outgoing.h"

static const struct cidr loopback[] = { { { 4, { 127 } }, 8 } };
static struct err err;

static void each_kind_of_private_address_is_refused(void **state _unused_)
{
    static const struct {
        const char *ip;
        bool allowed;
    } table[] = {
        { "8.8.8.8", true },
        { "2606:4700::1111", true },
        { "64:ff9b::808:808", true },
        { "0.0.0.0", false },
        { "0.1.2.3", false },
        { "10.0.0.1", false },
        { "100.64.0.1", false },
        { "100.127.255.255", false },
        { "100.128.0.0", true },
        { "127.0.0.1", false },
        { "127.255.0.1", false },
        { "169.254.169.254", false },
        { "172.16.0.1", false },
        { "172.31.255.255", false },
        { "172.32.0.0", true },
        { "192.0.0.8", false },
        { "192.0.2.1", false },
        { "192.88.99.1", false },
        { "192.168.0.1", false },
        { "198.18.0.1", false },
        { "198.19.255.255", false },
        { "198.51.100.7", false },
        { "203.0.113.7", false },
        { "224.0.0.1", false },
        { "239.255.255.250", false },
        { "240.0.0.1", false },
        { "255.255.255.255", false },
        { "::", false },
        { "::1", false },
        { "::ffff:127.0.0.1", false },
        { "::ffff:10.0.0.1", false },
        { "::ffff:169.254.169.254", false },
        { "::7f00:1", false },
        { "64:ff9b::7f00:1", false },
        { "64:ff9b::a00:1", false },
        { "64:ff9b::a9fe:a9fe", false },
        { "64:ff9b:1::808:808", false },
        { "2002:7f00:1::", false },
        { "2002:a00:1::1", false },
        { "2001:0:53aa::1", false },
        { "2001:db8::1", false },
        { "3fff::1", false },
        { "fc00::1", false },
        { "fd12:3456::1", false },
        { "fe80::1", false },
        { "fec0::1", false },
        { "ff02::1", false },
        { "100::1", false },
    };
    static const struct cidr list[] = { { { 4, { 10 } }, 8 }, { { 6, { 0xfd } }, 8 } };
    struct ip ip;

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        assert_true(ip_parse(str_of(table[i].ip), &ip));
        if (outgoing_allowed(&ip, NULL, 0) != table[i].allowed)
            fail_msg("%s", table[i].ip);
    }
    assert_true(ip_parse(STR("10.0.0.1"), &ip) && outgoing_allowed(&ip, list, 2));
    assert_true(ip_parse(STR("fd00::1"), &ip) && outgoing_allowed(&ip, list, 2));
    assert_true(ip_parse(STR("8.8.8.8"), &ip) && outgoing_allowed(&ip, list, 2));
    assert_true(ip_parse(STR("11.0.0.1"), &ip) && outgoing_allowed(&ip, list, 2));
    assert_false(ip_parse(STR("127.0.0.1"), &ip) && outgoing_allowed(&ip, list, 2));
    assert_false(ip_parse(STR("::ffff:10.0.0.1"), &ip) && outgoing_allowed(&ip, list, 2));
    assert_false(ip_parse(STR("fe80::1"), &ip) && outgoing_allowed(&ip, list, 2));
}

static void a_url_is_checked_before_it_is_kept(void **state _unused_)
{
    static const char *const fine[] = {
        "http://example.com", "HTTPS://EXAMPLE.com:8443/a?b=c#d", "https://xn--bcher-kva.example/",
        "http://8.8.8.8/",    "http://[2606:4700::1111]:80/",     "http://127.0.0.1.example.com/",
        "http://127.0.0.1/"
    };
    static const char *const wrong[] = { "",
                                         "example.com",
                                         "//example.com/",
                                         "ftp://example.com/",
                                         "file:///etc/passwd",
                                         "gopher://example.com/",
                                         "javascript:alert(1)",
                                         "http://",
                                         "http:///path",
                                         "http://user@example.com/",
                                         "http://user:word@example.com/",
                                         "http://example.com:0/",
                                         "http://example.com:65536/",
                                         "http://example.com:x/",
                                         "http://exa mple.com/",
                                         "http://example.com/a b",
                                         "http://example.com/\r\nX: y",
                                         "http://\xc3\xbcn.example/",
                                         "http://*/",
                                         "http://example.com./",
                                         "http://a..b/",
                                         "http://[fe80::1%25eth0]/",
                                         "http://[::1/",
                                         "http://10.0.0.1/",
                                         "http://[::1]/",
                                         "http://[::ffff:127.0.0.1]/",
                                         "http://0x0a.1/",
                                         "http://167772161/",
                                         "http://%31%30.0.0.1/" };

    for (size_t i = 0; i < ARRAY_LEN(fine); i++)
        if (outgoing_check_url(fine[i], loopback, 1, &err) < 0)
            fail_msg("%s: %s", fine[i], err.msg);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        if (outgoing_check_url(wrong[i], loopback, 1, &err) == 0 || err.code != ERR_INVALID)
            fail_msg("%s", wrong[i]);
    assert_int_equal(outgoing_check_url("http://127.0.0.1/", NULL, 0, &err), -1);
    assert_string_equal(err.msg, "the URL leads to no public address");
    char *text = malloc(9000);
    assert_non_null(text);
    memset(text, 'a', 8999);
    text[8999] = '\0';
    memcpy(text, "http://b.c/", 11);
    assert_int_equal(outgoing_check_url(text, NULL, 0, &err), -1);
    free(text);
}

static void headers_that_frame_a_request_are_refused(void **state _unused_)
{
    static const char *const names[] = { "Host",     "HOST",       "Connection",
                                         "TE",       "Trailer",    "Transfer-Encoding",
                                         "Upgrade",  "Keep-Alive", "Proxy-Authorization",
                                         "Expect",   "",           "Content-Length",
                                         "A B",      "A:",         "A\r\nB",
                                         "\xc3\xa4", "A\n",        "Proxy-Connection" };
    static const char *const values[] = { "a\r\nb", "a\n", "\r", "a\x01", "\x7f" };

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (outgoing_check_header(names[i], "x", &err) == 0 || err.code != ERR_INVALID)
            fail_msg("%s", names[i]);
    for (size_t i = 0; i < ARRAY_LEN(values); i++)
        assert_int_equal(outgoing_check_header("X-A", values[i], &err), -1);
    assert_int_equal(outgoing_check_header("X-A", "", &err), 0);
    assert_int_equal(outgoing_check_header("Authorization", "Bearer a\tb \xc3\xa4", &err), 0);
}

static void retry_after_is_seconds_or_a_date(void **state _unused_)
{
    /* 1994-11-06T08:49:07Z */
    const int64_t now = SECONDS(784111747);
    static const struct {
        const char *value;
        int64_t seconds;
    } table[] = {
        { "0", 0 },
        { "120", 120 },
        { "99999999999999999999", 366 * 86400 },
        { "99999999", 366 * 86400 },
        { "Sun, 06 Nov 1994 08:49:37 GMT", 30 },
        { "Sunday, 06-Nov-94 08:49:37 GMT", 30 },
        { "Sun Nov  6 08:49:37 1994", 30 },
        { "Sun, 06 Nov 1994 08:49:00 GMT", 0 },
        { "Sun, 06 Nov 2094 08:49:00 GMT", 366 * 86400 },
        { "", -1 },
        { "-1", -1 },
        { "1.5", -1 },
        { "soon", -1 },
        { "Sun, 06 Nov 1994 08:49:37 GMT+1", -1 },
        { "Sun, 06 Nov 1994 08:49:37", -1 },
        { "Sun, 36 Nov 1994 08:49:37 GMT", -1 },
        { "Sun, 06 Nox 1994 08:49:37 GMT", -1 },
        { "Sun, 06 ovD 1994 08:49:37 GMT", -1 },
    };

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        int64_t got = outgoing_retry_after(str_of(table[i].value), now);
        if (got != table[i].seconds)
            fail_msg("%s: %ld", table[i].value, (long)got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_of_private_address_is_refused),
        cmocka_unit_test(a_url_is_checked_before_it_is_kept),
        cmocka_unit_test(headers_that_frame_a_request_are_refused),
        cmocka_unit_test(retry_after_is_seconds_or_a_date),
    };

    return cmocka_run_group_tests_name("outgoing_rules", tests, NULL, NULL);
}
