/* SPDX-License-Identifier: Apache-2.0 */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "os/address.h"

static struct ip ip(const char *text)
{
    struct ip out;

    assert_true(ip_parse(str_of(text), &out));
    return out;
}

static void an_address_is_read_from_a_socket_s(void **state _unused_)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x01020304) };
    struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
    struct sockaddr local = { .sa_family = AF_UNIX };
    struct ip out, four = ip("1.2.3.4"), six = ip("::1");

    assert_true(ip_of_sockaddr((struct sockaddr *)&in, &out));
    assert_memory_equal(&out, &four, sizeof(out));
    assert_true(ip_of_sockaddr((struct sockaddr *)&in6, &out));
    assert_memory_equal(&out, &six, sizeof(out));
    assert_false(ip_of_sockaddr(&local, &out));
    assert_int_equal(out.family, 0);
    assert_false(ip_of_sockaddr(NULL, &out));
}

static void this_machine_knows_its_own(void **state _unused_)
{
    struct ip loopback = ip("127.0.0.1"), other = ip("192.0.2.77");

    assert_true(ip_is_own(&loopback));
    assert_false(ip_is_own(&other));
}

static void a_name_is_resolved(void **state _unused_)
{
    struct ip out[4], four = ip("127.0.0.1"), six = ip("::1");
    int n = ip_resolve("localhost", out, 4);

    assert_true(n > 0);
    for (int i = 0; i < n; i++)
        assert_true(memcmp(&out[i], &four, sizeof(four)) == 0 ||
                    memcmp(&out[i], &six, sizeof(six)) == 0);
    assert_int_equal(ip_resolve("localhost", out, 0), 0);
    assert_int_equal(ip_resolve("no name", out, 4), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_is_read_from_a_socket_s),
        cmocka_unit_test(this_machine_knows_its_own),
        cmocka_unit_test(a_name_is_resolved),
    };

    return cmocka_run_group_tests_name("address", tests, NULL, NULL);
}
