/* SPDX-License-Identifier: Apache-2.0 */
#include "os/conntrack.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "os/netlink.h"
#include "os/nft.h"
#include "os/ns.h"

enum { MANY = 3000 };

static const char rules[] = "table ip t {\n"
                            " chain o { type nat hook output priority 0; }\n"
                            " chain i { type filter hook input priority 0; ct state new accept; }\n"
                            "}\n";

/* A namespace that remembers what is said on its loopback. */
static int remembering(void)
{
    struct err e;
    int ns = ns_anonymous(&e);
    _cleanup_(nl_closep) struct nl *nl = nl_open(ns, &e);
    _cleanup_(nft_closep) struct nft *nft = nft_open(ns, &e);

    nl_link_up(nl, "lo");
    assert_int_equal(nl_commit(nl, "loopback", &e), 0);
    if (nft_run(nft, rules, &e) < 0)
        fail_msg("%s: %s", e.msg, e.cause);
    return ns;
}

static void say(int ns, int from, int to)
{
    struct sockaddr_in me = { .sin_family = AF_INET, .sin_port = htons((uint16_t)from) };
    struct sockaddr_in sa = { .sin_family = AF_INET,
                              .sin_port = htons((uint16_t)to),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct err e;
    int fd = ns_socket(ns, AF_INET, SOCK_DGRAM, 0, &e);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&me, sizeof(me)), 0);
    assert_int_equal(sendto(fd, "x", 1, 0, (struct sockaddr *)&sa, sizeof(sa)), 1);
    close(fd);
}

struct count {
    int seen;
    int below; /* flows from ports below are forgotten */
};

static bool look(const struct conntrack_flow *f, void *ctx)
{
    struct count *c = ctx;

    assert_int_equal(f->dst.b[0], 127);
    assert_memory_equal(f->dst.b, f->reply_src.b, 4);
    assert_memory_equal(f->src.b, f->reply_dst.b, 4);
    assert_int_equal(f->dport, f->reply_sport);
    assert_int_equal(f->sport, f->reply_dport);
    c->seen++;
    return f->sport < c->below;
}

static int forget_ports(int ns, const uint16_t *ports, size_t n, int below)
{
    struct count c = { .below = below };
    struct err e;

    if (conntrack_forget_udp(ns, ports, n, look, &c, &e) < 0)
        fail_msg("%s: %s", e.msg, e.cause);
    return c.seen;
}

static int forget(int ns, int port, int below)
{
    return forget_ports(ns, (const uint16_t[]){ (uint16_t)port }, 1, below);
}

static void flows_are_forgotten_by_port_and_by_what_is_said_of_them(void **state _unused_)
{
    int ns = remembering();

    assert_int_equal(forget(ns, 5000, 65536), 0);
    for (int i = 0; i < MANY; i++)
        say(ns, 20000 + i, 5000);
    say(ns, 20000, 5001);
    assert_int_equal(forget(ns, 5000, 0), MANY);
    assert_int_equal(forget(ns, 5000, 20001), MANY);
    assert_int_equal(forget(ns, 5000, 65536), MANY - 1);
    assert_int_equal(forget(ns, 5000, 65536), 0);
    assert_int_equal(forget(ns, 5001, 65536), 1);
    assert_int_equal(forget(ns, 5001, 65536), 0);
    close(ns);
}

static void flows_to_several_ports_are_forgotten_at_once(void **state _unused_)
{
    static const uint16_t ports[] = { 5000, 5002, 5003 };
    int ns = remembering();

    for (int to = 5000; to < 5004; to++)
        for (int i = 0; i < 10; i++)
            say(ns, 20000 + i, to);
    assert_int_equal(forget_ports(ns, ports, 0, 65536), 0);
    assert_int_equal(forget_ports(ns, ports, ARRAY_LEN(ports), 20004), 30);
    assert_int_equal(forget_ports(ns, ports, ARRAY_LEN(ports), 65536), 18);
    assert_int_equal(forget_ports(ns, ports, ARRAY_LEN(ports), 65536), 0);
    assert_int_equal(forget(ns, 5001, 65536), 10);
    close(ns);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flows_are_forgotten_by_port_and_by_what_is_said_of_them),
        cmocka_unit_test(flows_to_several_ports_are_forgotten_at_once),
    };

    if (geteuid() != 0) {
        printf("needs root\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
