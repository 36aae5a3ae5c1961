/* SPDX-License-Identifier: Apache-2.0 */
/* The tests have a network namespace of their own that plays the host, and one beyond it that plays
 * the world; instances are plain namespaces. */
#include "drivers/net/net.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "codec/dns.h"
#include "codec/id.h"
#include "drivers/net/handover.h"
#include "os/file.h"
#include "os/netlink.h"
#include "os/nft.h"
#include "os/ns.h"
#include "os/thread.h"
#include "os/unixsock.h"

enum { PIDS_MAX = 64, TEXT = 64 };

static char dir[64], installation[9];
static int host_ns = -1, world_ns = -1;
static pid_t pids[PIDS_MAX];
static int n_pids;
static struct net *open_now;

/* ---- a small edge: it knows two names in each VPC ---- */

enum { DOORS = 64 };
static struct {
    pthread_mutex_t lock;
    char path[100];
    int listener, agent;
    size_t n;
    struct {
        struct uuid vpc;
        char address[IP_TEXT];
        int64_t netns;
        int fds[DOOR_FDS];
    } doors[DOORS];
} edge = { .lock = PTHREAD_MUTEX_INITIALIZER, .agent = -1 };

static void edge_drop(const struct uuid *vpc, const char *address)
{
    for (size_t i = edge.n; i-- > 0;) {
        if ((vpc && !uuid_eq(&edge.doors[i].vpc, vpc)) ||
            (address && strcmp(edge.doors[i].address, address) != 0))
            continue;
        close(edge.doors[i].fds[0]);
        close(edge.doors[i].fds[1]);
        edge.doors[i] = edge.doors[--edge.n];
    }
}

static void edge_hears(void)
{
    _cleanup_(arena_free) struct arena a = ARENA(KIB(16));
    int fds[DOOR_FDS];
    struct door d;
    struct err e;

    if (door_receive(edge.agent, &a, &d, fds, &e) != 1) {
        close(edge.agent);
        edge.agent = -1;
        return;
    }
    edge_drop(&d.vpc, d.address);
    if (d.verb != DOOR_GIVE || edge.n == DOORS)
        return;
    edge.doors[edge.n].vpc = d.vpc;
    edge.doors[edge.n].netns = d.netns;
    snprintf(edge.doors[edge.n].address, IP_TEXT, "%s", d.address);
    memcpy(edge.doors[edge.n++].fds, fds, sizeof(fds));
}

static void edge_greets(void)
{
    struct door end = { .verb = DOOR_END };
    struct err e;

    if (edge.agent >= 0)
        close(edge.agent);
    edge.agent = accept4(edge.listener, NULL, NULL, SOCK_CLOEXEC);
    for (size_t i = 0; i < edge.n; i++) {
        struct door d = { .verb = DOOR_HOLDS,
                          .vpc = edge.doors[i].vpc,
                          .address = edge.doors[i].address,
                          .netns = edge.doors[i].netns };
        (void)!door_send(edge.agent, &d, edge.doors[i].fds, &e);
    }
    (void)!door_send(edge.agent, &end, NULL, &e);
}

static void edge_answers(int fd)
{
    uint8_t q[600], r[600], ip[1][4] = { { 10, 77, 5, 11 } };
    struct sockaddr_in peer;
    socklen_t len = sizeof(peer);
    struct dns_question question;
    enum dns_rcode code;
    ssize_t n = recvfrom(fd, q, sizeof(q), MSG_DONTWAIT, (struct sockaddr *)&peer, &len);

    if (n <= 0 || dns_query_parse(q, (size_t)n, &question, &code) != DNS_OK)
        return;
    question.name[strcspn(question.name, ".")] = '\0';
    bool db = strcmp(question.name, "db") == 0, known = db || strcmp(question.name, "web") == 0;
    ip[0][3] = db ? 10 : 11;
    size_t m = dns_answer(q, &question, known ? DNS_NOERROR : DNS_NXDOMAIN, ip,
                          known && question.type == DNS_A, 5, r, sizeof(r));
    sendto(fd, r, m, 0, (struct sockaddr *)&peer, len);
}

static void *edge_run(void *arg _unused_)
{
    for (;;) {
        struct pollfd p[2 + DOORS];
        size_t n = 2;

        pthread_mutex_lock(&edge.lock);
        p[0] = (struct pollfd){ edge.listener, POLLIN, 0 };
        p[1] = (struct pollfd){ edge.agent, POLLIN, 0 };
        for (size_t i = 0; i < edge.n; i++)
            p[n++] = (struct pollfd){ edge.doors[i].fds[0], POLLIN, 0 };
        pthread_mutex_unlock(&edge.lock);
        poll(p, n, 20);
        pthread_mutex_lock(&edge.lock);
        for (size_t i = 2; i < n; i++)
            if (p[i].revents & POLLIN)
                edge_answers(p[i].fd);
        if (p[1].revents && p[1].fd == edge.agent)
            edge_hears();
        if (p[0].revents)
            edge_greets();
        pthread_mutex_unlock(&edge.lock);
    }
    return NULL;
}

static void edge_forgets(void)
{
    pthread_mutex_lock(&edge.lock);
    edge_drop(NULL, NULL);
    pthread_mutex_unlock(&edge.lock);
}

/* With the machine, and what it was sent and has not read with it. */
static void edge_dies(void)
{
    pthread_mutex_lock(&edge.lock);
    if (edge.agent >= 0)
        close(edge.agent);
    edge.agent = -1;
    edge_drop(NULL, NULL);
    pthread_mutex_unlock(&edge.lock);
}

static size_t edge_holds(void)
{
    pthread_mutex_lock(&edge.lock);
    size_t n = edge.n;
    pthread_mutex_unlock(&edge.lock);
    return n;
}

/* ---- small programs inside a namespace ---- */

static struct sockaddr_in address(const char *ip, int port)
{
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };

    if (inet_pton(AF_INET, ip, &sa.sin_addr) != 1)
        abort();
    return sa;
}

static void serve(int type, int fd, const char *word)
{
    for (;;) {
        struct sockaddr_in peer;
        socklen_t n = sizeof(peer);
        char ip[INET_ADDRSTRLEN], text[TEXT], in[TEXT];

        if (type == SOCK_STREAM) {
            int c = accept(fd, (struct sockaddr *)&peer, &n);
            if (c < 0)
                _exit(1);
            inet_ntop(AF_INET, &peer.sin_addr, ip, sizeof(ip));
            int len = snprintf(text, sizeof(text), "%s %s", word, ip);
            if (send(c, text, (size_t)len, MSG_NOSIGNAL) < 0)
                _exit(1);
            close(c);
        } else {
            if (recvfrom(fd, in, sizeof(in), 0, (struct sockaddr *)&peer, &n) < 0)
                _exit(1);
            inet_ntop(AF_INET, &peer.sin_addr, ip, sizeof(ip));
            int len = snprintf(text, sizeof(text), "%s %s", word, ip);
            sendto(fd, text, (size_t)len, 0, (struct sockaddr *)&peer, n);
        }
    }
}

/* A server that says 'word' and who asked. */
static void server(int ns, int type, const char *ip, int port, const char *word)
{
    struct sockaddr_in sa = address(ip, port);
    struct err e;
    int fd = ns_socket(ns, AF_INET, type, 0, &e), one = 1;

    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    if (type == SOCK_STREAM)
        assert_int_equal(listen(fd, 16), 0);
    pid_t pid = fork();
    if (pid == 0) {
        /* Not the sockets of the networks, which shall be free after a restart. */
        if (dup2(fd, 3) < 0 || close_range(4, ~0u, 0) < 0)
            _exit(1);
        serve(type, 3, word);
    }
    assert_true(pid > 0 && n_pids < PIDS_MAX);
    pids[n_pids++] = pid;
    close(fd);
}

