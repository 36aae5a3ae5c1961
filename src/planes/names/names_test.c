/* SPDX-License-Identifier: Apache-2.0 */
/* Agent and edge in one process, in a network namespace of its own that is the VPC's too. */
#include "planes/names/names.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "codec/id.h"
#include "drivers/net/handover.h"
#include "os/file.h"
#include "os/netlink.h"
#include "os/thread.h"
#include "os/unixsock.h"
#include "services/compute/names.h"

static char dir[64], path[80];
static int listener = -1, ns = -1;
static const struct uuid vpc = { "0199aaaa-0000-7000-8000-000000000001" };
static const struct ip addr = { 4, { 127, 0, 0, 10 } }, addr2 = { 4, { 127, 0, 0, 11 } };

/* ---- the edge, on a thread of its own */

static struct edge {
    struct names *names;
    pthread_t thread;
    atomic_bool stop;
} edge;

static void *edge_run(void *arg _unused_)
{
    while (!atomic_load(&edge.stop)) {
        struct pollfd p = { names_fd(edge.names), POLLIN, 0 };
        if (poll(&p, 1, 10) == 1)
            names_serve(edge.names);
    }
    return NULL;
}

static void edge_starts(void)
{
    struct vpc_name web = { .id = { "0199aaaa-0000-7000-8000-00000000000a" },
                            .vpc_id = vpc,
                            .name = "web",
                            .private_ip = "10.0.0.7" };
    struct err e;

    assert_non_null(edge.names = names_new(listener, "/dev/null", &e));
    struct feed_sink s = names_sink(edge.names);
    s.begin(s.ctx);
    assert_int_equal(s.row(s.ctx, &web, &e), 0);
    s.end(s.ctx);
    atomic_store(&edge.stop, false);
    edge.thread = thread_start("edge", edge_run, NULL);
}

static void edge_dies(void)
{
    atomic_store(&edge.stop, true);
    pthread_join(edge.thread, NULL);
    names_free(edge.names);
    edge.names = NULL;
}

static size_t edge_holds(void)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    struct held *h;
    size_t n = resolver_held(names_resolver(edge.names), &a, &h);

    for (size_t i = 0; i < 2 * n; i++)
        close(h[i / 2].fds[i % 2]);
    return n;
}

static void wait_holds(size_t n)
{
    for (int i = 0; i < 300 && edge_holds() != n; i++)
        usleep(10000);
    assert_int_equal(edge_holds(), n);
}

static struct handover *agent_starts(bool two)
{
    struct handover *h = handover_new(path);
    struct err e;

    assert_int_equal(handover_listen(h, &vpc, ns, &addr, &e), 0);
    if (two)
        assert_int_equal(handover_listen(h, &vpc, ns, &addr2, &e), 0);
    handover_begin(h);
    return h;
}

/* ---- who asks */

static int ask_begin(const struct ip *at)
{
    static const uint8_t q[] = {
        7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, 'W', 'e', 'b', 0, 0, 1, 0, 1
    };
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(53) };
    struct timeval patience = { .tv_sec = 5 };
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    memcpy(&sa.sin_addr, at->b, 4);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(send(fd, q, sizeof(q), 0), sizeof(q));
    return fd;
}

/* The last byte of the answer's address, or -errno. */
static int ask_end(int fd)
{
    uint8_t r[512];
    ssize_t n = recv(fd, r, sizeof(r), 0);
    int result = n < 0 ? -errno : r[7] ? r[n - 1] : -1000 - (r[3] & 15);

    close(fd);
    return result;
}

static int ask(const struct ip *at)
{
    return ask_end(ask_begin(at));
}

static void names_are_answered_whoever_of_the_two_dies(void **state _unused_)
{
    edge_starts();
    struct handover *h = agent_starts(false);

    assert_int_equal(ask(&addr), 7);
    for (int i = 0; i < 5; i++) {
        handover_free(h); /* as a kill: the edge keeps what it has */
        assert_int_equal(ask(&addr), 7);
        h = agent_starts(false);
        assert_int_equal(ask(&addr), 7);
        usleep(50000);
        wait_holds(1);
        edge_dies();
        int asked = ask_begin(&addr); /* waits for the next edge, with who made the agent's copy */
        edge_starts();
        assert_int_equal(ask_end(asked), 7);
        wait_holds(1);
    }
    /* Both at once: what was asked then is lost, what is asked later not. */
    handover_free(h);
    edge_dies();
    assert_int_equal(ask(&addr), -ECONNREFUSED);
    edge_starts();
    h = agent_starts(false);
    assert_int_equal(ask(&addr), 7);
    handover_unlisten(h, &vpc, NULL);
    wait_holds(0);
    handover_free(h);
    edge_dies();
}

