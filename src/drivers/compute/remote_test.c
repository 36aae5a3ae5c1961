/* SPDX-License-Identifier: Apache-2.0 */
/* Both ends of the agent's socket in one process, over the drivers in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/clock.h"
#include "codec/id.h"
#include "drivers/compute/protocol.h"
#include "drivers/compute/remote.h"
#include "drivers/compute/server.h"
#include "drivers/image/image.h"
#include "os/thread.h"
#include "os/unixsock.h"

#define INSTALLATION "0a1b2c3d"

struct pair {
    struct arena a;
    char dir[64];
    const char *path;
    struct compute *fake, *remote;
    struct image_store *fake_images, *images;
    struct compute_server *server;
};

static void serve(struct pair *p)
{
    struct compute_server_opts o = { .socket_path = p->path,
                                     .installation = INSTALLATION,
                                     .api_uid = 1,
                                     .compute = p->fake,
                                     .images = p->fake_images,
                                     .threads = 4 };
    struct err e = { 0 };

    p->server = compute_server_new(&o, &e);
    if (!p->server)
        fail_msg("%s (%s)", e.msg, e.cause);
}

static int setup(void **state)
{
    struct pair *p = calloc(1, sizeof(*p));

    p->a = ARENA(MIB(64));
    snprintf(p->dir, sizeof(p->dir), "/tmp/brume-remote-XXXXXX");
    if (!mkdtemp(p->dir))
        return -1;
    p->path = arena_printf(&p->a, "%s/agent.sock", p->dir);
    p->fake = compute_fake();
    p->fake_images = image_fake();
    serve(p);
    p->remote = compute_remote(p->path, INSTALLATION);
    p->images = image_remote(p->remote);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct pair *p = *state;

    image_free(p->images);
    compute_free(p->remote);
    compute_server_free(p->server);
    compute_free(p->fake);
    image_free(p->fake_images);
    unlink(p->path);
    rmdir(p->dir);
    arena_free(&p->a);
    free(p);
    return 0;
}

static struct compute_spec spec_of(const char *env)
{
    struct compute_spec s = { .revision = 1,
                              .boot = 1,
                              .name = "probe",
                              .image = "sha256:00",
                              .env = env,
                              .ports = "[{\"host\":0,\"port\":80,\"protocol\":\"tcp\"}]" };

    uuid_new(clock_system(), &s.id);
    return s;
}

static void an_order_goes_there_and_its_state_comes_back(void **state)
{
    struct pair *p = *state;
    struct compute_spec s = spec_of(NULL);
    struct compute_state st, *all;
    struct compute_stats stats;
    struct err e = { 0 };
    size_t n;

    assert_int_equal(compute_ensure(p->remote, &p->a, &s, &st, &e), 0);
    assert_int_equal(st.status, COMPUTE_RUNNING);
    assert_true(uuid_eq(&st.id, &s.id));
    assert_non_null(strstr(st.ports, "30000"));
    assert_int_equal(compute_inspect(p->remote, &p->a, &s.id, &st, &e), 0);
    assert_int_equal(st.boot, 1);
    assert_int_equal(compute_list(p->remote, &p->a, &all, &n, &e), 0);
    assert_int_equal(n, 1);
    assert_int_equal(compute_stats_of(p->remote, &s.id, &stats, &e), 0);
    assert_int_equal(stats.pids, 1);
    assert_int_equal(compute_destroy(p->remote, &s.id, 1, 0, &e), 0);
    assert_int_equal(compute_inspect(p->remote, &p->a, &s.id, &st, &e), 0);
    assert_int_equal(st.status, COMPUTE_ABSENT);
}

static void an_error_crosses_with_its_code_and_words(void **state)
{
    struct pair *p = *state;
    struct compute_spec s = spec_of(NULL);
    struct compute_state st;
    struct compute_stats stats;
    struct err e = { 0 };

    assert_int_equal(compute_stats_of(p->remote, &s.id, &stats, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_string_equal(e.msg, "the host has no such instance");
    s.revision = 5;
    assert_int_equal(compute_ensure(p->remote, &p->a, &s, &st, &e), 0);
    s.revision = 4;
    assert_int_equal(compute_ensure(p->remote, &p->a, &s, &st, &e), -1);
    assert_int_equal(e.code, ERR_INVALID_STATE);
}

static int add_line(void *ctx, const struct compute_line *l)
{
    struct buf *b = ctx;

    buf_printf(b, "%d:" STR_FMT "\n", l->stream, STR_ARG(l->text));
    return l->kind == COMPUTE_LINE_IDLE ? -1 : 0;
}

static void lines_and_output_come_as_they_are(void **state)
{
    struct pair *p = *state;
    struct compute_spec s = spec_of(NULL);
    struct compute_state st;
    struct compute_log_opts o = { .tail = -1 };
    struct compute_exec x = { .cmd = "[\"echo\",\"hello\",\"there\"]", .input = STR("ignored") };
    struct compute_exec_result r;
    struct buf b = BUF(KIB(4));
    struct err e = { 0 };

    assert_int_equal(compute_ensure(p->remote, &p->a, &s, &st, &e), 0);
    assert_int_equal(compute_logs(p->remote, &s.id, &o, add_line, &b, &e), 0);
    assert_string_equal(buf_cstr(&b), "1:simulated instance started\n1:ready\n");
    buf_clear(&b);
    o.follow = true;
    assert_int_equal(compute_logs(p->remote, &s.id, &o, add_line, &b, &e), 0);
    assert_string_equal(buf_cstr(&b), "1:simulated instance started\n1:ready\n0:\n");
    buf_free(&b);
    if (compute_exec_in(p->remote, &p->a, &s.id, &x, &r, &e) < 0)
        fail_msg("%s (%s)", e.msg, e.cause);
    assert_string_equal(r.out.p, "echo hello there\n");
    assert_int_equal(r.exit_code, 0);
}

static int cut_exec(struct compute *h _unused_, struct arena *a _unused_,
                    const struct uuid *id _unused_, const struct compute_exec *x,
                    struct compute_exec_result *out, struct err *e _unused_)
{
    *out = (struct compute_exec_result){ .out = STR("o"), .err = STR("e") };
    out->out_cut = x->kill_background;
    out->err_cut = !x->kill_background;
    return 0;
}

static void which_of_both_outputs_was_cut_is_told(void **state)
{
    struct pair *p = *state;
    struct compute_class cuts = *p->fake->class;
    const struct compute_class *real = p->fake->class;
    struct compute_exec x = { .cmd = "[\"x\"]" };
    struct compute_exec_result r;
    struct compute_spec s = spec_of(NULL);
    struct err e;

    cuts.exec = cut_exec;
    p->fake->class = &cuts;
    for (int k = 0; k < 2; k++) {
        x.kill_background = k;
        assert_int_equal(compute_exec_in(p->remote, &p->a, &s.id, &x, &r, &e), 0);
        assert_int_equal(r.out_cut, k);
        assert_int_equal(r.err_cut, !k);
    }
    p->fake->class = real;
}

/* ---- one who reads slowly ---- */