static void stop_servers(void)
{
    while (n_pids) {
        kill(pids[--n_pids], SIGKILL);
        waitpid(pids[n_pids], NULL, 0);
    }
}

/* What the server says, or "" if it cannot be reached; 'from' NULL: any address. */
static const char *ask_from(int ns, int type, const char *from, const char *ip, int port)
{
    static char text[TEXT];
    struct sockaddr_in sa = address(ip, port);
    struct timeval patience = { .tv_usec = 700000 };
    struct err e;
    int fd = ns_socket(ns, AF_INET, type, 0, &e);

    assert_true(fd >= 0);
    memset(text, 0, sizeof(text));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    if (from) {
        struct sockaddr_in me = address(from, 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&me, sizeof(me)), 0);
    }
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0 &&
        (type == SOCK_STREAM || send(fd, "?", 1, 0) == 1) &&
        recv(fd, text, sizeof(text) - 1, 0) < 0)
        text[0] = '\0';
    close(fd);
    return text;
}

static const char *ask(int ns, const char *ip, int port)
{
    return ask_from(ns, SOCK_STREAM, NULL, ip, port);
}

/* True if the other side says at once that nobody listens. */
static bool refused(int ns, const char *ip, int port)
{
    struct sockaddr_in sa = address(ip, port);
    struct timeval patience = { .tv_usec = 700000 };
    struct err e;
    int fd = ns_socket(ns, AF_INET, SOCK_STREAM, 0, &e);

    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    bool no = connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 && errno == ECONNREFUSED;
    close(fd);
    return no;
}

/* ---- networks ---- */

static struct net *open_net_in(const char *transit)
{
    struct err e;
    struct net_opts o = { installation, dir, transit, 30000, 32767, edge.path };
    struct net *n = net_linux(&o, &e);

    if (!n)
        fail_msg("%s: %s", e.msg, e.cause);
    open_now = n;
    return n;
}

static struct net *open_net(void)
{
    return open_net_in("198.18.0.0/15");
}

static void close_net(struct net *n)
{
    net_free(n);
    open_now = NULL;
}

static struct uuid new_id(void)
{
    struct uuid u;

    uuid_new(clock_system(), &u);
    return u;
}

struct box {
    struct uuid id;
    int ns;
    struct net_publish publish[4];
    int listen[4];
    size_t n;
};

static int try_attach(struct net *n, struct box *b, const struct uuid *vpc, const char *ip,
                      int64_t mbps, struct err *e)
{
    struct net_port p = {
        .instance = b->id,
        .vpc = *vpc,
        .vpc_cidr = "10.77.0.0/16",
        .subnet_cidr = "10.77.5.0/24",
        .ip = ip,
        .gateway = "10.77.5.1",
        .dns = "10.77.5.2",
        .mbps = mbps,
        .publish = b->publish,
        .n_publish = b->n,
    };

    return net_attach(n, &p, b->ns, b->listen, e);
}

static struct box box_new(void)
{
    struct err e;
    struct box b = { .id = new_id(), .ns = ns_anonymous(&e), .listen = { -1, -1, -1, -1 } };

    assert_true(b.ns >= 0);
    return b;
}

static void attach(struct net *n, struct box *b, const struct uuid *vpc, const char *ip)
{
    struct err e;

    if (try_attach(n, b, vpc, ip, 0, &e) < 0)
        fail_msg("%s: %s", e.msg, e.cause);
}

static void publish(struct box *b, int host, int port, bool udp)
{
    b->publish[b->n++] = (struct net_publish){ host, port, udp };
}

static void box_end(struct net *n, struct box *b)
{
    struct err e;

    if (n && net_detach(n, &b->id, &e) < 0)
        fail_msg("%s: %s", e.msg, e.cause);
    for (int i = 0; i < 4; i++)
        if (b->listen[i] >= 0)
            close(b->listen[i]);
    close(b->ns);
}

/* All instances end, and what the kernel has of our networks and of anybody's rules is gone. */
static void machine_goes_down(struct net *n, struct box *boxes, size_t count)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(8));
    const char **names;
    struct err e;
    char prefix[32];
    size_t some;

    stop_servers();
    for (size_t i = 0; i < count; i++) {
        close(boxes[i].ns);
        for (int k = 0; k < 4; k++) {
            if (boxes[i].listen[k] >= 0)
                close(boxes[i].listen[k]);
            boxes[i].listen[k] = -1;
        }
        assert_true((boxes[i].ns = ns_anonymous(&e)) >= 0);
    }
    close_net(n);
    edge_dies();
    snprintf(prefix, sizeof(prefix), "brume-%s-", installation);
    assert_int_equal(ns_list(&a, prefix, &names, &some, &e), 0);
    for (size_t i = 0; i < some; i++)
        assert_int_equal(ns_remove(names[i], &e), 0);
    _cleanup_(nft_closep) struct nft *nft = nft_open(-1, &e);
    assert_int_equal(nft_run(nft, "flush ruleset", &e), 0);
    /* The links go with the namespaces, in the kernel's own time. */
    _cleanup_(nl_closep) struct nl *nl = nl_open(-1, &e);
    struct nl_link *links;
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(nl_link_list(nl, &a, "u", &links, &some, &e), 0);
        if (some == 0)
            return;
        usleep(20000);
    }
    fail_msg("the links stay");
}

/* Nothing of the installation is in the kernel, nor a port in the folder. */
static void assert_nothing_left(void)
{
    for (int i = 0; edge_holds() > 0 && i < 100; i++)
        usleep(10000);
    assert_int_equal(edge_holds(), 0);

    _cleanup_(arena_free) struct arena a = ARENA(MIB(8));
    _cleanup_(nl_closep) struct nl *nl = NULL;
    _cleanup_(nft_closep) struct nft *nft = NULL;
    const char **names, *rules;
    struct nl_link *links;
    struct err e;
    char prefix[32];
    size_t n;

    snprintf(prefix, sizeof(prefix), "brume-%s", installation);
    assert_int_equal(ns_list(&a, prefix, &names, &n, &e), 0);
    assert_int_equal(n, 0);
    assert_non_null(nl = nl_open(-1, &e));
    assert_int_equal(nl_link_list(nl, &a, "u", &links, &n, &e), 0);
    assert_int_equal(n, 0);
    assert_non_null(nft = nft_open(-1, &e));
    assert_int_equal(nft_list(nft, &a, "list ruleset", false, &rules, &e), 0);
    assert_string_equal(rules, "");
}

/* The address that a name has inside, "" if none, "?" without an answer. */
static const char *resolve(int ns, const char *name, int type)
{
    static char text[TEXT];
    uint8_t q[300] = { 0, 7, 1, 0, 0, 1 }, r[512];
    struct sockaddr_in sa = address("10.77.5.2", 53);
    struct timeval patience = { .tv_sec = 1 };
    struct err e;
    size_t at = 12;
    int fd = ns_socket(ns, AF_INET, SOCK_DGRAM, 0, &e);

    for (const char *p = name; *p;) {
        size_t n = strcspn(p, ".");
        q[at++] = (uint8_t)n;
        memcpy(q + at, p, n);
        at += n;
        p += n + (p[n] == '.');
    }
    q[at + 2] = (uint8_t)type;
    q[at + 4] = 1;
    at += 5;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    snprintf(text, sizeof(text), "?");
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0 && send(fd, q, at, 0) == (ssize_t)at) {
        ssize_t n = recv(fd, r, sizeof(r), 0);
        if (n >= 12 && (r[3] & 15) == DNS_NXDOMAIN)
            snprintf(text, sizeof(text), "nxdomain");
        else if (n >= 12 && (r[3] & 15) != 0)
            snprintf(text, sizeof(text), "code %d", r[3] & 15);
        else if (n >= 12 && r[7] == 0)
            text[0] = '\0';
        else if (n >= (ssize_t)at + 16)
            snprintf(text, sizeof(text), "%d.%d.%d.%d", r[at + 12], r[at + 13], r[at + 14],
                     r[at + 15]);
    }
    close(fd);
    return text;
}