static void what_is_wanted_no_more_is_dropped_also_by_an_edge_that_was_away(void **state _unused_)
{
    struct err e;

    edge_starts();
    struct handover *h = agent_starts(true);
    wait_holds(2);
    assert_int_equal(handover_listen(h, &vpc, ns, &addr, &e), 0); /* twice is fine */
    assert_int_equal(ask(&addr), 7);
    assert_int_equal(ask(&addr2), 7);
    handover_unlisten(h, &vpc, &addr2);
    wait_holds(1);
    assert_int_equal(ask(&addr2), -ECONNREFUSED);
    assert_int_equal(ask(&addr), 7);
    assert_int_equal(handover_listen(h, &vpc, ns, &addr2, &e), 0);
    assert_int_equal(ask(&addr2), 7);
    /* The next agent wants one of them. */
    handover_free(h);
    h = agent_starts(false);
    wait_holds(1);
    assert_int_equal(ask(&addr2), -ECONNREFUSED);
    assert_int_equal(ask(&addr), 7);
    edge_dies();
    handover_unlisten(h, &vpc, NULL);
    edge_starts();
    usleep(100000);
    wait_holds(0);
    handover_free(h);
    edge_dies();
}

/* The edge has fewer rights than the agent: what it claims to hold is looked at. */
static void sockets_that_are_not_what_they_are_said_to_be_are_not_taken(void **state _unused_)
{
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(5353) };
    struct stat st;
    struct err e;
    int fds[][DOOR_FDS] = {
        { open("/dev/null", O_RDWR), open("/dev/null", O_RDWR) },
        { socket(AF_INET, SOCK_DGRAM, 0), socket(AF_INET, SOCK_STREAM, 0) },
        { socket(AF_INET, SOCK_DGRAM, 0), socket(AF_INET, SOCK_STREAM, 0) },
    };

    memcpy(&sa.sin_addr, addr.b, 4);
    for (int i = 0; i < DOOR_FDS; i++)
        assert_int_equal(bind(fds[2][i], (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(fds[2][1], 1), 0);
    assert_int_equal(fstat(ns, &st), 0);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
        struct handover *h = agent_starts(false);
        struct door d = { DOOR_HOLDS, vpc, "127.0.0.10", (int64_t)st.st_ino };
        struct door last = { .verb = DOOR_END }, got;
        int agent = accept4(listener, NULL, NULL, SOCK_CLOEXEC), given[DOOR_FDS];

        assert_int_equal(door_send(agent, &d, fds[i], &e), 0);
        assert_int_equal(door_send(agent, &last, NULL, &e), 0);
        /* So it gives its own. */
        assert_int_equal(door_receive(agent, &a, &got, given, &e), 1);
        assert_int_equal(got.verb, DOOR_GIVE);
        assert_string_equal(got.address, "127.0.0.10");
        for (int k = 0; k < DOOR_FDS; k++) {
            close(given[k]);
            close(fds[i][k]);
        }
        close(agent);
        handover_free(h);
    }
}

static void nonsense_between_the_two_ends_the_connection_alone(void **state _unused_)
{
    static const char *const words[] = { "",
                                         "{",
                                         "[]",
                                         "{\"verb\":\"give\"}",
                                         "{\"verb\":\"up\"}",
                                         "{\"verb\":\"give\",\"vpc\":\"x\",\"address\":\"1\"}" };
    struct err e;

    edge_starts();
    struct handover *h = agent_starts(false);
    assert_int_equal(ask(&addr), 7);
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        int fd = unix_connect(path, UNIX_SEQPACKET, &e);
        assert_true(fd >= 0);
        assert_true(send(fd, words[i], strlen(words[i]), 0) >= 0);
        usleep(20000);
        close(fd);
    }
    assert_int_equal(ask(&addr), 7);
    handover_unlisten(h, &vpc, NULL);
    wait_holds(0);
    handover_free(h);
    edge_dies();
}

static int set_up(void **state _unused_)
{
    struct err e;

    snprintf(dir, sizeof(dir), "/var/tmp/brume-names-XXXXXX");
    if (!mkdtemp(dir) || unshare(CLONE_NEWNET) < 0)
        return -1;
    snprintf(path, sizeof(path), "%s/edge.sock", dir);
    listener = unix_listen(path, UNIX_SEQPACKET, 0600, &e);
    ns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
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
        cmocka_unit_test(names_are_answered_whoever_of_the_two_dies),
        cmocka_unit_test(what_is_wanted_no_more_is_dropped_also_by_an_edge_that_was_away),
        cmocka_unit_test(sockets_that_are_not_what_they_are_said_to_be_are_not_taken),
        cmocka_unit_test(nonsense_between_the_two_ends_the_connection_alone),
    };

    if (geteuid() != 0) {
        printf("needs root\n");
        return 77;
    }
    log_init(LOG_ERROR + 1, false, "test");
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
