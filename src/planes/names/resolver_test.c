/* SPDX-License-Identifier: Apache-2.0 */
/* Runs in a network namespace of its own, in which both the VPC's address and the host's resolver
 * are on the loopback link. */
#include "planes/names/resolver.h"

#include <arpa/inet.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "codec/dns.h"
#include "codec/id.h"
#include "os/file.h"
#include "os/netlink.h"
#include "os/ns.h"

static char dir[64], conf[80];
static const struct ip addr = { 4, { 127, 0, 0, 10 } };
static const struct uuid vpc = { "0199aaaa-0000-7000-8000-000000000001" };
static pid_t upstream;

static int connect_to(const char *ip, int type)
{
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(53) };
    struct timeval patience = { .tv_sec = 5 };
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

    inet_pton(AF_INET, ip, &sa.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    return fd;
}

static size_t make_query(uint8_t *q, const char *name)
{
    static const uint8_t head[12] = { 0xab, 0xcd, 1, 0, 0, 1 };
    size_t at = 12;

    memcpy(q, head, sizeof(head));
    for (const char *p = name; *p;) {
        size_t n = strcspn(p, ".");
        q[at++] = (uint8_t)n;
        memcpy(q + at, p, n);
        at += n;
        p += n + (p[n] == '.');
    }
    memcpy(q + at, "\0\0\1\0\1", 5);
    return at + 5;
}

/* Response code, and the last byte of the first address in '*last'. */
static int ask_at(const char *ip, const char *name, int type, int *last)
{
    uint8_t q[300], r[600];
    size_t n = make_query(q + 2, name);
    int fd = connect_to(ip, type);
    ssize_t got;

    if (type == SOCK_STREAM) {
        q[0] = 0;
        q[1] = (uint8_t)n;
        /* In two pieces, as a network may deliver it. */
        assert_int_equal(send(fd, q, 5, 0), 5);
        usleep(20000);
        assert_int_equal(send(fd, q + 5, n - 3, 0), n - 3);
        got = recv(fd, r, sizeof(r), 0) - 2;
        memmove(r, r + 2, sizeof(r) - 2);
    } else {
        assert_int_equal(send(fd, q + 2, n, 0), n);
        got = recv(fd, r, sizeof(r), 0);
    }
    close(fd);
    assert_true(got >= 12);
    assert_int_equal(r[0], 0xab);
    assert_int_equal(r[1], 0xcd);
    *last = r[7] ? r[got - 1] : -1;
    return r[3] & 15;
}

static int ask(const char *name, int type, int *last)
{
    return ask_at("127.0.0.10", name, type, last);
}

/* A resolver that answers every name with 192.0.2.77, or says nothing. */
static void start_upstream(bool silent)
{
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(53) };
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    static const uint8_t ip[1][4] = { { 192, 0, 2, 77 } };

    inet_pton(AF_INET, "127.0.0.20", &sa.sin_addr);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    upstream = fork();
    if (upstream == 0) {
        for (;;) {
            uint8_t q[600], r[600];
            struct dns_question question;
            enum dns_rcode code;
            socklen_t len = sizeof(sa);
            ssize_t n = recvfrom(fd, q, sizeof(q), 0, (struct sockaddr *)&sa, &len);
            if (n < 0 || silent || dns_query_parse(q, (size_t)n, &question, &code) != DNS_OK)
                continue;
            size_t m = dns_answer(q, &question, DNS_NOERROR, ip, 1, 60, r, sizeof(r));
            r[1] ^= 0xff; /* a forger who guessed the number wrong */
            sendto(fd, r, m, 0, (struct sockaddr *)&sa, len);
            r[1] ^= 0xff;
            sendto(fd, r, m, 0, (struct sockaddr *)&sa, len);
        }
    }
    close(fd);
}

static int stop_upstream(void **state _unused_)
{
    if (upstream > 0) {
        kill(upstream, SIGKILL);
        waitpid(upstream, NULL, 0);
        upstream = 0;
    }
    return 0;
}

static int bind_to(const struct ip *at, int type)
{
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(53) };
    int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;

    memcpy(&sa.sin_addr, at->b, 4);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    if (type == SOCK_STREAM)
        assert_int_equal(listen(fd, 16), 0);
    return fd;
}

static void listen_at(struct resolver *r, const struct uuid *v, const struct ip *at)
{
    struct held h = { *v, *at, 1, { bind_to(at, SOCK_DGRAM), bind_to(at, SOCK_STREAM) } };
    struct err e;

    assert_int_equal(resolver_take(r, &h, &e), 0);
}