/* ---- the tests ---- */

static void instances_of_a_vpc_reach_each_other_also_by_name(void **state _unused_)
{
    struct net *n = open_net();
    struct uuid vpc = new_id();
    struct box a = box_new(), b = box_new();
    struct net_counters c;
    struct err e;

    attach(n, &a, &vpc, "10.77.5.10");
    attach(n, &b, &vpc, "10.77.5.11");
    server(b.ns, SOCK_STREAM, "0.0.0.0", 80, "b");
    assert_string_equal(ask(a.ns, "10.77.5.11", 80), "b 10.77.5.10");
    assert_string_equal(resolve(a.ns, "web", DNS_A), "10.77.5.11");
    assert_string_equal(resolve(a.ns, "web.default.internal", DNS_A), "10.77.5.11");
    assert_string_equal(resolve(a.ns, "db.internal", DNS_A), "10.77.5.10");
    assert_string_equal(resolve(a.ns, "web", DNS_AAAA), "");
    assert_string_equal(resolve(a.ns, "nobody.default.internal", DNS_A), "nxdomain");
    assert_string_equal(resolve(a.ns, "nobody", DNS_A), "nxdomain");
    assert_int_equal(edge_holds(), 1);
    assert_int_equal(net_stats(n, &a.id, &c, &e), 0);
    assert_true(c.rx_packets > 3 && c.tx_packets > 3 && c.rx_bytes > 100);
    box_end(n, &a);
    box_end(n, &b);
    stop_servers();
    assert_nothing_left();
    close_net(n);
}

static void vpcs_with_the_same_addresses_do_not_meet(void **state _unused_)
{
    struct net *n = open_net();
    struct uuid v[2] = { new_id(), new_id() };
    struct box s[2] = { box_new(), box_new() }, c[2] = { box_new(), box_new() };

    for (int i = 0; i < 2; i++) {
        attach(n, &s[i], &v[i], "10.77.5.10");
        attach(n, &c[i], &v[i], i ? "10.77.5.12" : "10.77.5.11");
        server(s[i].ns, SOCK_STREAM, "0.0.0.0", 80, i ? "two" : "one");
    }
    assert_string_equal(ask(c[0].ns, "10.77.5.10", 80), "one 10.77.5.11");
    assert_string_equal(ask(c[1].ns, "10.77.5.10", 80), "two 10.77.5.12");
    assert_string_equal(ask(c[0].ns, "10.77.5.12", 80), "");
    for (int i = 0; i < 2; i++) {
        box_end(n, &s[i]);
        box_end(n, &c[i]);
    }
    stop_servers();
    assert_nothing_left();
    close_net(n);
}

static void a_published_port_answers_wherever_it_is_asked(void **state _unused_)
{
    struct net *n = open_net();
    struct uuid v[2] = { new_id(), new_id() };
    struct box a = box_new(), b = box_new(), c = box_new();

    publish(&a, 18080, 80, false);
    publish(&a, 18080, 53, true);
    publish(&b, 18081, 80, false);
    attach(n, &a, &v[0], "10.77.5.10");
    attach(n, &b, &v[1], "10.77.5.10");
    attach(n, &c, &v[0], "10.77.5.11");
    server(a.ns, SOCK_STREAM, "0.0.0.0", 80, "a");
    server(a.ns, SOCK_DGRAM, "0.0.0.0", 53, "u");
    server(b.ns, SOCK_STREAM, "0.0.0.0", 80, "b");
    /* From outside, its address stays; the same port in two VPCs. */
    assert_string_equal(ask(world_ns, "203.0.113.1", 18080), "a 203.0.113.2");
    assert_string_equal(ask(world_ns, "203.0.113.1", 18081), "b 203.0.113.2");
    assert_string_equal(ask_from(world_ns, SOCK_DGRAM, NULL, "203.0.113.1", 18080),
                        "u 203.0.113.2");
    /* From an address that the VPC has too. */
    assert_memory_equal(ask_from(world_ns, SOCK_STREAM, "10.77.5.11", "203.0.113.1", 18080),
                        "a 198.1", 7);
    /* From the host: loopback, and its own address. */
    assert_memory_equal(ask(host_ns, "127.0.0.1", 18080), "a 198.1", 7);
    assert_memory_equal(ask(host_ns, "127.0.0.1", 18081), "b 198.1", 7);
    assert_memory_equal(ask_from(host_ns, SOCK_DGRAM, NULL, "127.0.0.1", 18080), "u 198.1", 7);
    assert_memory_equal(ask(host_ns, "203.0.113.1", 18080), "a ", 2);
    /* From inside: itself, a neighbour, another VPC. */
    assert_memory_equal(ask(a.ns, "203.0.113.1", 18080), "a 198.1", 7);
    assert_memory_equal(ask(c.ns, "203.0.113.1", 18080), "a 198.1", 7);
    assert_memory_equal(ask(c.ns, "203.0.113.1", 18081), "b 198.1", 7);
    assert_memory_equal(ask(b.ns, "203.0.113.1", 18080), "a 198.1", 7);
    box_end(n, &a);
    assert_string_equal(ask(world_ns, "203.0.113.1", 18080), "");
    assert_string_equal(ask(world_ns, "203.0.113.1", 18081), "b 203.0.113.2");
    box_end(n, &b);
    box_end(n, &c);
    stop_servers();
    assert_nothing_left();
    close_net(n);
}

static void a_stopped_instance_refuses_and_keeps_its_ports(void **state _unused_)
{
    struct net *n = open_net();
    struct uuid vpc = new_id();
    struct box a = box_new(), b = box_new(), c = box_new();
    struct err e;

    publish(&a, 18080, 80, false);
    publish(&b, 18081, 80, false);
    attach(n, &a, &vpc, "10.77.5.10");
    attach(n, &b, &vpc, "10.77.5.11");
    server(a.ns, SOCK_STREAM, "0.0.0.0", 80, "a");
    server(b.ns, SOCK_STREAM, "0.0.0.0", 80, "b");
    assert_string_equal(ask(world_ns, "203.0.113.1", 18080), "a 203.0.113.2");
    for (int i = 0; i < 2; i++) { /* twice is once */
        assert_int_equal(net_unpublish(n, &a.id, &e), 0);
        assert_true(refused(world_ns, "203.0.113.1", 18080));
        assert_true(refused(host_ns, "127.0.0.1", 18080));
        assert_string_equal(ask(world_ns, "203.0.113.1", 18081), "b 203.0.113.2");
    }
    /* Nobody else gets the port, also when its holder has gone, and no later change brings it up.
     */
    close(a.listen[0]);
    a.listen[0] = -1;
    publish(&c, 18080, 80, false);
    assert_int_equal(try_attach(n, &c, &vpc, "10.77.5.12", 0, &e), -1);
    assert_int_equal(e.code, ERR_ALREADY_EXISTS);
    c.n = 0;
    attach(n, &c, &vpc, "10.77.5.12");
    assert_int_equal(net_sweep(n, (struct uuid[]){ a.id, b.id, c.id }, 3, &e), 0);
    assert_true(refused(world_ns, "203.0.113.1", 18080));
    /* It starts again: in its old namespace, then in a new one. */
    attach(n, &a, &vpc, "10.77.5.10");
    assert_true(a.listen[0] >= 0);
    assert_string_equal(ask(world_ns, "203.0.113.1", 18080), "a 203.0.113.2");
    assert_int_equal(net_unpublish(n, &a.id, &e), 0);
    close(a.listen[0]);
    a.listen[0] = -1;
    close(a.ns);
    assert_true((a.ns = ns_anonymous(&e)) >= 0);
    attach(n, &a, &vpc, "10.77.5.10");
    server(a.ns, SOCK_STREAM, "0.0.0.0", 80, "again");
    assert_string_equal(ask(world_ns, "203.0.113.1", 18080), "again 203.0.113.2");
    assert_int_equal(net_unpublish(n, &a.id, &e), 0);
    box_end(n, &a);
    assert_int_equal(net_unpublish(n, &a.id, &e), 0);
    box_end(n, &b);
    box_end(n, &c);
    stop_servers();
    assert_nothing_left();
    close_net(n);
}