enum { SHORT_LINES = 60000 };

static int many_lines(struct compute *h _unused_, const struct uuid *id _unused_,
                      const struct compute_log_opts *o, compute_line_fn *fn, void *ctx,
                      struct err *e _unused_)
{
    struct compute_line l = { .stream = 1, .text = STR("x"), .after = { .file = { 1, 1 } } };

    for (int64_t i = o->from.at[0]; i < SHORT_LINES; i++) {
        l.time = l.after.at[0] = l.after.at[1] = i + 1;
        if (fn(ctx, &l) < 0)
            break;
    }
    return 0;
}

struct slow {
    struct pair *p;
    struct uuid id;
    pthread_mutex_t door; /* held as long as it shall not read on */
    struct compute_log_place last;
    _Atomic int64_t lines;
    bool in_order;
    int result;
};

static int read_slowly(void *ctx, const struct compute_line *l)
{
    struct slow *s = ctx;

    if (l->kind == COMPUTE_LINE_IDLE)
        return 0;
    s->last = l->after;
    s->in_order = s->in_order && l->time == atomic_fetch_add(&s->lines, 1) + 1;
    pthread_mutex_lock(&s->door);
    pthread_mutex_unlock(&s->door);
    return 0;
}

static void *slow_reader(void *ctx)
{
    struct slow *s = ctx;
    struct compute_log_opts o = { .tail = -1 };
    struct err e = { 0 };

    while ((s->result = compute_logs(s->p->remote, &s->id, &o, read_slowly, s, &e)) < 0 &&
           e.code == ERR_ENGINE_UNAVAILABLE) {
        o.from = s->last;
        usleep(10000);
    }
    return NULL;
}