static const struct uuid ids[] = { { "0199aaaa-0000-7000-8000-00000000000a" },
                                   { "0199aaaa-0000-7000-8000-00000000000b" },
                                   { "0199aaaa-0000-7000-8000-00000000000c" },
                                   { "0199aaaa-0000-7000-8000-00000000000d" } };

static struct resolver *start(const char *servers)
{
    struct err e;

    assert_int_equal(file_write(conf, servers, strlen(servers), 0644, &e), 0);
    struct resolver *r = resolver_new(conf, &e);
    assert_non_null(r);
    assert_int_equal(resolver_put(r, &ids[0], &vpc, "web", "10.0.0.7", &e), 0);
    assert_int_equal(resolver_put(r, &ids[1], &vpc, "Web", "10.0.0.8", &e), 0);
    assert_int_equal(resolver_put(r, &ids[2], &vpc, "a.b", "10.0.0.9", &e), 0);
    listen_at(r, &vpc, &addr);
    return r;
}

static void other_names_go_to_the_hosts_resolvers(void **state _unused_)
{
    int last;

    start_upstream(false);
    struct resolver *r = start("# none\nsearch x\nnameserver 127.0.0.20\n");
    assert_int_equal(ask("example.org", SOCK_DGRAM, &last), DNS_NOERROR);
    assert_int_equal(last, 77);
    assert_int_equal(ask("example.org", SOCK_STREAM, &last), DNS_NOERROR);
    assert_int_equal(last, 77);
    /* Ours never do. */
    assert_int_equal(ask("metadata.google.internal", SOCK_DGRAM, &last), DNS_NXDOMAIN);
    assert_int_equal(ask("web", SOCK_STREAM, &last), DNS_NOERROR);
    assert_true(last == 7 || last == 8);
    assert_int_equal(ask("a.b", SOCK_DGRAM, &last), DNS_NOERROR);
    assert_int_equal(last, 9);
    assert_int_equal(ask("a.b.default.internal", SOCK_DGRAM, &last), DNS_NOERROR);
    assert_int_equal(last, 9);
    resolver_free(r);
}

static void without_a_resolver_the_answer_is_servfail_at_once(void **state _unused_)
{
    struct resolver *r = start("");
    int last;

    assert_int_equal(ask("example.org", SOCK_DGRAM, &last), DNS_SERVFAIL);
    resolver_free(r);
}

static void a_silent_resolver_is_given_two_seconds(void **state _unused_)
{
    int last;

    start_upstream(true);
    struct resolver *r = start("nameserver 127.0.0.20\n");
    int64_t t = clock_mono(clock_system());
    assert_int_equal(ask("example.org", SOCK_DGRAM, &last), DNS_SERVFAIL);
    t = clock_mono(clock_system()) - t;
    assert_true(t > MILLIS(1800) && t < MILLIS(3500));
    resolver_free(r);
}

static void the_second_resolver_helps_where_the_first_is_away(void **state _unused_)
{
    int last;

    start_upstream(false);
    struct resolver *r = start("nameserver 127.0.0.30\nnameserver 127.0.0.20\n");
    assert_int_equal(ask("example.org", SOCK_DGRAM, &last), DNS_NOERROR);
    assert_int_equal(last, 77);
    resolver_free(r);
}

static void garbage_is_survived(void **state _unused_)
{
    struct resolver *r = start("");
    uint8_t junk[600];
    int last, fd = connect_to("127.0.0.10", SOCK_DGRAM),
              tcp = connect_to("127.0.0.10", SOCK_STREAM);

    for (size_t n = 0; n < sizeof(junk); n += 7) {
        memset(junk, (int)(n * 37), sizeof(junk));
        assert_true(send(fd, junk, n, 0) >= 0);
    }
    assert_true(send(tcp, junk, sizeof(junk), MSG_NOSIGNAL) > 0);
    close(fd);
    close(tcp);
    assert_int_equal(ask("web", SOCK_DGRAM, &last), DNS_NOERROR);
    resolver_free(r);
}

static void one_network_does_not_hold_all_connections(void **state _unused_)
{
    enum { HOGS = 300 };
    static const struct ip other_addr = { 4, { 127, 0, 0, 11 } };
    static const struct uuid other = { "0199aaaa-0000-7000-8000-000000000002" };
    struct resolver *r = start("");
    int fds[HOGS], last;
    struct err e;

    assert_int_equal(resolver_put(r, &ids[3], &other, "web", "10.0.0.5", &e), 0);
    listen_at(r, &other, &other_addr);
    for (int i = 0; i < HOGS; i++)
        fds[i] = connect_to("127.0.0.10", SOCK_STREAM);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(ask_at("127.0.0.11", "web", SOCK_STREAM, &last), DNS_NOERROR);
        assert_int_equal(last, 5);
    }
    assert_int_equal(ask("web", SOCK_DGRAM, &last), DNS_NOERROR);
    for (int i = 0; i < HOGS; i++)
        close(fds[i]);
    usleep(200000);
    assert_int_equal(ask("web", SOCK_STREAM, &last), DNS_NOERROR);
    resolver_free(r);
}