/* ---- UDP: the kernel remembers who spoke with whom, and goes on as it did ---- */

/* A client that keeps its port. */
static int steady(int ns, int port, const char *ip, int to)
{
    struct sockaddr_in me = address("0.0.0.0", port), sa = address(ip, to);
    struct timeval patience = { .tv_usec = 700000 };
    struct err e;
    int fd = ns_socket(ns, AF_INET, SOCK_DGRAM, 0, &e);

    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    assert_int_equal(bind(fd, (struct sockaddr *)&me, sizeof(me)), 0);
    if (to)
        assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    return fd;
}

/* What one question gets. */
static const char *say(int fd)
{
    static char text[TEXT];
    int pending;
    socklen_t n = sizeof(pending);

    getsockopt(fd, SOL_SOCKET, SO_ERROR, &pending, &n); /* of the last one */
    memset(text, 0, sizeof(text));
    if (send(fd, "?", 1, 0) != 1 || recv(fd, text, sizeof(text) - 1, 0) < 0)
        text[0] = '\0';
    return text;
}

/* The word that all clients get. */
static void all_hear(const int *fds, size_t n, const char *word)
{
    for (size_t i = 0; i < n; i++) {
        const char *got = say(fds[i]);
        if (strncmp(got, word, strlen(word)) != 0 || (!*word && *got))
            fail_msg("client %zu hears '%s', not '%s'", i, got, word);
    }
}

static void restart(struct net *n, struct box *b, const struct uuid *vpc, const char *ip)
{
    struct err e;

    close(b->ns);
    if (b->listen[0] >= 0)
        close(b->listen[0]);
    assert_true((b->ns = ns_anonymous(&e)) >= 0);
    attach(n, b, vpc, ip);
}

/* Two ends that keep what they know of each other; 'to' is bound to no peer. */
struct pair {
    int from, to;
    struct sockaddr_in peer;
};

static void pair_meet(struct pair *p)
{
    socklen_t n = sizeof(p->peer);
    char in[TEXT];

    assert_int_equal(send(p->from, "?", 1, 0), 1);
    assert_int_equal(recvfrom(p->to, in, sizeof(in), 0, (struct sockaddr *)&p->peer, &n), 1);
}

/* The answer comes only by a flow that is remembered. */
static void pair_holds(struct pair *p)
{
    char in[TEXT];

    assert_int_equal(sendto(p->to, "!", 1, 0, (struct sockaddr *)&p->peer, sizeof(p->peer)), 1);
    if (recv(p->from, in, sizeof(in), 0) != 1)
        fail_msg("a stranger's flow is gone");
    close(p->from);
    close(p->to);
}

static void a_client_with_a_fixed_port_is_answered_at_once(void **state _unused_)
{
    struct net *n = open_net();
    struct uuid v[2] = { new_id(), new_id() };
    struct box a = box_new(), b = box_new(), c = box_new();
    struct err e;

    publish(&a, 18053, 53, true);
    publish(&b, 18054, 53, true);
    attach(n, &a, &v[0], "10.77.5.10");
    attach(n, &b, &v[1], "10.77.5.10");
    attach(n, &c, &v[0], "10.77.5.11");
    server(a.ns, SOCK_DGRAM, "0.0.0.0", 53, "first");
    const int clients[] = {
        steady(world_ns, 41000, "203.0.113.1", 18053), steady(host_ns, 41001, "127.0.0.1", 18053),
        steady(host_ns, 41002, "203.0.113.1", 18053), steady(b.ns, 41003, "203.0.113.1", 18053),
        steady(c.ns, 41004, "203.0.113.1", 18053),
        /* These first speak while nobody answers. */
        steady(world_ns, 42000, "203.0.113.1", 18053), steady(host_ns, 42001, "127.0.0.1", 18053),
        steady(b.ns, 42002, "203.0.113.1", 18053), steady(c.ns, 42003, "203.0.113.1", 18053)
    };
    /* Others' flows: of another port, of the same number elsewhere. */
    struct pair other = { steady(world_ns, 41000 + 1, "203.0.113.1", 18054),
                          steady(b.ns, 53, "0.0.0.0", 0),
                          { 0 } };
    struct pair far = { steady(c.ns, 41005, "203.0.113.2", 18053),
                        steady(world_ns, 18053, "0.0.0.0", 0),
                        { 0 } };
    pair_meet(&other);
    pair_meet(&far);
    all_hear(clients, 5, "first");
    stop_servers();
    assert_int_equal(net_unpublish(n, &a.id, &e), 0);
    close(a.listen[0]); /* as the end of its shim does */
    a.listen[0] = -1;
    all_hear(clients, ARRAY_LEN(clients), "");
    restart(n, &a, &v[0], "10.77.5.10");
    server(a.ns, SOCK_DGRAM, "0.0.0.0", 53, "second");
    all_hear(clients, ARRAY_LEN(clients), "second");
    /* Published anew: another port of the instance, without a stop. */
    stop_servers();
    a.publish[0].port = 54;
    restart(n, &a, &v[0], "10.77.5.10");
    server(a.ns, SOCK_DGRAM, "0.0.0.0", 54, "moved");
    all_hear(clients, ARRAY_LEN(clients), "moved");
    /* By another instance of the network, then one of another network. */
    stop_servers();
    box_end(n, &a);
    all_hear(clients, ARRAY_LEN(clients), "");
    for (int i = 0; i < 2; i++) {
        struct box next = box_new();
        publish(&next, 18053, 53, true);
        attach(n, &next, &v[i], "10.77.5.20");
        server(next.ns, SOCK_DGRAM, "0.0.0.0", 53, i ? "fourth" : "third");
        all_hear(clients, ARRAY_LEN(clients), i ? "fourth" : "third");
        stop_servers();
        box_end(n, &next);
    }
    pair_holds(&other);
    pair_holds(&far);
    for (size_t i = 0; i < ARRAY_LEN(clients); i++)
        close(clients[i]);
    box_end(n, &b);
    box_end(n, &c);
    assert_nothing_left();
    close_net(n);
}

/* Waits until the link of an instance has gone with its namespace: the kernel takes its time. */
static void assert_link_goes(struct net *n, const struct uuid *id)
{
    struct net_counters c;
    struct err e;

    for (int i = 0; i < 200 && net_stats(n, id, &c, &e) == 0; i++)
        usleep(20000);
    assert_int_equal(net_stats(n, id, &c, &e), -1);
}