static pthread_t slow_begin(struct slow *s, struct pair *p)
{
    struct compute_spec spec = spec_of(NULL);
    struct compute_state st;
    struct err e = { 0 };

    *s = (struct slow){ .p = p, .id = spec.id, .in_order = true };
    pthread_mutex_init(&s->door, NULL);
    assert_int_equal(compute_ensure(p->fake, &p->a, &spec, &st, &e), 0);
    pthread_mutex_lock(&s->door);
    pthread_t t = thread_start("slow", slow_reader, s);
    while (atomic_load(&s->lines) == 0)
        usleep(1000);
    return t;
}

static void slow_end(struct slow *s, pthread_t t)
{
    pthread_mutex_unlock(&s->door);
    pthread_join(t, NULL);
    pthread_mutex_destroy(&s->door);
    assert_int_equal(s->result, 0);
    assert_int_equal(atomic_load(&s->lines), SHORT_LINES);
    assert_true(s->in_order);
}

static void a_slow_reader_of_logs_holds_up_nobody_else(void **state)
{
    struct pair *p = *state;
    struct compute_class chatty = *p->fake->class;
    const struct compute_class *plain = p->fake->class;
    struct compute_exec x = { .cmd = "[\"echo\",\"done\"]" };
    struct compute_exec_result r;
    struct err e = { 0 };
    struct slow s;

    chatty.logs = many_lines;
    p->fake->class = &chatty;
    pthread_t t = slow_begin(&s, p);
    usleep(300000);
    for (int i = 0; i < 20; i++) {
        if (compute_exec_in(p->remote, &p->a, &s.id, &x, &r, &e) < 0)
            fail_msg("%s (%s)", e.msg, e.cause);
        assert_string_equal(r.out.p, "echo done\n");
    }
    slow_end(&s, t);
    p->fake->class = plain;
}

static void logs_go_on_behind_the_last_line_when_the_agent_comes_again(void **state)
{
    struct pair *p = *state;
    struct compute_class chatty = *p->fake->class;
    const struct compute_class *plain = p->fake->class;
    struct slow s;

    chatty.logs = many_lines;
    p->fake->class = &chatty;
    pthread_t t = slow_begin(&s, p);
    compute_server_free(p->server);
    serve(p);
    slow_end(&s, t);
    p->fake->class = plain;
}

static int lines_then_failure(struct compute *h, const struct uuid *id,
                              const struct compute_log_opts *o, compute_line_fn *fn, void *ctx,
                              struct err *e)
{
    (void)many_lines(h, id, o, fn, ctx, e);
    return err_set(e, ERR_INTERNAL, "the disk is gone");
}

static void logs_that_break_off_are_an_error(void **state)
{
    struct pair *p = *state;
    struct compute_class chatty = *p->fake->class;
    const struct compute_class *plain = p->fake->class;
    struct compute_log_opts o = { .tail = -1 };
    struct slow s = { .p = p, .in_order = true, .door = PTHREAD_MUTEX_INITIALIZER };
    struct err e = { 0 };

    chatty.logs = lines_then_failure;
    p->fake->class = &chatty;
    uuid_new(clock_system(), &s.id);
    assert_int_equal(compute_logs(p->remote, &s.id, &o, read_slowly, &s, &e), -1);
    assert_string_equal(e.msg, "the disk is gone");
    assert_int_equal(atomic_load(&s.lines), SHORT_LINES);
    p->fake->class = plain;
}

