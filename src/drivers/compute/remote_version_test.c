/* SPDX-License-Identifier: Apache-2.0 */
/* What an agent of an older release is not asked for, and what one of this release is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/clock.h"
#include "codec/id.h"
#include "drivers/compute/protocol.h"
#include "drivers/compute/remote.h"
#include "drivers/compute/server.h"
#include "os/thread.h"
#include "os/unixsock.h"

#define INSTALLATION "0a1b2c3d"

struct agent {
    char dir[64];
    const char *path;
    struct arena a;
    int fd;
    int64_t orders; /* frames that came after the greeting, but for CANCEL */
};

/* Greets as the release before did, answers every order with an empty END, counts. */
static void *old_agent(void *ctx)
{
    static const char greeting[] =
        "{\"protocol\":\"brume-agent\",\"version\":2,\"release\":\"0.0\",\"installation\":"
        "\"" INSTALLATION "\"}";
    struct agent *g = ctx;
    struct message *m;
    struct err e;

    int fd = accept4(g->fd, NULL, NULL, SOCK_CLOEXEC);
    struct link *l = link_new(fd, "api");
    (void)link_send(l, FRAME_JSON, 0, str_of(greeting), &e);
    while ((m = link_receive(l, &e))) {
        if (m->stream) {
            g->orders += m->kind == FRAME_JSON;
            (void)link_send(l, FRAME_END, m->stream, STR("{}"), &e);
        }
        free(m);
    }
    link_unref(l);
    return NULL;
}

static struct compute_spec a_spec(void)
{
    struct compute_spec s = { .revision = 1, .boot = 1, .name = "x", .image = "sha256:0" };

    uuid_new(clock_system(), &s.id);
    return s;
}

static void an_older_agent_gets_no_order_that_it_would_do_by_half(void **state)
{
    struct agent g = { .a = ARENA(MIB(8)) };
    struct compute_spec s = a_spec();
    struct compute_probe p = { COMPUTE_PROBE_TCP, 80, NULL, SECONDS(1) };
    struct compute_state st;
    const char *fault;
    struct err e = { 0 };

    (void)state;
    snprintf(g.dir, sizeof(g.dir), "/tmp/brume-old-XXXXXX");
    assert_non_null(mkdtemp(g.dir));
    g.path = arena_printf(&g.a, "%s/agent.sock", g.dir);
    g.fd = unix_listen(g.path, UNIX_STREAM, 0600, &e);
    assert_true(g.fd >= 0);
    pthread_t t = thread_start("old", old_agent, &g);
    struct compute *remote = compute_remote(g.path, INSTALLATION);

    s.data = "/data";
    assert_int_equal(compute_ensure(remote, &g.a, &s, &st, &e), -1);
    assert_int_equal(e.code, ERR_ENGINE_UNAVAILABLE);
    assert_non_null(strstr(e.msg, "older release"));
    s.data = NULL;
    s.files = "[]";
    assert_int_equal(compute_ensure(remote, &g.a, &s, &st, &e), -1);
    assert_int_equal(compute_probe_in(remote, &g.a, &s.id, &p, &fault, &e), -1);
    assert_int_equal(e.code, ERR_ENGINE_UNAVAILABLE);
    s.files = NULL;
    assert_int_equal(compute_ensure(remote, &g.a, &s, &st, &e), -1); /* its empty answer */
    assert_string_equal(e.msg, "the agent's answer is malformed");
    compute_free(remote);
    pthread_join(t, NULL);
    assert_int_equal(g.orders, 1); /* the plain one alone reached it */
    close(g.fd);
    unlink(g.path);
    rmdir(g.dir);
    arena_free(&g.a);
}

static void files_and_probes_cross(void **state)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(16));
    char dir[] = "/tmp/brume-new-XXXXXX";
    struct compute_file f[4];
    struct compute_spec s = a_spec(), got;
    struct compute_probe p = { COMPUTE_PROBE_HTTP, 80, "/health", SECONDS(1) };
    struct compute_state st;
    const char *fault = "";
    struct err e = { 0 };

    (void)state;
    assert_non_null(mkdtemp(dir));
    struct compute *fake = compute_fake();
    struct compute_server_opts o = { .socket_path = arena_printf(&a, "%s/agent.sock", dir),
                                     .installation = INSTALLATION,
                                     .api_uid = 1,
                                     .compute = fake,
                                     .threads = 2 };
    struct compute_server *server = compute_server_new(&o, &e);
    assert_non_null(server);
    struct compute *remote = compute_remote(o.socket_path, INSTALLATION);

    for (size_t i = 0; i < ARRAY_LEN(f); i++) /* all that an order may have */
        f[i] = (struct compute_file){ .name = arena_printf(&a, "f%zu", i),
                                      .content = { arena_alloc(&a, COMPUTE_FILE_BYTES),
                                                   COMPUTE_FILE_BYTES },
                                      .mode = 0400 };
    s.files = compute_files_text(&a, f, ARRAY_LEN(f), &e);
    s.files_revision = 7;
    s.data = "/data";
    s.root = 3;
    if (compute_ensure(remote, &a, &s, &st, &e) < 0)
        fail_msg("%s (%s)", e.msg, e.cause);
    compute_fake_order(fake, &a, &s.id, &got);
    assert_string_equal(got.files, s.files);
    assert_int_equal(got.files_revision, 7);
    assert_string_equal(got.data, "/data");
    assert_int_equal(got.root, 3);
    assert_int_equal(compute_probe_in(remote, &a, &s.id, &p, &fault, &e), 0);
    assert_null(fault);
    compute_fake_sick(fake, &s.id, true);
    assert_int_equal(compute_probe_in(remote, &a, &s.id, &p, &fault, &e), 0);
    assert_string_equal(fault, "port 80 refuses connections");
    s.want = COMPUTE_WANT_STOPPED;
    assert_int_equal(compute_ensure(remote, &a, &s, &st, &e), 0);
    assert_int_equal(compute_probe_in(remote, &a, &s.id, &p, &fault, &e), -1);
    assert_int_equal(e.code, ERR_INVALID_STATE);
    compute_free(remote);
    compute_server_free(server);
    compute_free(fake);
    unlink(o.socket_path);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_older_agent_gets_no_order_that_it_would_do_by_half),
        cmocka_unit_test(files_and_probes_cross),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