static void a_client_of_what_ended_unseen_is_refused(void **state _unused_)
{
    struct net *n = open_net();
    struct uuid vpc = new_id();
    struct box a = box_new(), b = box_new();

    publish(&a, 18053, 53, true);
    attach(n, &a, &vpc, "10.77.5.10");
    attach(n, &b, &vpc, "10.77.5.11");
    server(a.ns, SOCK_DGRAM, "0.0.0.0", 53, "first");
    int client = steady(world_ns, 41000, "203.0.113.1", 18053);
    assert_memory_equal(say(client), "first", 5);
    stop_servers();
    close(a.ns);
    close(a.listen[0]);
    a.listen[0] = -1;
    assert_link_goes(n, &a.id);
    close_net(n);
    n = open_net();
    errno = 0;
    assert_string_equal(say(client), "");
    assert_int_equal(errno, ECONNREFUSED);
    close(client);
    a.ns = dup(b.ns);
    box_end(n, &a);
    box_end(n, &b);
    assert_nothing_left();
    close_net(n);
}

static void instances_reach_the_world_but_nothing_of_the_host(void **state _unused_)
{
    struct net *n = open_net();
    _cleanup_(arena_free) struct arena arena = ARENA(MIB(8));
    struct uuid v[2] = { new_id(), new_id() };
    struct box a = box_new(), b = box_new();
    struct cidr *addrs;
    struct err e;
    size_t count;

    attach(n, &a, &v[0], "10.77.5.10");
    attach(n, &b, &v[1], "10.77.5.11");
    server(world_ns, SOCK_STREAM, "0.0.0.0", 7000, "world");
    server(host_ns, SOCK_STREAM, "0.0.0.0", 7000, "host");
    assert_string_equal(ask(a.ns, "203.0.113.2", 7000), "world 203.0.113.1");
    assert_string_equal(ask(world_ns, "203.0.113.1", 7000), "host 203.0.113.2");
    assert_string_equal(ask(a.ns, "203.0.113.1", 7000), "");
    assert_string_equal(ask(a.ns, "10.77.5.1", 7000), "");
    /* Neither by the transit addresses, its own or another's. */
    _cleanup_(nl_closep) struct nl *nl = nl_open(-1, &e);
    assert_non_null(nl);
    assert_int_equal(nl_addr_list(nl, &arena, &addrs, &count, &e), 0);
    int seen = 0;
    for (size_t i = 0; i < count; i++) {
        char ip[IP_TEXT];
        if (addrs[i].ip.b[0] != 198)
            continue;
        seen++;
        ip_format(&addrs[i].ip, ip);
        assert_string_equal(ask(a.ns, ip, 7000), "");
        addrs[i].ip.b[3]++;
        ip_format(&addrs[i].ip, ip);
        assert_string_equal(ask(a.ns, ip, 7000), "");
        assert_string_equal(ask(world_ns, ip, 7000), "");
    }
    assert_int_equal(seen, 2);
    box_end(n, &a);
    box_end(n, &b);
    stop_servers();
    assert_nothing_left();
    close_net(n);
}

static void an_instance_speaks_only_with_its_own_address(void **state _unused_)
{
    struct net *n = open_net();
    struct uuid vpc = new_id();
    struct box a = box_new(), b = box_new();
    struct ip forged = { 4, { 10, 77, 5, 99 } };
    struct nl_link l;
    struct err e;

    attach(n, &a, &vpc, "10.77.5.10");
    attach(n, &b, &vpc, "10.77.5.11");
    server(b.ns, SOCK_STREAM, "0.0.0.0", 80, "b");
    _cleanup_(nl_closep) struct nl *nl = nl_open(a.ns, &e);
    assert_non_null(nl);
    assert_int_equal(nl_link_get(nl, "eth0", &l, &e), 0);
    nl_addr(nl, l.index, &forged, 24, 0);
    assert_int_equal(nl_commit(nl, "forge", &e), 0);
    assert_string_equal(ask_from(a.ns, SOCK_STREAM, "10.77.5.99", "10.77.5.11", 80), "");
    assert_string_equal(ask(a.ns, "10.77.5.11", 80), "b 10.77.5.10");
    box_end(n, &a);
    box_end(n, &b);
    stop_servers();
    assert_nothing_left();
    close_net(n);
}

static void a_restart_finds_everything_again(void **state _unused_)
{
    _cleanup_(arena_free) struct arena arena = ARENA(MIB(1));
    struct net *n = open_net();
    struct uuid vpc = new_id(), other = new_id(), *ids;
    struct box a = box_new(), b = box_new();
    struct err e;
    size_t count;

    publish(&a, 18080, 80, false);
    attach(n, &a, &vpc, "10.77.5.10");
    attach(n, &b, &other, "10.77.5.10");
    server(a.ns, SOCK_STREAM, "0.0.0.0", 80, "a");
    close_net(n);
    assert_string_equal(ask(world_ns, "203.0.113.1", 18080), "a 203.0.113.2");
    /* Names are answered also while there is no agent. */
    assert_string_equal(resolve(a.ns, "web", DNS_A), "10.77.5.11");
    assert_int_equal(edge_holds(), 2);
    n = open_net();
    assert_string_equal(resolve(a.ns, "web", DNS_A), "10.77.5.11");
    /* And when the edge has died: what was asked meanwhile too. */
    usleep(200000);
    edge_forgets();
    assert_string_equal(resolve(a.ns, "web", DNS_A), "?");
    shutdown(edge.agent, SHUT_RDWR);
    assert_string_equal(resolve(a.ns, "web", DNS_A), "10.77.5.11");
    assert_string_equal(ask(world_ns, "203.0.113.1", 18080), "a 203.0.113.2");
    assert_int_equal(net_list(n, &arena, &ids, &count, &e), 0);
    assert_int_equal(count, 2);
    /* Attached again, as the order says again: nothing changes, the held port is not ours to hold.
     */
    int held = a.listen[0];
    assert_true(held >= 0);
    attach(n, &a, &vpc, "10.77.5.10");
    assert_int_equal(a.listen[0], -1);
    a.listen[0] = held;
    assert_string_equal(ask(world_ns, "203.0.113.1", 18080), "a 203.0.113.2");
    /* Somebody flushed the firewall: the next start writes it anew. */
    struct nft *nft = nft_open(-1, &e);
    assert_int_equal(nft_run(nft, "flush ruleset", &e), 0);
    nft_close(nft);
    close_net(n);
    n = open_net();
    assert_string_equal(ask(world_ns, "203.0.113.1", 18080), "a 203.0.113.2");
    /* What nobody wants is swept. */
    assert_int_equal(net_sweep(n, &a.id, 1, &e), 0);
    assert_int_equal(net_list(n, &arena, &ids, &count, &e), 0);
    assert_int_equal(count, 1);
    assert_string_equal(ids[0].s, a.id.s);
    box_end(n, &a);
    box_end(n, &b);
    close_net(n);
    stop_servers();
    assert_nothing_left();
}

/* More than one batch to the kernel holds. */
static void a_restart_finds_a_large_network_again(void **state _unused_)
{
    enum { MANY = 40 };
    struct net *n = open_net();
    struct uuid vpc = new_id();
    struct box b[MANY];
    char ip[20];

    for (int i = 0; i < MANY; i++) {
        b[i] = box_new();
        snprintf(ip, sizeof(ip), "10.77.5.%d", 10 + i);
        attach(n, &b[i], &vpc, ip);
    }
    close_net(n);
    n = open_net();
    assert_string_equal(resolve(b[MANY - 1].ns, "web", DNS_A), "10.77.5.11");
    for (int i = 0; i < MANY; i++)
        box_end(n, &b[i]);
    close_net(n);
    assert_nothing_left();
}