/* ---- the window itself ---- */

static struct link *link_of(int fd, bool orderer)
{
    struct link *l = link_new(fd, "agent");

    l->orderer = orderer;
    return l;
}

static void one_who_sends_past_the_window_is_not_heard_any_more(void **state)
{
    (void)state;
    for (int kind = FRAME_JSON; kind <= FRAME_BYTES; kind++) {
        int fd[2], sent = 0, r = 0;
        struct err e = { 0 };

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
        struct link *l = link_of(fd[0], true);
        close(fd[1]);
        struct stream *s = stream_open(l, 1);
        while (r == 0) {
            struct message *m = calloc(1, sizeof(*m) + 2);
            *m = (struct message){ .kind = (enum frame_kind)kind, .stream = 1, .n = 1 };
            r = link_deliver(l, m, &e);
            sent += r == 0;
        }
        assert_int_equal(r, -1);
        assert_int_equal(sent, STREAM_WINDOW_FRAMES);
        stream_close(s);
        link_unref(l);
    }
}

static void an_exit_is_pushed(void **state)
{
    struct pair *p = *state;
    struct compute_spec s = spec_of(NULL);
    struct compute_state st;
    struct uuid id;
    struct err e = { 0 };

    assert_int_equal(compute_ensure(p->remote, &p->a, &s, &st, &e), 0);
    assert_int_equal(compute_watch(p->remote, MILLIS(100), &id, &e), 0);
    compute_fake_exit(p->fake, &s.id, 3);
    assert_int_equal(compute_watch(p->remote, SECONDS(5), &id, &e), 1);
    assert_true(uuid_eq(&id, &s.id));
    assert_int_equal(compute_inspect(p->remote, &p->a, &id, &st, &e), 0);
    assert_int_equal(st.exit_code, 3);
}

static void without_an_agent_orders_say_so_and_with_it_they_go_again(void **state)
{
    struct pair *p = *state;
    struct compute_spec s = spec_of(NULL);
    struct compute_state st;
    struct uuid id;
    struct err e = { 0 };

    assert_int_equal(compute_ensure(p->remote, &p->a, &s, &st, &e), 0);
    assert_int_equal(compute_watch(p->remote, MILLIS(50), &id, &e), 0);
    compute_server_free(p->server);
    p->server = NULL;
    assert_int_equal(compute_watch(p->remote, SECONDS(5), &id, &e), -1);
    assert_int_equal(compute_inspect(p->remote, &p->a, &s.id, &st, &e), -1);
    assert_int_equal(e.code, ERR_ENGINE_UNAVAILABLE);
    assert_int_equal(compute_inspect(p->remote, &p->a, &s.id, &st, &e), -1);
    assert_string_equal(e.msg, "the agent is not running");
    serve(p);
    int tries = 0;
    while (compute_inspect(p->remote, &p->a, &s.id, &st, &e) < 0 && tries++ < 300)
        usleep(10000);
    assert_int_equal(st.status, COMPUTE_RUNNING);
}

static void another_installation_is_refused(void **state)
{
    struct pair *p = *state;
    struct compute *other = compute_remote(p->path, "ffffffff");
    struct compute_state *all;
    size_t n;
    struct err e = { 0 };

    assert_int_equal(compute_list(other, &p->a, &all, &n, &e), -1);
    assert_int_equal(e.code, ERR_ENGINE_UNAVAILABLE);
    assert_non_null(strstr(e.msg, INSTALLATION));
    compute_free(other);
}

struct many {
    struct pair *p;
    int bad;
};

static void *fifty_orders(void *ctx)
{
    struct many *m = ctx;
    struct err e = { 0 };

    for (int i = 0; i < 50; i++) {
        struct arena a = ARENA(MIB(8));
        struct compute_spec s = spec_of(NULL);
        struct compute_state st;
        if (compute_ensure(m->p->remote, &a, &s, &st, &e) < 0 || !uuid_eq(&st.id, &s.id) ||
            compute_destroy(m->p->remote, &s.id, 1, 0, &e) < 0)
            m->bad++;
        arena_free(&a);
    }
    return NULL;
}

