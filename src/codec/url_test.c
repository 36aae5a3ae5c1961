/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/url.h"

#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct arena arena = ARENA(1 << 20);

static const char *normal(const char *url, bool user)
{
    const char *wrong = url_check(&arena, "https http", user, &url);

    if (wrong)
        fail_msg("%s: %s", url, wrong);
    return url;
}

static void a_right_url_has_one_form(void **state _unused_)
{
    assert_string_equal(normal("https://example.com", false), "https://example.com/");
    assert_string_equal(normal("HTTPS://Example.COM:443/A/b?C=%2f%aB", false),
                        "https://example.com/A/b?C=%2F%AB");
    assert_string_equal(normal("http://example.com:80", false), "http://example.com/");
    assert_string_equal(normal("http://example.com:", false), "http://example.com/");
    assert_string_equal(normal("http://example.com:443?x", false), "http://example.com:443/?x");
    assert_string_equal(normal("https://10.0.0.1:8443/", false), "https://10.0.0.1:8443/");
    assert_string_equal(normal("https://[2001:DB8::1]:8443/a", false),
                        "https://[2001:db8::1]:8443/a");
    assert_string_equal(normal("https://xn--bcher-kva.example/@a:b;c", false),
                        "https://xn--bcher-kva.example/@a:b;c");
    assert_string_equal(normal("https://Ada:p%2fw@example.com/", true),
                        "https://Ada:p%2Fw@example.com/");
}

static void what_two_readers_understand_differently_is_none(void **state _unused_)
{
    static const char *const wrong[] = {
        "",
        "https",
        "https:",
        "https:/example.com/",
        "https:///a",
        "https://",
        "https://?",
        "//example.com/",
        "ftp://example.com/",
        "javascript://example.com/",
        "https://ada@example.com/",
        "https://@example.com/",
        "https://a@b@example.com/",
        "https://example.com#a",
        "https://example.com/a#",
        "https://example.com/a b",
        "https://example.com\\@evil.example/",
        "https://exam ple.com/",
        "https://ex_ample.com/",
        "https://example..com/",
        "https://.example.com/",
        "https://example.com./",
        "https://-a.example/",
        "https://a-.example/",
        "https://127.1/",
        "https://0x7f.0x1/",
        "https://2130706433/",
        "https://010.0.0.1/",
        "https://256.0.0.1/",
        "https://[::1/",
        "https://[::1]a/",
        "https://[127.0.0.1]/",
        "https://[fe80::1%25eth0]/",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://example.com:+80/",
        "https://example.com:80a/",
        "https://b\xc3\xbc"
        "cher.example/",
        "https://example.com/\xc3\xbc",
        "https://example.com/%2",
        "https://example.com/%zz",
        "https://example.com/<a>",
        "https://example.com/\n",
        " https://example.com/",
    };

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        const char *url = wrong[i];

        if (!url_check(&arena, "https http", false, &url))
            fail_msg("'%s' is taken for a URL", wrong[i]);
        assert_ptr_equal(url, wrong[i]);
    }
    const char *plain = "http://example.com/", *two = "https://a@b@example.com/";
    assert_non_null(url_check(&arena, "https", false, &plain));
    assert_non_null(url_check(&arena, "https", true, &two));
}

static void what_is_right_matches_the_pattern(void **state _unused_)
{
    static const char *const right[] = { "https://a", "HTTP://[::1]?x", "https://a.b:1/%20/?a=@" };
    regex_t re;

    assert_int_equal(regcomp(&re, URL_PATTERN, REG_EXTENDED | REG_NOSUB), 0);
    for (size_t i = 0; i < ARRAY_LEN(right); i++) {
        assert_int_equal(regexec(&re, right[i], 0, NULL, 0), 0);
        assert_int_equal(regexec(&re, normal(right[i], false), 0, NULL, 0), 0);
    }
    assert_int_not_equal(regexec(&re, "https://", 0, NULL, 0), 0);
    regfree(&re);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_right_url_has_one_form),
        cmocka_unit_test(what_two_readers_understand_differently_is_none),
        cmocka_unit_test(what_is_right_matches_the_pattern),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);

    arena_free(&arena);
    return rc;
}