static void an_instance_that_ended_keeps_its_ports_over_restarts(void **state _unused_)
{
    struct net *n = open_net();
    struct uuid vpc = new_id(), other = new_id();
    struct box a = box_new(), b = box_new(), c = box_new();
    _cleanup_(arena_free) struct arena arena = ARENA(MIB(1));
    const char **names;
    struct err e;
    char prefix[32];
    size_t count;

    publish(&a, 18080, 80, false);
    publish(&a, 0, 81, true);
    attach(n, &a, &vpc, "10.77.5.10");
    attach(n, &c, &vpc, "10.77.5.12");
    publish(&b, 18080, 80, false);
    assert_int_equal(net_sync(n, &a.id, &e), 0);
    int picked = a.publish[1].host_port;
    for (int round = 0; round < 3; round++) {
        /* It ends; then the agent does: by itself, with the firewall, with the whole machine. */
        close(a.ns);
        for (int i = 0; i < 2; i++) {
            close(a.listen[i]);
            a.listen[i] = -1;
        }
        assert_int_equal(net_unpublish(n, &a.id, &e), 0);
        assert_link_goes(n, &a.id);
        close_net(n);
        if (round == 2) {
            snprintf(prefix, sizeof(prefix), "brume-%s-", installation);
            assert_int_equal(ns_list(&arena, prefix, &names, &count, &e), 0);
            assert_int_equal(count, 1);
            assert_int_equal(ns_remove(names[0], &e), 0);
            close(c.ns);
        }
        if (round > 0) {
            struct nft *nft = nft_open(-1, &e);
            assert_int_equal(nft_run(nft, "flush ruleset", &e), 0);
            nft_close(nft);
        }
        n = open_net();
        assert_int_equal(net_sweep(n, (struct uuid[]){ a.id, c.id }, 2, &e), 0);
        assert_true(refused(world_ns, "203.0.113.1", 18080));
        assert_int_equal(try_attach(n, &b, &other, "10.77.5.10", 0, &e), -1);
        assert_int_equal(e.code, ERR_ALREADY_EXISTS);
        if (round == 2)
            assert_true((c.ns = ns_anonymous(&e)) >= 0);
        attach(n, &c, &vpc, "10.77.5.12");
        /* It starts again, with what it had. */
        assert_true((a.ns = ns_anonymous(&e)) >= 0);
        a.publish[1].host_port = 0;
        attach(n, &a, &vpc, "10.77.5.10");
        assert_int_equal(a.publish[1].host_port, picked);
        assert_true(a.listen[0] >= 0 && a.listen[1] >= 0);
        server(a.ns, SOCK_STREAM, "0.0.0.0", 80, "a");
        assert_string_equal(ask(world_ns, "203.0.113.1", 18080), "a 203.0.113.2");
        assert_string_equal(ask(c.ns, "10.77.5.10", 80), "a 10.77.5.12");
        stop_servers();
    }
    box_end(n, &a);
    box_end(n, &c);
    attach(n, &b, &other, "10.77.5.10"); /* free now */
    box_end(n, &b);
    assert_nothing_left();
    close_net(n);
}

static void an_ended_instances_port_can_be_a_strangers(void **state _unused_)
{
    struct sockaddr_in sa = address("0.0.0.0", 18080);
    struct net *n = open_net();
    struct uuid vpc = new_id();
    struct box a = box_new();
    struct err e;

    publish(&a, 18080, 80, false);
    attach(n, &a, &vpc, "10.77.5.10");
    assert_int_equal(net_unpublish(n, &a.id, &e), 0);
    close(a.listen[0]);
    a.listen[0] = -1;
    int stranger = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(stranger, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(try_attach(n, &a, &vpc, "10.77.5.10", 0, &e), -1);
    assert_int_equal(e.code, ERR_ALREADY_EXISTS);
    close(stranger);
    attach(n, &a, &vpc, "10.77.5.10");
    box_end(n, &a);
    assert_nothing_left();
    close_net(n);
}

static void an_instance_that_is_gone_is_forgotten(void **state _unused_)
{
    struct net *n = open_net();
    struct uuid vpc = new_id();
    struct box a = box_new();
    struct err e;

    attach(n, &a, &vpc, "10.77.5.10");
    close(a.ns);
    assert_link_goes(n, &a.id);
    close_net(n);
    n = open_net();
    assert_int_equal(net_sweep(n, NULL, 0, &e), 0);
    assert_nothing_left();
    close_net(n);
}

static void a_port_in_use_is_refused_and_port_0_picks_a_free_one(void **state _unused_)
{
    struct net *n = open_net();
    struct uuid vpc = new_id();
    struct box a = box_new(), b = box_new(), c = box_new();
    struct err e;

    server(host_ns, SOCK_STREAM, "0.0.0.0", 18090, "host");
    publish(&a, 18090, 80, false);
    assert_int_equal(try_attach(n, &a, &vpc, "10.77.5.10", 0, &e), -1);
    assert_int_equal(e.code, ERR_ALREADY_EXISTS);
    assert_non_null(strstr(e.msg, "18090/tcp"));
    assert_nothing_left();
    publish(&b, 0, 80, false);
    publish(&b, 0, 81, true);
    attach(n, &b, &vpc, "10.77.5.11");
    for (int i = 0; i < 2; i++) {
        assert_true(b.publish[i].host_port >= 30000 && b.publish[i].host_port <= 32767);
        assert_true(b.listen[i] >= 0);
    }
    /* What it holds, nobody else gets. */
    publish(&c, b.publish[0].host_port, 80, false);
    assert_int_equal(try_attach(n, &c, &vpc, "10.77.5.12", 0, &e), -1);
    assert_int_equal(e.code, ERR_ALREADY_EXISTS);
    server(b.ns, SOCK_STREAM, "0.0.0.0", 80, "b");
    assert_string_equal(ask(world_ns, "203.0.113.1", b.publish[0].host_port), "b 203.0.113.2");
    box_end(NULL, &a);
    box_end(n, &b);
    box_end(NULL, &c);
    stop_servers();
    assert_nothing_left();
    close_net(n);
}

static void bad_orders_are_refused_whole(void **state _unused_)
{
    struct net *n = open_net();
    struct box a = box_new();
    struct net_port good = {
        .instance = a.id,
        .vpc = new_id(),
        .vpc_cidr = "10.77.0.0/16",
        .subnet_cidr = "10.77.5.0/24",
        .ip = "10.77.5.10",
        .gateway = "10.77.5.1",
        .dns = "10.77.5.2",
    };
    struct net_publish twice[] = { { 18080, 80, false }, { 18080, 81, false } };
    struct net_port bad[7];
    int listen[2];
    struct err e;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        bad[i] = good;
    bad[0].ip = "10.77.6.10";
    bad[1].vpc_cidr = "198.18.0.0/16";
    bad[2].gateway = "nonsense";
    bad[3].subnet_cidr = "10.77.5.1/24";
    bad[4].mbps = -1;
    bad[5].publish = twice;
    bad[5].n_publish = 2;
    snprintf(bad[6].instance.s, sizeof(bad[6].instance.s), "../../../etc/passwd");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(net_attach(n, &bad[i], a.ns, listen, &e), -1);
        assert_int_equal(e.code, ERR_INVALID);
    }
    /* A descriptor that is no namespace. */
    _cleanup_close_ int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(net_attach(n, &good, null, listen, &e), -1);
    assert_nothing_left();
    assert_int_equal(net_detach(n, &a.id, &e), 0);
    close(a.ns);
    close_net(n);
}