static void many_threads_share_the_connection(void **state)
{
    struct many m[8];
    pthread_t t[8];

    for (int i = 0; i < 8; i++) {
        m[i] = (struct many){ *state, 0 };
        t[i] = thread_start("orders", fifty_orders, &m[i]);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(t[i], NULL);
        assert_int_equal(m[i].bad, 0);
    }
}

static void a_long_list_takes_several_frames(void **state)
{
    struct pair *p = *state;
    struct compute_state st, *all;
    struct err e = { 0 };
    size_t n;

    for (int i = 0; i < 1000; i++) {
        struct compute_spec s = spec_of(NULL);
        assert_int_equal(compute_ensure(p->fake, &p->a, &s, &st, &e), 0);
    }
    assert_int_equal(compute_list(p->remote, &p->a, &all, &n, &e), 0);
    assert_int_equal(n, 1000);
}

static ssize_t give_zeroes(void *ctx, void *p, size_t n, _unused_ struct err *e)
{
    size_t *left = ctx, part = MIN(n, *left);

    memset(p, 0, part);
    *left -= part;
    return (ssize_t)part;
}

static void images_go_over_the_same_connection(void **state)
{
    struct pair *p = *state;
    struct image_state st;
    struct err e = { 0 };
    size_t left = MIB(3); /* more than a window */

    assert_int_equal(image_ensure(p->images, &p->a, "nginx", NULL, false, &st, &e), 0);
    assert_string_equal(st.name, "nginx");
    assert_int_equal(image_inspect(p->images, &p->a, "nginx", &st, &e), 0);
    if (image_import(p->images, &p->a, "mine", IMAGE_ROOTFS_TAR, NULL, give_zeroes, &left, &st,
                     &e) < 0)
        assert_int_not_equal(e.code, ERR_ENGINE_UNAVAILABLE);
    assert_int_equal(image_remove(p->images, "nginx", &e), 0);
}

/* The real store of a host may have names by the thousand, and each configuration half a MiB. */
static void the_list_of_images_has_what_registries_gave_and_no_configurations(void **state)
{
    struct pair *p = *state;
    struct image_state st, *all;
    struct err e = { 0 };
    size_t n;

    assert_int_equal(image_ensure(p->images, &p->a, "nginx", NULL, false, &st, &e), 0);
    for (int i = 0; i < 300; i++)
        assert_int_equal(image_ensure(p->fake_images, &p->a, arena_printf(&p->a, "slow-%d", i),
                                      NULL, false, &st, &e),
                         0);
    assert_int_equal(image_list(p->images, &p->a, &all, &n, &e), 0);
    assert_int_equal(n, 300);
    assert_string_equal(all[299].name, "slow-299");
    assert_string_equal(all[299].source, "registry");
    assert_int_equal(all[299].status, IMAGE_BUILDING);
    assert_null(all[299].env);
    for (int i = 0; i < 3; i++)
        assert_int_equal(image_inspect(p->images, &p->a, "slow-299", &st, &e), 0);
    assert_int_equal(image_inspect(p->images, &p->a, "slow-299", &st, &e), 0);
    assert_non_null(st.cmd);
    assert_int_equal(image_list(p->images, &p->a, &all, &n, &e), 0);
    assert_int_equal(all[299].status, IMAGE_READY);
    assert_null(all[299].cmd);
    assert_null(all[299].digest);
}

static int list_fat(struct compute *h _unused_, struct arena *a, struct compute_state **out,
                    size_t *n, struct err *e _unused_)
{
    char *much = arena_alloc(a, KIB(400));

    memset(much, 'x', KIB(400) - 1);
    *n = 5;
    *out = arena_new_n(a, struct compute_state, *n);
    for (size_t i = 0; i < *n; i++) {
        uuid_new(clock_system(), &(*out)[i].id);
        (*out)[i].reason = much;
    }
    return 0;
}

