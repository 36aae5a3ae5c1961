/* SPDX-License-Identifier: Apache-2.0 */
/* Programs behind the gate, and a server of this machine that they must not reach. */
#include "drivers/image/gate.h"

#include <arpa/inet.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "os/thread.h"

static struct arena arena;
static int server = -1, server_port;
static pthread_t server_thread;
static _Atomic int visits;

/* Says "inside" and what it was told, then that it has no more. */
static void *serve(void *ctx _unused_)
{
    char text[64];

    for (;;) {
        int c = accept(server, NULL, NULL);
        if (c < 0)
            return NULL;
        visits++;
        ssize_t n = recv(c, text, sizeof(text), 0);
        if (send(c, "inside ", 7, MSG_NOSIGNAL) == 7 && n > 0)
            send(c, text, (size_t)n, MSG_NOSIGNAL);
        close(c);
    }
}

static int set_up(void **state _unused_)
{
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_ANY) } };
    socklen_t n = sizeof(sa);

    arena = ARENA(MIB(16));
    server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(server, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(server, 16) < 0 ||
        getsockname(server, (struct sockaddr *)&sa, &n) < 0)
        return -1;
    server_port = ntohs(sa.sin_port);
    server_thread = thread_start("server", serve, NULL);
    return 0;
}

static int tear_down(void **state _unused_)
{
    shutdown(server, SHUT_RDWR);
    pthread_join(server_thread, NULL);
    close(server);
    arena_free(&arena);
    return 0;
}

static struct gate *open_gate(const char *allowed, const char *local)
{
    struct gate_opts o = { .allowed = allowed, .local = local };
    struct err e;
    struct gate *g = gate_open(&o, &e);

    if (!g)
        fail_msg("%s (%s)", e.msg, e.cause);
    return g;
}

/* What a program behind the gate hears: by the proxy from 'host' (its first line too), or directly
 * if 'direct'. */
static const char *hear(struct gate *g, const char *host, bool direct)
{
    static const char program[] =
        "import os, socket, sys\n"
        "host, port, direct = sys.argv[1], int(sys.argv[2]), sys.argv[3] == '1'\n"
        "proxy = os.environ['HTTPS_PROXY'].split('//')[1].split(':')\n"
        "try:\n"
        "    s = socket.create_connection((host, port) if direct else (proxy[0], int(proxy[1])), 3)\n"
        "    s.settimeout(5)\n"
        "    out = b''\n"
        "    if not direct:\n"
        "        s.sendall(f'CONNECT {host}:{port} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'.encode())\n"
        "        out = s.recv(12) + b' '\n"
        "        while out[:12] == b'HTTP/1.1 200' and not out.endswith(b'\\r\\n\\r\\n'): out += s.recv(1)\n"
        "        out = out[:12] + b' '\n"
        "    if direct or out.startswith(b'HTTP/1.1 200'):\n"
        "        s.sendall(b'hello')\n"
        "        s.shutdown(1)\n"
        "        while (d := s.recv(99)): out += d\n"
        "    print(out.decode(), end='')\n"
        "except OSError as e: print('no way', e, end='')\n";
    const char *const argv[] = {
        "/usr/bin/python3", "-c", program, host, arena_printf(&arena, "%d", server_port),
        direct ? "1" : "0", NULL
    };
    struct process_result r = { 0 };
    struct err e;

    if (gate_run(g, &arena, argv, SECONDS(20), &r, &e) < 0)
        fail_msg("%s (%s)", e.msg, e.cause);
    if (r.status != 0)
        fail_msg("%s", r.err.p);
    return r.out.p;
}

static void nothing_internal_is_reached(void **state _unused_)
{
    static const char *const names[] = { "127.0.0.1", "localhost", "2130706433",        "0x7f.1",
                                         "0.0.0.0",   "[::1]",     "[::ffff:127.0.0.1]" };
    _cleanup_(gate_freep) struct gate *g = open_gate("", NULL);
    char why[160];
    bool unreachable;
    int before = visits;

    gate_refusal(g, why, &unreachable);
    assert_string_equal(why, "");
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const char *said = hear(g, names[i], false);
        if (strncmp(said, "HTTP/1.1 403", 12) != 0 && strncmp(said, "HTTP/1.1 502", 12) != 0)
            fail_msg("%s: %s", names[i], said);
        said = hear(g, names[i], true);
        if (strstr(said, "inside"))
            fail_msg("%s directly: %s", names[i], said);
    }
    assert_int_equal(visits, before);
    hear(g, "127.0.0.1", false);
    gate_refusal(g, why, &unreachable);
    assert_string_equal(why, "127.0.0.1 leads to an internal address");
    assert_false(unreachable);
}

