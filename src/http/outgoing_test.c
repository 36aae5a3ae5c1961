/* SPDX-License-Identifier: Apache-2.0 */
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "http/outgoing.h"
#include "tests/http/cert.h"
#include "tests/http/town.h"

static const struct cidr loopback[] = { { { 4, { 127 } }, 8 } };
static struct err err;

/* ---- what came back */

struct outcome {
    _Atomic int calls;
    uint64_t id;
    struct outgoing_result r;
    char body[8192];
};

static void keep(void *ctx, uint64_t id, const struct outgoing_result *r)
{
    struct outcome *o = ctx;

    o->id = id;
    o->r = *r;
    if (r->body.n)
        memcpy(o->body, r->body.p, MIN(r->body.n, sizeof(o->body) - 1));
    o->body[MIN(r->body.n, sizeof(o->body) - 1)] = '\0';
    atomic_fetch_add(&o->calls, 1);
}

/* How often it ended each way. */
struct tally {
    _Atomic int ends[16];
};

static void count(void *ctx, uint64_t id _unused_, const struct outgoing_result *r)
{
    atomic_fetch_add(&((struct tally *)ctx)->ends[r->end], 1);
}

static struct flow flow(int who)
{
    return (struct flow){ .key = flow_key(&who, sizeof(who)) };
}

/* Names of the tests, whose addresses are all there is to know of them. */
static _Atomic int looked_up;
static int resolve(void *ctx _unused_, const char *name, struct ip *out, int max _unused_)
{
    int turn = atomic_fetch_add(&looked_up, 1);

    if (strncmp(name, "slow", 4) == 0)
        nap(1500);
    if (strstr(name, "nowhere"))
        return 0;
    *out = (struct ip){ 4, { 127, 0, 0, 1 } };
    if (strstr(name, "ten"))
        *out = (struct ip){ 4, { 10, 0, 0, 1 } };
    if (strstr(name, "rebinds") && turn % 2 == 0)
        *out = (struct ip){ 4, { 127, 0, 0, 2 } };
    if (strstr(name, "second")) {
        out[1] = out[0];
        out[0] = (struct ip){ 4, { 10, 0, 0, 1 } };
        return 2;
    }
    return 1;
}

static struct outgoing *open_with(struct outgoing_opts o)
{
    o.allowed = loopback;
    o.n_allowed = 1;
    o.resolve = resolve;
    return outgoing_new(&o);
}
#define CLIENT(name, ...)                             \
    _cleanup_(outgoing_freep) struct outgoing *name = \
        open_with((struct outgoing_opts){ __VA_ARGS__ })

static const char *url_at(const struct town *t, const char *host, const char *path)
{
    static _Thread_local char text[300];

    snprintf(text, sizeof(text), "http://%s:%d%s", host, t->port, path);
    return text;
}

static uint64_t ask(struct outgoing *o, int who, const char *url, outgoing_done *done, void *ctx)
{
    struct outgoing_request q = { .flow = flow(who), .method = "GET", .url = url };

    return outgoing_send(o, &q, done, ctx, &err);
}

/* Sends it and waits for what comes. */
static void await(struct outgoing *o, const struct outgoing_request *q, struct outcome *out)
{
    memset(out, 0, sizeof(*out));
    uint64_t id = outgoing_send(o, q, keep, out, &err);
    if (!id)
        fail_msg("%s: %s", q->url, err.msg);
    EVENTUALLY(atomic_load(&out->calls) == 1);
    assert_int_equal(out->id, id);
}

static void await_get(struct outgoing *o, const char *url, int64_t timeout, struct outcome *out)
{
    struct outgoing_request q = { .flow = flow(1), .method = "GET", .url = url };

    q.timeout = timeout;
    await(o, &q, out);
}

#define ENDS(out, how)                                                           \
    do {                                                                         \
        if ((out).r.end != (how))                                                \
            fail_msg("%s: %s (%s)", outgoing_word((out).r.end), (out).r.err.msg, \
                     (out).r.err.cause);                                         \
    } while (0)

/* ---- one request */