static void
a_stranger_who_drops_forwarded_packets_is_asked_to_let_ours_through(void **state _unused_)
{
    static const char *const chains[] = { "", " chain DOCKER-USER {\n }" };
    struct err e;

    for (size_t i = 0; i < ARRAY_LEN(chains); i++) {
        struct net *n = open_net();
        _cleanup_(nft_closep) struct nft *nft = nft_open(-1, &e);
        _cleanup_(arena_free) struct arena arena = ARENA(MIB(1));
        struct uuid vpc = new_id();
        struct box a = box_new();
        const char *before, *after;
        char rules[256];

        snprintf(rules, sizeof(rules),
                 "table ip filter {\n%s\n chain FORWARD {\n"
                 "  type filter hook forward priority 0; policy drop;\n%s\n }\n}\n",
                 chains[i], *chains[i] ? "jump DOCKER-USER" : "");
        if (nft_run(nft, rules, &e) < 0)
            fail_msg("%s", e.cause);
        assert_int_equal(nft_list(nft, &arena, "list ruleset", false, &before, &e), 0);
        publish(&a, 18080, 80, false);
        attach(n, &a, &vpc, "10.77.5.10");
        server(a.ns, SOCK_STREAM, "0.0.0.0", 80, "a");
        assert_string_equal(ask(world_ns, "203.0.113.1", 18080), "a 203.0.113.2");
        /* The stranger comes back with the machine, our rules in its table do not. */
        machine_goes_down(n, &a, 1);
        assert_int_equal(nft_run(nft, rules, &e), 0);
        n = open_net();
        attach(n, &a, &vpc, "10.77.5.10");
        server(a.ns, SOCK_STREAM, "0.0.0.0", 80, "a");
        assert_string_equal(ask(world_ns, "203.0.113.1", 18080), "a 203.0.113.2");
        box_end(n, &a);
        assert_int_equal(nft_list(nft, &arena, "list ruleset", false, &after, &e), 0);
        assert_string_equal(before, after);
        assert_int_equal(nft_run(nft, "delete table ip filter", &e), 0);
        stop_servers();
        assert_nothing_left();
        close_net(n);
    }
}

/* Somebody else has, or no longer has, every pair of the transit prefix of the test. */
static void transit_is_anothers(bool taken)
{
    _cleanup_(nl_closep) struct nl *nl = NULL;
    struct nl_link l;
    struct err e;

    assert_non_null(nl = nl_open(-1, &e));
    assert_int_equal(nl_link_get(nl, "lo", &l, &e), 0);
    for (uint8_t k = 0; k < 4; k = (uint8_t)(k + 2)) {
        struct ip ip = { 4, { 198, 18, 0, k } };
        taken ? nl_addr(nl, l.index, &ip, 32, 0) : nl_addr_del(nl, l.index, &ip, 32, 0);
    }
    assert_int_equal(nl_commit(nl, "another's addresses", &e), 0);
}

static void networks_that_cannot_be_made_again_wait_for_their_instances(void **state _unused_)
{
    static const char transit[] = "198.18.0.0/30"; /* two pairs */
    struct net *n = open_net_in(transit);
    struct uuid vpc = new_id(), other = new_id(), third = new_id();
    struct box boxes[] = { box_new(), box_new() }, *a = &boxes[0], *b = &boxes[1], c = box_new();
    struct net_counters counters;
    struct err e;

    publish(a, 18080, 80, false);
    publish(&c, 18080, 80, false);
    attach(n, a, &vpc, "10.77.5.10");
    attach(n, b, &other, "10.77.5.10");
    /* Their own pairs are not in their way. */
    machine_goes_down(n, boxes, 2);
    n = open_net_in(transit);
    attach(n, b, &other, "10.77.5.10");
    attach(n, a, &vpc, "10.77.5.10");
    server(a->ns, SOCK_STREAM, "0.0.0.0", 80, "a");
    assert_string_equal(ask(world_ns, "203.0.113.1", 18080), "a 203.0.113.2");
    /* Another's are: the rest of the host lives on, and what is published stays whose it is. */
    machine_goes_down(n, boxes, 2);
    transit_is_anothers(true);
    n = open_net_in(transit);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(try_attach(n, a, &vpc, "10.77.5.10", 0, &e), -1);
        assert_int_equal(e.code, ERR_OVERLOADED);
        assert_int_equal(try_attach(n, &c, &third, "10.77.5.10", 0, &e), -1);
        assert_int_equal(e.code, ERR_ALREADY_EXISTS);
        assert_int_equal(net_stats(n, &a->id, &counters, &e), -1);
        assert_int_equal(net_sync(n, &a->id, &e), 0);
    }
    box_end(n, b);
    transit_is_anothers(false);
    attach(n, a, &vpc, "10.77.5.10");
    server(a->ns, SOCK_STREAM, "0.0.0.0", 80, "a");
    assert_string_equal(ask(world_ns, "203.0.113.1", 18080), "a 203.0.113.2");
    assert_string_equal(resolve(a->ns, "nobody", DNS_A), "nxdomain");
    box_end(n, a);
    box_end(NULL, &c);
    stop_servers();
    assert_nothing_left();
    close_net(n);
}

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Milliseconds that 'bytes' take from one namespace to another. */
static double transfer(int to, int from, const char *ip, size_t bytes)
{
    static char block[65536];
    struct sockaddr_in sa = address(ip, 9000);
    struct err e;
    int fd = ns_socket(from, AF_INET, SOCK_STREAM, 0, &e);

    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(fd, 1), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int c = accept(fd, NULL, NULL);
        for (size_t left = bytes; left;) {
            ssize_t n = send(c, block, MIN(left, sizeof(block)), MSG_NOSIGNAL);
            if (n <= 0)
                _exit(1);
            left -= (size_t)n;
        }
        _exit(0);
    }
    close(fd);
    int c = ns_socket(to, AF_INET, SOCK_STREAM, 0, &e);
    double start = now_ms();
    assert_int_equal(connect(c, (struct sockaddr *)&sa, sizeof(sa)), 0);
    size_t got = 0;
    for (ssize_t n; (n = recv(c, block, sizeof(block), 0)) > 0;)
        got += (size_t)n;
    assert_int_equal(got, bytes);
    close(c);
    waitpid(pid, NULL, 0);
    return now_ms() - start;
}

static void a_rate_limit_holds_both_ways(void **state _unused_)
{
    struct net *n = open_net();
    struct uuid vpc = new_id();
    struct box a = box_new(), b = box_new();
    struct err e;

    assert_int_equal(try_attach(n, &a, &vpc, "10.77.5.10", 20, &e), 0);
    attach(n, &b, &vpc, "10.77.5.11");
    /* 1 MB at 20 Mbit/s takes 0.4 s; a burst of 67 KB is free. */
    double in = transfer(a.ns, b.ns, "10.77.5.11", 1000000);
    double out = transfer(b.ns, a.ns, "10.77.5.10", 1000000);
    print_message("1 MB at 20 Mbit/s: %.0f ms in, %.0f ms out\n", in, out);
    assert_true(in > 300 && in < 3000);
    assert_true(out > 300 && out < 3000);
    box_end(n, &a);
    box_end(n, &b);
    assert_nothing_left();
    close_net(n);
}

struct worker {
    struct net *n;
    struct uuid *vpcs;
    int number;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    char ip[32];