static void names_come_change_and_go(void **state _unused_)
{
    struct resolver *r = start("");
    const char *const bad[][2] = { { "a b", "10.0.0.1" },         { "", "10.0.0.1" },
                                   { ".x", "10.0.0.1" },          { "x", "10.0.0" },
                                   { "x\n10.0.0.1", "10.0.0.1" }, { "x", NULL } };
    struct zones *all = zones_new();
    struct err e;
    int last;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(resolver_put(r, &ids[3], &vpc, bad[i][0], bad[i][1], &e), -1);
        assert_int_equal(e.code, ERR_INVALID);
    }
    assert_int_equal(ask("web", SOCK_DGRAM, &last), DNS_NOERROR);
    /* Another name, another address, the same instance. */
    assert_int_equal(resolver_put(r, &ids[0], &vpc, "db", "10.0.0.70", &e), 0);
    assert_int_equal(ask("web", SOCK_DGRAM, &last), DNS_NOERROR);
    assert_int_equal(last, 8);
    assert_int_equal(ask("db", SOCK_DGRAM, &last), DNS_NOERROR);
    assert_int_equal(last, 70);
    resolver_forget(r, &ids[1]);
    resolver_forget(r, &ids[1]);
    assert_int_equal(ask("web", SOCK_DGRAM, &last), DNS_NXDOMAIN);
    /* All of them at once. */
    assert_int_equal(zones_put(all, &ids[3], &vpc, "new", "10.0.0.99", &e), 0);
    assert_int_equal(zones_count(all), 1);
    resolver_names(r, all);
    assert_int_equal(ask("db", SOCK_DGRAM, &last), DNS_NXDOMAIN);
    assert_int_equal(ask("new", SOCK_DGRAM, &last), DNS_NOERROR);
    assert_int_equal(last, 99);
    resolver_forget(r, &ids[3]);
    assert_int_equal(ask("new", SOCK_DGRAM, &last), DNS_NXDOMAIN);
    resolver_free(r);
}

static void a_large_zone_stays_sorted(void **state _unused_)
{
    enum { MANY = 3000 };
    _cleanup_(zones_freep) struct zones *z = zones_new();
    uint8_t found[ZONE_ANSWERS_MAX][4];
    char name[20], ip[20];
    struct uuid id;
    struct err e;
    size_t n;

    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < MANY; i++) {
            int k = i * 7919 % MANY;
            snprintf(id.s, sizeof(id.s), "0199aaaa-0000-7000-8000-%012d", k);
            snprintf(name, sizeof(name), "n%d", k);
            snprintf(ip, sizeof(ip), "10.%d.%d.%d", round, k / 256, k % 256);
            assert_int_equal(zones_put(z, &id, &vpc, name, ip, &e), 0);
        }
        assert_int_equal(zones_count(z), MANY);
    }
    for (int k = 0; k < MANY; k++) {
        snprintf(name, sizeof(name), "n%d", k);
        assert_int_equal(zone_ask(zones_of(z, &vpc), name, found, &n), ZONE_FOUND);
        assert_int_equal(n, 1);
        assert_int_equal(found[0][1] << 16 | found[0][2] << 8 | found[0][3], 2 << 16 | k);
    }
    for (int k = 0; k < MANY; k++) {
        snprintf(id.s, sizeof(id.s), "0199aaaa-0000-7000-8000-%012d", k);
        zones_drop(z, &id);
    }
    assert_int_equal(zones_count(z), 0);
    assert_null(zones_of(z, &vpc));
}

static void close_held(struct held *h, size_t n)
{
    for (size_t i = 0; i < 2 * n; i++)
        assert_int_equal(close(h[i / 2].fds[i % 2]), 0);
}