static void a_request_goes_out_and_its_answer_comes_back(void **state _unused_)
{
    TOWN(t);
    CLIENT(o, .user_agent = "tester");
    static struct outcome out;
    struct client_header h[] = { { "X-One", "1" }, { "X-Empty", "" } };
    char body[] = "the body", at[64];
    struct outgoing_request q = { .flow = flow(1),
                                  .method = "POST",
                                  .url = url_at(t, "127.0.0.1", "/ok?a=b"),
                                  .headers = h,
                                  .n_headers = 2,
                                  .body = { body, sizeof(body) - 1 } };

    setenv("http_proxy", "http://127.0.0.1:1", 1);
    await(o, &q, &out);
    unsetenv("http_proxy");
    ENDS(out, OUTGOING_ANSWERED);
    assert_int_equal(out.r.err.code, ERR_NONE);
    assert_int_equal(out.r.status, 200);
    assert_string_equal(out.body, "hello");
    assert_false(out.r.more);
    assert_int_equal(out.r.retry_after, -1);
    assert_true(out.r.duration > 0);
    assert_string_equal(out.r.address, "127.0.0.1");
    snprintf(at, sizeof(at), "Host: 127.0.0.1:%d\r\n", t->port);
    assert_true(town_heard(t, "POST /ok?a=b HTTP/1.1\r\n") && town_heard(t, at));
    assert_true(town_heard(t, "X-One: 1\r\n") && town_heard(t, "X-Empty:"));
    assert_true(town_heard(t, "User-Agent: tester\r\n") && town_heard(t, "\r\n\r\nthe body"));
    assert_true(town_heard(t, "Content-Length: 8\r\n"));
    assert_false(town_heard(t, "Content-Type") || town_heard(t, "Expect"));
    q.body = (struct str){ NULL, 0 };
    await(o, &q, &out);
    assert_true(town_heard(t, "Content-Length: 0\r\n"));
    q.method = "DELETE";
    await(o, &q, &out);
    assert_true(town_heard(t, "DELETE /ok") && !town_heard(t, "Content-Length"));
    q.url = url_at(t, "here.test", "/later");
    await(o, &q, &out);
    ENDS(out, OUTGOING_ANSWERED);
    assert_int_equal(out.r.status, 503);
    assert_int_equal(out.r.retry_after, 120);
    assert_string_equal(out.r.address, "127.0.0.1");
}

static void a_redirect_is_shown_and_not_followed(void **state _unused_)
{
    TOWN(t);
    CLIENT(o, 0);
    static struct outcome out;

    await_get(o, url_at(t, "127.0.0.1", "/away"), 0, &out);
    ENDS(out, OUTGOING_ANSWERED);
    assert_int_equal(out.r.status, 302);
    assert_int_equal(atomic_load(&t->asked), 1);
}

static void a_body_is_kept_to_its_bound_and_read_to_another(void **state _unused_)
{
    TOWN(t);
    CLIENT(o, 0);
    static struct outcome out;
    struct outgoing_request q = { .flow = flow(1), .method = "GET" };

    q.url = url_at(t, "127.0.0.1", "/long");
    await(o, &q, &out);
    ENDS(out, OUTGOING_ANSWERED);
    assert_int_equal(out.r.body.n, 4096);
    assert_true(out.r.more);
    q.keep = 10;
    await(o, &q, &out);
    assert_string_equal(out.body, "0123456789");
    q.keep = 6400;
    await(o, &q, &out);
    assert_int_equal(out.r.body.n, 6400);
    assert_false(out.r.more);
    assert_int_equal(atomic_load(&t->opened), 1); /* it was read away: the connection goes on */
    q.url = url_at(t, "127.0.0.1", "/endless");
    q.keep = 0;
    await(o, &q, &out);
    ENDS(out, OUTGOING_ANSWERED);
    assert_int_equal(out.r.body.n, 4096);
    assert_true(out.r.more);
    q.keep = (16 << 20) + 1;
    assert_int_equal(outgoing_send(o, &q, keep, &out, &err), 0);
    assert_int_equal(err.code, ERR_INVALID);
}