    snprintf(ip, sizeof(ip), "10.77.5.%d", 10 + w->number);
    for (int i = 0; i < 12; i++) {
        struct box b = { .id = new_id(), .listen = { -1, -1, -1, -1 } };
        struct err e;
        b.ns = ns_anonymous(&e);
        publish(&b, 0, 80, false);
        if (b.ns < 0 || try_attach(w->n, &b, &w->vpcs[(w->number + i) % 3], ip, 0, &e) < 0 ||
            net_detach(w->n, &b.id, &e) < 0)
            return arena_strdup(&(struct arena){ .limit = 65536 }, e.cause);
        close(b.listen[0]);
        close(b.ns);
    }
    return NULL;
}

static void eight_threads_attach_and_detach_at_once(void **state _unused_)
{
    struct net *n = open_net();
    struct uuid vpcs[3] = { new_id(), new_id(), new_id() };
    struct worker w[8];
    pthread_t t[8];
    void *why;

    for (int i = 0; i < 8; i++) {
        w[i] = (struct worker){ n, vpcs, i };
        assert_int_equal(pthread_create(&t[i], NULL, work, &w[i]), 0);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(t[i], &why);
        if (why)
            fail_msg("%s", (char *)why);
    }
    assert_nothing_left();
    close_net(n);
}

static void attaching_is_quick(void **state _unused_)
{
    enum { ROUNDS = 20 };
    struct net *n = open_net();
    struct box b[ROUNDS], first[ROUNDS];
    struct uuid vpc = new_id();
    double fresh = 0, known = 0, gone = 0;

    for (int i = 0; i < ROUNDS; i++) {
        struct uuid other = new_id();
        first[i] = box_new();
        publish(&first[i], 0, 80, false);
        double t = now_ms();
        attach(n, &first[i], &other, "10.77.5.10");
        fresh += now_ms() - t;
    }
    for (int i = 0; i < ROUNDS; i++) {
        char ip[32];
        snprintf(ip, sizeof(ip), "10.77.5.%d", 10 + i);
        b[i] = box_new();
        publish(&b[i], 0, 80, false);
        double t = now_ms();
        attach(n, &b[i], &vpc, ip);
        known += i ? now_ms() - t : 0;
    }
    for (int i = 0; i < ROUNDS; i++) {
        double t = now_ms();
        box_end(n, &b[i]);
        gone += now_ms() - t;
        box_end(n, &first[i]);
    }
    print_message("attach: %.2f ms to a new VPC, %.2f ms to a known one; detach %.2f ms\n",
                  fresh / ROUNDS, known / (ROUNDS - 1), gone / ROUNDS);
    assert_true(known / (ROUNDS - 1) < 80);
    assert_true(fresh / ROUNDS < 200);
    assert_nothing_left();
}

/* ---- the stage ---- */

static int set_up(void **state _unused_)
{
    struct ip host = { 4, { 203, 0, 113, 1 } }, world = { 4, { 203, 0, 113, 2 } };
    struct ip inside = { 4, { 10, 77, 5, 11 } };
    struct nl_link l;
    struct err e;

    snprintf(dir, sizeof(dir), "/var/tmp/brume-net-XXXXXX");
    snprintf(installation, sizeof(installation), "%08x", (unsigned)getpid());
    if (!mkdtemp(dir) || unshare(CLONE_NEWNET) < 0)
        return -1;
    snprintf(edge.path, sizeof(edge.path), "%s.edge", dir);
    edge.listener = unix_listen(edge.path, UNIX_SEQPACKET, 0600, &e);
    pthread_detach(thread_start("edge", edge_run, NULL));
    host_ns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    world_ns = ns_anonymous(&e);
    _cleanup_(nl_closep) struct nl *nl = nl_open(-1, &e), *w = nl_open(world_ns, &e);
    struct nl_end here = { .name = "ext0", .ns_fd = -1 },
                  there = { .name = "ext0", .ns_fd = world_ns };
    nl_veth(nl, &here, &there, 1500, 0);
    nl_link_up(nl, "lo");
    nl_link_up(nl, "ext0");
    if (nl_commit(nl, "host", &e) < 0 || nl_link_get(nl, "ext0", &l, &e) < 0)
        return -1;
    nl_addr(nl, l.index, &host, 24, 0);
    nl_default_route(nl, l.index, &world, 0);
    if (nl_commit(nl, "host", &e) < 0 || nl_link_get(w, "ext0", &l, &e) < 0)
        return -1;
    nl_link_up(w, "ext0");
    nl_addr(w, l.index, &world, 24, 0);
    nl_addr(w, l.index, &inside, 32, 0);
    /* The host knows the world's second address by that world alone. */
    nl_default_route(w, l.index, &host, 0);
    return nl_commit(w, "world", &e);
}

static int after_each(void **state _unused_)
{
    struct err e;

    stop_servers();
    if (open_now && net_sweep(open_now, NULL, 0, &e) < 0)
        print_error("%s: %s\n", e.msg, e.cause);
    net_free(open_now);
    open_now = NULL;
    return 0;
}

static int tear_down(void **state _unused_)
{
    struct err e;

    struct net_opts o = { installation, dir, "198.18.0.0/15", 30000, 32767 };
    struct net *n = net_linux(&o, &e); /* also after a failed test nothing stays */
    if (n && net_sweep(n, NULL, 0, &e) < 0)
        print_error("%s: %s\n", e.msg, e.cause);
    close_net(n);
    unlink(edge.path);
    return dir_remove(dir, &e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(instances_of_a_vpc_reach_each_other_also_by_name, after_each),
        cmocka_unit_test_teardown(vpcs_with_the_same_addresses_do_not_meet, after_each),
        cmocka_unit_test_teardown(a_published_port_answers_wherever_it_is_asked, after_each),
        cmocka_unit_test_teardown(a_stopped_instance_refuses_and_keeps_its_ports, after_each),
        cmocka_unit_test_teardown(a_client_with_a_fixed_port_is_answered_at_once, after_each),
        cmocka_unit_test_teardown(a_client_of_what_ended_unseen_is_refused, after_each),
        cmocka_unit_test_teardown(instances_reach_the_world_but_nothing_of_the_host, after_each),
        cmocka_unit_test_teardown(an_instance_speaks_only_with_its_own_address, after_each),
        cmocka_unit_test_teardown(a_restart_finds_everything_again, after_each),
        cmocka_unit_test_teardown(a_restart_finds_a_large_network_again, after_each),
        cmocka_unit_test_teardown(an_instance_that_ended_keeps_its_ports_over_restarts, after_each),
        cmocka_unit_test_teardown(an_ended_instances_port_can_be_a_strangers, after_each),
        cmocka_unit_test_teardown(an_instance_that_is_gone_is_forgotten, after_each),
        cmocka_unit_test_teardown(a_port_in_use_is_refused_and_port_0_picks_a_free_one, after_each),
        cmocka_unit_test_teardown(bad_orders_are_refused_whole, after_each),
        cmocka_unit_test_teardown(
            a_stranger_who_drops_forwarded_packets_is_asked_to_let_ours_through, after_each),
        cmocka_unit_test_teardown(networks_that_cannot_be_made_again_wait_for_their_instances,
                                  after_each),
        cmocka_unit_test_teardown(a_rate_limit_holds_both_ways, after_each),
        cmocka_unit_test_teardown(eight_threads_attach_and_detach_at_once, after_each),
        cmocka_unit_test_teardown(attaching_is_quick, after_each),
    };

    if (geteuid() != 0) {
        printf("needs root\n");
        return 77;
    }
    log_init(LOG_WARN, false, "test");
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