static void what_is_listed_is_reached(void **state _unused_)
{
    const char *port = arena_printf(&arena, "localhost:%d", server_port);
    const char *const lists[] = { "localhost", port, "10.0.0.0/8, 127.0.0.0/8",
                                  "x.example,LOCALHOST" };
    const char *const not [] = { "localhost:1", "127.0.0.2", "ocalhost", "" };

    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        _cleanup_(gate_freep) struct gate *g = open_gate(lists[i], NULL);
        assert_string_equal(hear(g, "localhost", false), "HTTP/1.1 200 inside hello");
    }
    for (size_t i = 0; i < ARRAY_LEN(not ); i++) {
        _cleanup_(gate_freep) struct gate *g = open_gate(not [i], NULL);
        assert_memory_equal(hear(g, "localhost", false), "HTTP/1.1 403", 12);
    }
}

static void a_local_name_is_reached_without_the_proxy_at_its_port_alone(void **state _unused_)
{
    const char *local = arena_printf(&arena, "127.0.0.1:%d", server_port);
    _cleanup_(gate_freep) struct gate *g = open_gate("127.0.0.1", local);
    _cleanup_(gate_freep) struct gate *other = open_gate("127.0.0.1", "127.0.0.1:1");

    assert_string_equal(hear(g, "127.0.0.1", true), "inside hello");
    assert_null(strstr(hear(other, "127.0.0.1", true), "inside"));
}

static void what_cannot_be_reached_is_told_apart(void **state _unused_)
{
    _cleanup_(gate_freep) struct gate *g = open_gate("", NULL);
    char why[160];
    bool unreachable;

    assert_memory_equal(hear(g, "no-such-host.invalid", false), "HTTP/1.1 502", 12);
    gate_refusal(g, why, &unreachable);
    assert_string_equal(why, "");
    assert_true(unreachable);
}

static void a_gate_closes_over_what_hangs(void **state _unused_)
{
    static const char program[] =
        "import os, socket, time\n"
        "p = os.environ['HTTPS_PROXY'].split('//')[1].split(':')\n"
        "all = [socket.create_connection((p[0], int(p[1]))) for _ in range(200)]\n"
        "time.sleep(30)\n";
    const char *const argv[] = { "/usr/bin/python3", "-c", program, NULL };
    struct gate *g = open_gate("", NULL);
    struct process_result r = { 0 };
    struct err e;

    assert_int_equal(gate_run(g, &arena, argv, SECONDS(1), &r, &e), -1);
    assert_true(r.timed_out);
    gate_free(g);
}

static void nonsense_is_no_request(void **state _unused_)
{
    static const char program[] =
        "import os, socket\n"
        "p = os.environ['HTTPS_PROXY'].split('//')[1].split(':')\n"
        "for t in (b'GET http://127.0.0.1/ HTTP/1.1\\r\\n\\r\\n', b'CONNECT \\r\\n\\r\\n', b'x' * 9000,\n"
        "          b'CONNECT :80 HTTP/1.1\\r\\n\\r\\n', b'CONNECT a:99999 HTTP/1.1\\r\\n\\r\\n', b'\\0\\r\\n\\r\\n'):\n"
        "    s = socket.create_connection((p[0], int(p[1])))\n"
        "    s.sendall(t)\n"
        "    try: print(s.recv(12))\n"
        "    except OSError: print(b'HTTP/1.1 400')\n";
    const char *const argv[] = { "/usr/bin/python3", "-c", program, NULL };
    _cleanup_(gate_freep) struct gate *g = open_gate("", NULL);
    struct process_result r = { 0 };
    struct err e;

    assert_int_equal(gate_run(g, &arena, argv, SECONDS(20), &r, &e), 0);
    for (int i = 0; i < 6; i++)
        assert_memory_equal(r.out.p + 16 * i, "b'HTTP/1.1 400'\n", 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_internal_is_reached),
        cmocka_unit_test(what_is_listed_is_reached),
        cmocka_unit_test(a_local_name_is_reached_without_the_proxy_at_its_port_alone),
        cmocka_unit_test(what_cannot_be_reached_is_told_apart),
        cmocka_unit_test(a_gate_closes_over_what_hangs),
        cmocka_unit_test(nonsense_is_no_request),
    };

    if (geteuid() != 0) {
        printf("needs root\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