static void each_way_to_fail_has_its_words(void **state _unused_)
{
    TOWN(t);
    CLIENT(o, 0);
    static struct outcome out;
    static const struct {
        const char *host, *path, *msg;
        enum outgoing_end end;
    } table[] = {
        { "127.0.0.1", "/cut", "the connection ended before the answer did", OUTGOING_CUT },
        { "127.0.0.1", "/silent", "the connection ended before the answer did", OUTGOING_CUT },
        { "127.0.0.1", "/other", "what the other side says is not HTTP", OUTGOING_CUT },
        { "127.0.0.1", "/endless-head", "the head of the answer is over 65536 bytes",
          OUTGOING_CUT },
        { "127.0.0.1", "/hang", "no whole answer came in time", OUTGOING_TIMED_OUT },
        { "127.0.0.1", "/slow-head", "no whole answer came in time", OUTGOING_TIMED_OUT },
        { "127.0.0.1", "/slow-body", "no whole answer came in time", OUTGOING_TIMED_OUT },
        { "nowhere.test", "/", "there is no address for nowhere.test", OUTGOING_NO_NAME },
        { "slow.test", "/", "the name was not resolved in time", OUTGOING_TIMED_OUT },
        { "ten.test", "/", "the URL leads to no public address", OUTGOING_NOT_ALLOWED },
        { "[::ffff:127.0.0.1]", "/", "the URL leads to no public address", OUTGOING_NOT_ALLOWED },
    };

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        int64_t from = clock_mono(clock_system());
        await_get(o, url_at(t, table[i].host, table[i].path), MILLIS(400), &out);
        int64_t took = clock_mono(clock_system()) - from;
        ENDS(out, table[i].end);
        if (strcmp(out.r.err.msg, table[i].msg) != 0 || out.r.err.code == ERR_NONE)
            fail_msg("%s%s: %s", table[i].host, table[i].path, out.r.err.msg);
        assert_true(took < SECONDS(3));
    }
    await_get(o, "http://127.0.0.1:1/", 0, &out);
    ENDS(out, OUTGOING_NO_CONNECTION);
    assert_string_equal(outgoing_word(out.r.end), "connection_refused");
    await_get(o, url_at(t, "second.test", "/ok"), 0, &out);
    ENDS(out, OUTGOING_ANSWERED); /* by the address that is allowed */
}

/* A listener whose queue is full lets nobody in and answers nobody. */
static void a_connection_that_does_not_come_about_is_given_up(void **state _unused_)
{
    struct house full = { .listener = http_listen("127.0.0.1", 0, 0, &err) };
    _cleanup_close_ int listener = full.listener;
    CLIENT(o, 0);
    static struct outcome out;
    int fds[8];

    full.port = http_listen_port(listener);
    listen(listener, 0);
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons((uint16_t)full.port) };
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)!connect(fds[i], (struct sockaddr *)&in, sizeof(in));
    }
    char url[64];
    snprintf(url, sizeof(url), "http://127.0.0.1:%d/", full.port);
    struct outgoing_request q = { .flow = flow(1), .method = "GET", .url = url };
    q.connect = MILLIS(300);
    await(o, &q, &out);
    ENDS(out, OUTGOING_TIMED_OUT);
    assert_string_equal(out.r.err.msg, "no connection came about in time");
    assert_true(out.r.duration < SECONDS(3));
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        close(fds[i]);
}

static void hello(struct http_req *r)
{
    http_reply(r, 200, STR("secret hello"));
}

static void a_certificate_is_verified(void **state _unused_)
{
    static const struct spot spots[] = { { "/", hello } };
    static struct outcome out;
    char url[64];
    HOUSE(h);

    h.cert = cert;
    h.key = key;
    house_open(&h, spots, 1);
    snprintf(url, sizeof(url), "https://127.0.0.1:%d/", h.port);
    CLIENT(o, 0);
    await_get(o, url, 0, &out);
    ENDS(out, OUTGOING_TLS);
    assert_true(strncmp(out.r.err.msg, "TLS failed: ", 12) == 0);
    assert_int_equal(atomic_load(&h.sent), 0);
    CLIENT(trusting, .ca_file = cert);
    await_get(trusting, url, 0, &out);
    ENDS(out, OUTGOING_ANSWERED);
    assert_string_equal(out.body, "secret hello");
    snprintf(url, sizeof(url), "https://other.test:%d/", h.port);
    await_get(trusting, url, 0, &out);
    ENDS(out, OUTGOING_TLS); /* it is not that name's */
}