static void rows_that_are_long_take_a_frame_each(void **state)
{
    struct pair *p = *state;
    const struct compute_class *plain = p->fake->class;
    struct compute_class fat = *plain;
    struct compute_state *all;
    struct err e = { 0 };
    size_t n = 0;

    fat.list = list_fat;
    p->fake->class = &fat;
    int r = compute_list(p->remote, &p->a, &all, &n, &e);
    p->fake->class = plain;
    assert_int_equal(r, 0);
    assert_int_equal(n, 5);
    assert_int_equal(strlen(all[4].reason), KIB(400) - 1);
}

/* Sends bytes after a right greeting; true if the server hangs up. */
static bool hangs_up(struct pair *p, const void *bytes, size_t n)
{
    struct err e = { 0 };
    int fd = unix_connect(p->path, UNIX_STREAM, &e);
    char c[4096];
    ssize_t r;

    assert_true(fd >= 0);
    struct link *l = link_new(fd, "agent");
    assert_int_equal(link_greet(l, NULL, &e), 0);
    assert_int_equal(send(fd, bytes, n, MSG_NOSIGNAL), (ssize_t)n);
    struct timeval patience = { .tv_sec = 3 };
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    do
        r = read(fd, c, sizeof(c));
    while (r > 0);
    link_unref(l);
    return r == 0;
}

static void a_malformed_frame_ends_the_connection(void **state)
{
    struct pair *p = *state;
    struct compute_state *all;
    struct err e = { 0 };
    size_t n;

    assert_true(hangs_up(p, "\xff\xff\xff\xff\1\0\0\0\1", 9));
    assert_true(hangs_up(p, "\0\0\0\0\x63\0\0\0\1", 9));
    assert_true(hangs_up(p, "\0\0\0\2\1\0\0\0\1{x", 11));
    assert_int_equal(compute_list(p->remote, &p->a, &all, &n, &e), 0);
}

static void a_frame_is_decoded_only_when_it_is_whole(void **state)
{
    (void)state;
    static const char in[] = "\0\0\0\3\2\0\0\1\2abcX";
    struct frame f;
    struct err e = { 0 };
    size_t used = 0;

    for (size_t n = 0; n < 12; n++)
        assert_int_equal(frame_decode((struct str){ in, n }, &f, &used, &e), 0);
    assert_int_equal(frame_decode((struct str){ in, 13 }, &f, &used, &e), 1);
    assert_int_equal(used, 12);
    assert_int_equal(f.kind, FRAME_BYTES);
    assert_int_equal(f.stream, 258);
    assert_true(str_is(f.body, "abc"));
    assert_int_equal(frame_decode((struct str){ "\0\x10\0\1", 4 }, &f, &used, &e), -1);
    assert_int_equal(e.code, ERR_TOO_LARGE);
    assert_int_equal(frame_decode((struct str){ "\0\0\0\0\0", 5 }, &f, &used, &e), -1);
}

#define PAIR_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PAIR_TEST(an_order_goes_there_and_its_state_comes_back),
        PAIR_TEST(an_error_crosses_with_its_code_and_words),
        PAIR_TEST(lines_and_output_come_as_they_are),
        PAIR_TEST(which_of_both_outputs_was_cut_is_told),
        PAIR_TEST(a_slow_reader_of_logs_holds_up_nobody_else),
        PAIR_TEST(logs_go_on_behind_the_last_line_when_the_agent_comes_again),
        PAIR_TEST(logs_that_break_off_are_an_error),
        cmocka_unit_test(one_who_sends_past_the_window_is_not_heard_any_more),
        PAIR_TEST(an_exit_is_pushed),
        PAIR_TEST(without_an_agent_orders_say_so_and_with_it_they_go_again),
        PAIR_TEST(another_installation_is_refused),
        PAIR_TEST(many_threads_share_the_connection),
        PAIR_TEST(a_long_list_takes_several_frames),
        PAIR_TEST(images_go_over_the_same_connection),
        PAIR_TEST(the_list_of_images_has_what_registries_gave_and_no_configurations),
        PAIR_TEST(rows_that_are_long_take_a_frame_each),
        PAIR_TEST(a_malformed_frame_ends_the_connection),
        cmocka_unit_test(a_frame_is_decoded_only_when_it_is_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