/* As an agent does with sockets of which it has kept copies. */
static void sockets_that_others_share_are_left_alone_once_dropped(void **state _unused_)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    struct resolver *r = start("");
    static const struct ip other_addr = { 4, { 127, 0, 0, 12 } };
    static const struct uuid other = { "0199aaaa-0000-7000-8000-000000000003" };
    int udp = bind_to(&other_addr, SOCK_DGRAM), tcp = bind_to(&other_addr, SOCK_STREAM), last;
    struct held h = { other, other_addr, 7, { -1, -1 } }, *held;
    struct err e;
    char q[2];

    assert_int_equal(resolver_put(r, &ids[3], &other, "web", "10.0.0.5", &e), 0);
    for (int i = 0; i < 3; i++) { /* the same again takes the place of what was there */
        h.fds[0] = dup(udp);
        h.fds[1] = dup(tcp);
        assert_int_equal(resolver_take(r, &h, &e), 0);
    }
    assert_int_equal(resolver_held(r, &a, &held), 2);
    close_held(held, 2);
    assert_int_equal(ask_at("127.0.0.12", "web", SOCK_DGRAM, &last), DNS_NOERROR);
    assert_int_equal(ask_at("127.0.0.12", "web", SOCK_STREAM, &last), DNS_NOERROR);
    assert_int_equal(last, 5);
    resolver_drop(r, &other, NULL);
    assert_int_equal(resolver_held(r, &a, &held), 1);
    close_held(held, 1);
    assert_string_equal(held[0].vpc.s, vpc.s);
    int fd = connect_to("127.0.0.12", SOCK_DGRAM);
    assert_int_equal(send(fd, "?", 1, 0), 1);
    usleep(50000);
    assert_int_equal(recv(udp, q, sizeof(q), 0), 1); /* nobody else has read it */
    close(fd);
    close(udp);
    close(tcp);
    resolver_free(r);
}

static void what_is_asked_of_one_that_drains_waits_for_the_next(void **state _unused_)
{
    struct resolver *r = start("");
    struct held h = { vpc, addr, 1, { -1, -1 } };
    int udp = bind_to(&(struct ip){ 4, { 127, 0, 0, 13 } }, SOCK_DGRAM), last;
    int tcp = bind_to(&(struct ip){ 4, { 127, 0, 0, 13 } }, SOCK_STREAM);
    uint8_t q[300], answer[300];
    struct err e;

    h.addr = (struct ip){ 4, { 127, 0, 0, 13 } };
    h.fds[0] = dup(udp);
    h.fds[1] = dup(tcp);
    assert_int_equal(resolver_take(r, &h, &e), 0);
    assert_int_equal(ask_at("127.0.0.13", "web", SOCK_DGRAM, &last), DNS_NOERROR);
    resolver_drain(r, SECONDS(1));
    int fd = connect_to("127.0.0.13", SOCK_DGRAM);
    size_t n = make_query(q, "a.b");
    assert_int_equal(send(fd, q, n, 0), n);
    usleep(20000);
    assert_int_equal(recv(fd, answer, sizeof(answer), MSG_DONTWAIT), -1);
    resolver_free(r);
    r = resolver_new(conf, &e);
    assert_int_equal(resolver_put(r, &ids[2], &vpc, "a.b", "10.0.0.9", &e), 0);
    h.fds[0] = udp;
    h.fds[1] = tcp;
    assert_int_equal(resolver_take(r, &h, &e), 0);
    ssize_t got = recv(fd, answer, sizeof(answer), 0);
    assert_true(got > 12);
    assert_int_equal(answer[got - 1], 9);
    close(fd);
    resolver_free(r);
}

static int set_up(void **state _unused_)
{
    struct err e;

    snprintf(dir, sizeof(dir), "/var/tmp/brume-dns-XXXXXX");
    if (!mkdtemp(dir) || unshare(CLONE_NEWNET) < 0)
        return -1;
    snprintf(conf, sizeof(conf), "%s/resolv.conf", dir);
    _cleanup_(nl_closep) struct nl *nl = nl_open(-1, &e);
    nl_link_up(nl, "lo");
    return nl_commit(nl, "lo", &e);
}

static int tear_down(void **state _unused_)
{
    struct err e;

    return dir_remove(dir, &e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(other_names_go_to_the_hosts_resolvers, stop_upstream),
        cmocka_unit_test(without_a_resolver_the_answer_is_servfail_at_once),
        cmocka_unit_test_teardown(a_silent_resolver_is_given_two_seconds, stop_upstream),
        cmocka_unit_test_teardown(the_second_resolver_helps_where_the_first_is_away, stop_upstream),
        cmocka_unit_test(garbage_is_survived),
        cmocka_unit_test(one_network_does_not_hold_all_connections),
        cmocka_unit_test(names_come_change_and_go),
        cmocka_unit_test(a_large_zone_stays_sorted),
        cmocka_unit_test(sockets_that_others_share_are_left_alone_once_dropped),
        cmocka_unit_test(what_is_asked_of_one_that_drains_waits_for_the_next),
    };

    if (geteuid() != 0) {
        printf("needs root\n");
        return 77;
    }
    log_init(LOG_WARN, false, "test");
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