static void what_is_wrong_with_a_request_is_told_at_once(void **state _unused_)
{
    CLIENT(o, 0);
    struct client_header evil = { "X-One", "1\r\nX-Two: 2" };
    struct outgoing_request q = { .flow = flow(1), .method = "GET", .url = "file:///etc/passwd" };

    assert_int_equal(outgoing_send(o, &q, keep, NULL, &err), 0);
    assert_int_equal(err.code, ERR_INVALID);
    q.url = "http://127.0.0.1/";
    q.headers = &evil;
    q.n_headers = 1;
    assert_int_equal(outgoing_send(o, &q, keep, NULL, &err), 0);
    assert_int_equal(err.code, ERR_INVALID);
    q.n_headers = 0;
    q.method = "GE T";
    assert_int_equal(outgoing_send(o, &q, keep, NULL, &err), 0);
    q.method = "CONNECT";
    assert_int_equal(outgoing_send(o, &q, keep, NULL, &err), 0);
    assert_false(outgoing_cancel(o, 0) || outgoing_cancel(o, 1));
}

/* ---- where it may lead */

static void a_url_leads_to_nothing_private_however_it_is_spelled(void **state _unused_)
{
    static const char *const hosts[] = {
        "127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.0.0.1",         "0177.0.0.1",
        "0.0.0.0",   "here.test", "[::1]", "[::]",       "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]",
    };
    TOWN(t);
    static struct outcome out;
    struct outgoing_opts opts = { .resolve = resolve };
    _cleanup_(outgoing_freep) struct outgoing *o = outgoing_new(&opts);

    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        await_get(o, url_at(t, hosts[i], "/ok"), 0, &out);
        ENDS(out, OUTGOING_NOT_ALLOWED);
        assert_int_equal(out.r.err.code, ERR_INVALID);
        assert_string_equal(out.r.address, "");
    }
    assert_int_equal(atomic_load(&t->opened), 0);
}

/* 127.0.0.1 may be asked, 127.0.0.2 may not, and the name says now this, now that. */
static void a_name_that_rebinds_is_judged_each_time(void **state _unused_)
{
    static const struct cidr one[] = { { { 4, { 127, 0, 0, 1 } }, 32 } };
    TOWN(t);
    static struct outcome out;
    struct outgoing_opts opts = { .allowed = one, .n_allowed = 1, .resolve = resolve };
    int reached = 0;

    for (int i = 0; i < 6; i++) {
        _cleanup_(outgoing_freep) struct outgoing *o = outgoing_new(&opts);
        int before = atomic_load(&looked_up);

        await_get(o, url_at(t, "rebinds.test", "/ok"), 0, &out);
        assert_int_equal(atomic_load(&looked_up), before + 1);
        ENDS(out, before % 2 ? OUTGOING_ANSWERED : OUTGOING_NOT_ALLOWED);
        reached += out.r.end == OUTGOING_ANSWERED;
        assert_true(out.r.end != OUTGOING_ANSWERED || strcmp(out.r.address, "127.0.0.1") == 0);
    }
    assert_int_equal(reached, 3);
}

/* A network of its own in which all of 8.0.0.0/8 is here, and 8.1.1.1 is this machine's. */
static int public_network(void)
{
    struct ifreq f = { .ifr_name = "lo" };
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x08010101) };

    if (unshare(CLONE_NEWNET) < 0)
        return -1;
    _cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    memcpy(&f.ifr_addr, &in, sizeof(in));
    if (fd < 0 || ioctl(fd, SIOCSIFADDR, &f) < 0)
        return -1;
    f.ifr_flags = IFF_UP;
    return ioctl(fd, SIOCSIFFLAGS, &f);
}

/* Run in a process of its own: 0, or which step failed. */
static int ask_in_public(void)
{
    static struct outcome out;
    struct outgoing_opts opts = { 0 };

    if (public_network() < 0)
        return 2;
    TOWN(t);
    _cleanup_(outgoing_freep) struct outgoing *o = outgoing_new(&opts);
    await_get(o, url_at(t, "8.8.8.8", "/ok"), 0, &out);
    if (out.r.end != OUTGOING_ANSWERED || strcmp(out.r.address, "8.8.8.8") != 0)
        return 3;
    await_get(o, url_at(t, "8.1.1.1", "/ok"), 0, &out);
    if (out.r.end != OUTGOING_NOT_ALLOWED)
        return 4;
    return 0;
}

static void what_is_public_is_reached_but_not_this_machine_by_it(void **state _unused_)
{
    int status;

    if (geteuid() != 0)
        skip();
    pid_t pid = fork();
    if (pid == 0)
        _exit(ask_in_public());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* ---- the end of a request */

static void a_request_is_cancelled_before_while_and_after(void **state _unused_)
{
    TOWN(t);
    CLIENT(o, .per_host = 1);
    static struct outcome running, waiting, resolving, late;

    uint64_t a = ask(o, 1, url_at(t, "127.0.0.1", "/hang"), keep, &running);
    EVENTUALLY(atomic_load(&t->hanging) == 1);
    uint64_t b = ask(o, 1, url_at(t, "127.0.0.1", "/ok"), keep, &waiting);
    uint64_t c = ask(o, 1, url_at(t, "slow.test", "/ok"), keep, &resolving);
    assert_true(a && b && c);
    assert_true(outgoing_cancel(o, b));
    EVENTUALLY(atomic_load(&waiting.calls) == 1);
    ENDS(waiting, OUTGOING_CANCELLED);
    assert_int_equal(waiting.r.duration, 0);
    assert_false(outgoing_cancel(o, b));
    assert_true(outgoing_cancel(o, c));
    EVENTUALLY(atomic_load(&resolving.calls) == 1);
    ENDS(resolving, OUTGOING_CANCELLED);
    assert_true(outgoing_cancel(o, a));
    EVENTUALLY(atomic_load(&running.calls) == 1);
    ENDS(running, OUTGOING_CANCELLED);
    uint64_t d = ask(o, 1, url_at(t, "127.0.0.1", "/ok"), keep, &late); /* its seat is free */
    EVENTUALLY(atomic_load(&late.calls) == 1);
    ENDS(late, OUTGOING_ANSWERED);
    assert_false(outgoing_cancel(o, d) || outgoing_cancel(o, a));
    assert_int_equal(atomic_load(&running.calls), 1);
}

struct again {
    struct outgoing *o;
    _Atomic int calls, refused, more;
};

static void counts_more(void *ctx, uint64_t id _unused_, const struct outgoing_result *r _unused_)
{
    atomic_fetch_add(&((struct again *)ctx)->more, 1);
}

static void sends_again(void *ctx, uint64_t id, const struct outgoing_result *r _unused_)
{
    struct again *a = ctx;
    struct err e;
    struct outgoing_request q = { .flow = flow(1), .method = "GET", .url = "http://127.0.0.1:1/" };

    atomic_fetch_add(&a->calls, 1);
    if (outgoing_cancel(a->o, id))
        abort(); /* it has ended */
    if (!outgoing_send(a->o, &q, counts_more, a, &e))
        atomic_fetch_add(&a->refused, e.code == ERR_OVERLOADED);
}

static void a_completion_may_send_until_the_client_ends(void **state _unused_)
{
    TOWN(t);
    static struct again a;

    a.o = open_with((struct outgoing_opts){ 0 });
    assert_true(ask(a.o, 1, url_at(t, "127.0.0.1", "/ok"), sends_again, &a));
    EVENTUALLY(atomic_load(&a.more) == 1);
    assert_true(ask(a.o, 1, url_at(t, "127.0.0.1", "/hang"), sends_again, &a));
    outgoing_free(a.o);
    assert_int_equal(a.calls, 2);
    assert_int_equal(a.refused, 1);
    assert_int_equal(a.more, 1);
}

static void what_is_in_hand_ends_with_the_client(void **state _unused_)
{
    TOWN(t);
    static struct tally all;
    struct outgoing *o = open_with((struct outgoing_opts){ .per_host = 2 });

    memset(&all, 0, sizeof(all));
    for (int i = 0; i < 5; i++) {
        assert_true(ask(o, i, url_at(t, "127.0.0.1", "/hang"), count, &all));
        assert_true(ask(o, i, url_at(t, "slow.test", "/hang"), count, &all));
    }
    EVENTUALLY(atomic_load(&t->hanging) == 2);
    outgoing_free(o);
    assert_int_equal(all.ends[OUTGOING_CANCELLED], 10);
    outgoing_free(outgoing_new(&(struct outgoing_opts){ 0 })); /* never used */
    outgoing_free(NULL);
}

/* ---- many */

static void a_flow_has_its_bound_and_all_have_another(void **state _unused_)
{
    TOWN(t);
    CLIENT(o, .most = 16, .own = 4);
    static struct tally all;
    struct outgoing_request q = { .flow = flow(1), .method = "GET" };

    q.url = url_at(t, "127.0.0.1", "/hang");
    for (int i = 0; i < 4; i++)
        assert_true(outgoing_send(o, &q, count, &all, &err));
    assert_int_equal(outgoing_send(o, &q, count, &all, &err), 0);
    assert_int_equal(err.code, ERR_RATE_LIMITED);
    q.flow.seats = 5; /* as his plan says */
    uint64_t id = outgoing_send(o, &q, count, &all, &err);
    assert_true(id);
    q.flow.seats = 100;
    assert_true(outgoing_send(o, &q, count, &all, &err));
    assert_int_equal(outgoing_send(o, &q, count, &all, &err), 0);
    assert_int_equal(err.code, ERR_OVERLOADED); /* the rest is for others */
    assert_true(ask(o, 2, q.url, count, &all));
    assert_true(outgoing_cancel(o, id));
    EVENTUALLY(atomic_load(&all.ends[OUTGOING_CANCELLED]) == 1);
    assert_true(outgoing_send(o, &q, count, &all, &err));
}

static void bytes_have_a_bound_as_well(void **state _unused_)
{
    TOWN(t);
    CLIENT(o, .bytes = 1 << 20);
    static struct tally all;
    struct outgoing_request q = { .flow = flow(1), .method = "GET", .keep = 300 << 10 };

    q.url = url_at(t, "127.0.0.1", "/hang");
    assert_true(outgoing_send(o, &q, count, &all, &err));
    assert_int_equal(outgoing_send(o, &q, count, &all, &err), 0);
    assert_int_equal(err.code, ERR_OVERLOADED);
    q.flow = flow(2);
    assert_true(outgoing_send(o, &q, count, &all, &err));
}

static void a_host_is_asked_by_few_at_once_in_turns(void **state _unused_)
{
    TOWN(t);
    CLIENT(o, .per_host = 8);
    static struct tally mine, others;
    struct outgoing_request q = { .flow = flow(1), .method = "GET", .timeout = MILLIS(600) };

    q.url = url_at(t, "127.0.0.1", "/hang");
    for (int i = 0; i < 20; i++)
        assert_true(outgoing_send(o, &q, count, &mine, &err));
    EVENTUALLY(atomic_load(&t->hanging) == 3);
    for (int i = 2; i < 6; i++)
        assert_true(ask(o, i, url_at(t, "127.0.0.1", "/ok"), count, &others));
    EVENTUALLY(atomic_load(&others.ends[OUTGOING_ANSWERED]) == 4);
    assert_int_equal(atomic_load(&mine.ends[OUTGOING_TIMED_OUT]), 0);
    EVENTUALLY(atomic_load(&mine.ends[OUTGOING_TIMED_OUT]) +
                   atomic_load(&mine.ends[OUTGOING_CROWDED]) ==
               20);
    assert_int_equal(atomic_load(&mine.ends[OUTGOING_CROWDED]), 17); /* nothing was sent */
    assert_int_equal(atomic_load(&t->hanging), 3);
}

static int many(void)
{
    struct rlimit l;

    getrlimit(RLIMIT_NOFILE, &l);
    l.rlim_cur = l.rlim_max;
    setrlimit(RLIMIT_NOFILE, &l);
    return l.rlim_cur >= 4096 ? 1000 : 300;
}

static void a_thousand_that_hang_delay_nobody(void **state _unused_)
{
    TOWN(t);
    static struct tally bad;
    static struct outcome out;
    struct outgoing *o = open_with((struct outgoing_opts){ .most = 8192, .own = 4096 });
    struct outgoing_request q = { .flow = flow(2), .method = "GET" };
    int n = many();
    char host[32];

    memset(&bad, 0, sizeof(bad));
    for (int i = 0; i < n; i++) {
        snprintf(host, sizeof(host), "127.1.%d.%d", i / 250, i % 250 + 1);
        assert_true(ask(o, 1, url_at(t, host, "/hang"), count, &bad));
    }
    for (int i = 0; i < 100; i++) { /* and some at the host that the other one asks */
        assert_true(ask(o, 1, url_at(t, "127.0.0.1", "/hang"), count, &bad));
        snprintf(host, sizeof(host), "slow%d.test", i);
        assert_true(ask(o, 1, url_at(t, host, "/hang"), count, &bad));
    }
    EVENTUALLY(atomic_load(&t->hanging) >= n);
    for (int i = 0; i < 3; i++) {
        int64_t from = clock_mono(clock_system());

        q.url = url_at(t, i == 2 ? "quick.test" : "127.0.0.1", "/ok");
        await(o, &q, &out);
        ENDS(out, OUTGOING_ANSWERED);
        assert_true(clock_mono(clock_system()) - from < SECONDS(1));
    }
    outgoing_free(o);
    assert_int_equal(bad.ends[OUTGOING_CANCELLED] + bad.ends[OUTGOING_TIMED_OUT] +
                         bad.ends[OUTGOING_CROWDED],
                     n + 200);
}

static void a_connection_is_used_again_by_its_own_flow_alone(void **state _unused_)
{
    TOWN(t);
    CLIENT(o, 0);
    static struct outcome out;
    struct outgoing_request q = { .flow = flow(1), .method = "GET" };

    q.url = url_at(t, "127.0.0.1", "/ok");
    for (int i = 0; i < 5; i++)
        await(o, &q, &out);
    assert_int_equal(atomic_load(&t->opened), 1);
    q.flow = flow(2);
    await(o, &q, &out);
    assert_int_equal(atomic_load(&t->opened), 2);
    q.flow = flow(1);
    await(o, &q, &out);
    q.flow = flow(2);
    await(o, &q, &out);
    assert_int_equal(atomic_load(&t->opened), 2);
    q.url = url_at(t, "here.test", "/ok"); /* another name */
    await(o, &q, &out);
    assert_int_equal(atomic_load(&t->opened), 3);
    for (int i = 10; i < 100; i++) { /* flows that rest are forgotten, and their connections */
        q.flow = flow(i);
        await(o, &q, &out);
    }
    nap(200);
    q.flow = flow(1);
    q.url = url_at(t, "127.0.0.1", "/ok");
    await(o, &q, &out);
    assert_int_equal(atomic_load(&t->opened), 94);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_goes_out_and_its_answer_comes_back),
        cmocka_unit_test(a_redirect_is_shown_and_not_followed),
        cmocka_unit_test(a_body_is_kept_to_its_bound_and_read_to_another),
        cmocka_unit_test(each_way_to_fail_has_its_words),
        cmocka_unit_test(a_connection_that_does_not_come_about_is_given_up),
        cmocka_unit_test(a_certificate_is_verified),
        cmocka_unit_test(what_is_wrong_with_a_request_is_told_at_once),
        cmocka_unit_test(a_url_leads_to_nothing_private_however_it_is_spelled),
        cmocka_unit_test(a_name_that_rebinds_is_judged_each_time),
        cmocka_unit_test(what_is_public_is_reached_but_not_this_machine_by_it),
        cmocka_unit_test(a_request_is_cancelled_before_while_and_after),
        cmocka_unit_test(a_completion_may_send_until_the_client_ends),
        cmocka_unit_test(what_is_in_hand_ends_with_the_client),
        cmocka_unit_test(a_flow_has_its_bound_and_all_have_another),
        cmocka_unit_test(bytes_have_a_bound_as_well),
        cmocka_unit_test(a_host_is_asked_by_few_at_once_in_turns),
        cmocka_unit_test(a_thousand_that_hang_delay_nobody),
        cmocka_unit_test(a_connection_is_used_again_by_its_own_flow_alone),
    };

    return cmocka_run_group_tests_name("outgoing", tests, make_certificate, remove_certificate);
}
