/* SPDX-License-Identifier: Apache-2.0 */
/* An api of the test's own at the other end, whose every line it chooses. */
#include "planes/feed/follow.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "codec/id.h"
#include "core/feed/feed.h"
#include "os/file.h"
#include "os/link.h"
#include "os/unixsock.h"
#include "services/compute/names.h"

#define INSTALLATION "0a1b2c3d"

/* ---- what the edge was told: names, sorted by their coming */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char now[4096], next[4096]; /* "a b c " */
static bool taking;
static int snapshots;

static void begin(void *ctx _unused_)
{
    taking = true;
    next[0] = '\0';
}

static int row(void *ctx _unused_, const void *row, struct err *e)
{
    const struct vpc_name *n = row;
    char *to = taking ? next : now;

    if (strcmp(n->name, "bad") == 0)
        return err_set(e, ERR_INVALID, "a bad name");
    pthread_mutex_lock(&lock);
    snprintf(to + strlen(to), sizeof(now) - strlen(to), "%s ", n->name);
    pthread_mutex_unlock(&lock);
    return 0;
}

static void gone(void *ctx _unused_, const struct uuid *id)
{
    pthread_mutex_lock(&lock);
    snprintf(now + strlen(now), sizeof(now) - strlen(now), "-%c ", id->s[35]);
    pthread_mutex_unlock(&lock);
}

static void end(void *ctx _unused_)
{
    pthread_mutex_lock(&lock);
    memcpy(now, next, sizeof(now));
    taking = false;
    snapshots++;
    pthread_mutex_unlock(&lock);
}

static const struct feed_sink sink = { "names", &vpc_name_record, NULL, begin, row, gone, end };

static void wait_now(const char *want)
{
    char got[sizeof(now)];

    for (int i = 0; i < 500; i++) {
        pthread_mutex_lock(&lock);
        memcpy(got, now, sizeof(got));
        pthread_mutex_unlock(&lock);
        if (strcmp(got, want) == 0)
            return;
        usleep(10000);
    }
    assert_string_equal(got, want);
}

/* ---- the api */

static char dir[64], path[80];
static int dir_fd, listener = -1;

static struct link *api_accept(void)
{
    struct pollfd p = { listener, POLLIN, 0 };
    struct err e;

    assert_int_equal(poll(&p, 1, 15000), 1);
    struct link *l = link_new(accept4(listener, NULL, NULL, SOCK_CLOEXEC), "edge");
    if (link_greet(l, INSTALLATION, &e) < 0)
        fail_msg("%s", e.msg);
    return l;
}

static void say(struct link *l, struct feed_line line)
{
    struct buf b = BUF(MIB(1));
    struct err e;

    feed_line_write(&line, &b);
    (void)!link_send(l, FRAME_JSON, FEED_STREAM, buf_str(&b), &e);
    buf_free(&b);
}

static void say_row(struct link *l, int64_t revision, const char *name, char id)
{
    char text[400];

    snprintf(
        text, sizeof(text),
        "[{\"id\":\"0199aaaa-0000-7000-8000-00000000000%c\",\"vpc_id\":"
        "\"0199aaaa-0000-7000-8000-0000000000ff\",\"name\":\"%s\",\"private_ip\":\"10.0.0.1\"}]",
        id, name);
    say(l, (struct feed_line){
               .kind = FEED_ROWS, .revision = revision, .part = "names", .rows = text });
}

static void say_snapshot(struct link *l, const char *epoch, int64_t revision, const char *name)
{
    say(l, (struct feed_line){ .kind = FEED_BEGIN, .epoch = epoch, .revision = revision });
    say_row(l, 0, name, '1');
    say(l, (struct feed_line){ .kind = FEED_END, .revision = revision });
}

static void api_ends(struct link *l)
{
    link_break(l);
    link_unref(l);
}

static struct follow *edge(void)
{
    return follow_new(&(struct follow_opts){ .socket_path = path,
                                             .installation = INSTALLATION,
                                             .api_uid = 1,
                                             .dir = dir_fd,
                                             .sinks = &sink,
                                             .n_sinks = 1 });
}

static off_t kept(void)
{
    struct stat st;

    return fstatat(dir_fd, "feed", &st, 0) == 0 ? st.st_size : -1;
}

static bool closed(const struct link *l, int timeout)
{
    struct pollfd p = { l->fd, POLLRDHUP, 0 };

    return poll(&p, 1, timeout) == 1;
}

/* ---- the tests */

static void a_snapshot_and_what_changes_are_kept_for_the_next_start(void **state _unused_)
{
    struct follow *f = edge();
    struct link *l = api_accept();

    say_snapshot(l, "e", 5, "web");
    wait_now("web ");
    say_row(l, 6, "db", '2');
    say_row(l, 7, "bad", '3');
    say(l,
        (struct feed_line){ .kind = FEED_ROWS, .revision = 8, .part = "unknown", .rows = "[{}]" });
    say(l, (struct feed_line){ .kind = FEED_GONE,
                               .revision = 9,
                               .part = "names",
                               .id = { "0199aaaa-0000-7000-8000-000000000001" } });
    wait_now("web db -1 ");
    usleep(100000);
    follow_free(f); /* as a kill would: nothing is written at the end */
    api_ends(l);
    now[0] = '\0';
    close(listener);
    f = edge();
    assert_string_equal(now, "web db -1 ");
    follow_free(f);
}

static void an_older_feed_is_refused_and_another_epoch_is_not(void **state _unused_)
{
    struct follow *f = edge();
    struct link *l = api_accept();

    say_snapshot(l, "e", 50, "new");
    wait_now("new ");
    say_row(l, 60, "newer", '2');
    wait_now("new newer ");
    usleep(100000);
    follow_free(f);
    api_ends(l);
    f = edge();
    l = api_accept();
    say_snapshot(l, "e", 59, "old");
    assert_true(closed(l, 5000));
    wait_now("new newer ");
    api_ends(l);
    follow_free(f);
    f = edge();
    l = api_accept();
    say_snapshot(l, "other", 3, "restored");
    wait_now("restored ");
    follow_free(f);
    api_ends(l);
}

static void half_a_snapshot_changes_nothing(void **state _unused_)
{
    struct follow *f = edge();
    struct link *l = api_accept();

    say_snapshot(l, "e", 5, "web");
    wait_now("web ");
    api_ends(l);
    l = api_accept();
    say(l, (struct feed_line){ .kind = FEED_BEGIN, .epoch = "e", .revision = 6 });
    say_row(l, 0, "half", '1');
    usleep(100000);
    api_ends(l);
    l = api_accept();
    wait_now("web ");
    follow_free(f);
    api_ends(l);
    now[0] = '\0';
    f = edge();
    assert_string_equal(now, "web ");
    /* It is taken up from its beginning. */
    l = api_accept();
    say_snapshot(l, "e", 6, "whole");
    wait_now("whole ");
    follow_free(f);
    api_ends(l);
}

static void a_torn_file_gives_what_is_whole_of_it(void **state _unused_)
{
    struct follow *f = edge();
    struct link *l = api_accept();

    say_snapshot(l, "e", 5, "web");
    say_row(l, 6, "db", '2');
    say_row(l, 7, "third", '3');
    wait_now("web db third ");
    usleep(100000);
    follow_free(f);
    api_ends(l);
    close(listener);
    off_t size = kept();
    bool whole = true;
    for (off_t n = size; n >= 0; n -= 7) {
        int fd = openat(dir_fd, "feed", O_WRONLY);
        assert_int_equal(ftruncate(fd, n), 0);
        close(fd);
        now[0] = '\0';
        f = edge();
        bool is_whole = strcmp(now, "web db third ") == 0;
        assert_true(is_whole || !strcmp(now, "web db ") || !strcmp(now, "web ") || !now[0]);
        assert_true(whole || !is_whole);
        whole = is_whole;
        follow_free(f);
    }
    /* Nonsense is nothing. */
    int fd = openat(dir_fd, "feed", O_WRONLY | O_TRUNC);
    assert_int_equal(write(fd, "nonsense and more nonsense", 26), 26);
    close(fd);
    f = edge();
    assert_string_equal(now, "");
    follow_free(f);
}

static void changes_without_a_beginning_are_no_feed(void **state _unused_)
{
    static const struct feed_line wrong[] = {
        { .kind = FEED_END },
        { .kind = FEED_GONE, .part = "names", .id = { "0199aaaa-0000-7000-8000-000000000001" } },
        { .kind = FEED_ROWS, .part = "names", .rows = "[]" },
    };

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct follow *f = edge();
        struct link *l = api_accept();
        say(l, wrong[i]);
        assert_true(closed(l, 5000));
        assert_string_equal(now, "");
        api_ends(l);
        follow_free(f);
    }
}

static void a_file_that_grows_is_replaced_by_a_snapshot(void **state _unused_)
{
    struct follow *f = edge();
    struct link *l = api_accept();
    int64_t revision = 5;

    say_snapshot(l, "e", revision, "web");
    wait_now("web ");
    while (!closed(l, 0)) {
        for (int i = 0; i < 100; i++)
            say(l, (struct feed_line){ .kind = FEED_GONE,
                                       .revision = ++revision,
                                       .part = "unknown",
                                       .id = { "0199aaaa-0000-7000-8000-000000000001" } });
        assert_true(revision < 1000000);
        usleep(1000);
    }
    api_ends(l);
    l = api_accept();
    assert_true(kept() > 1 << 20);
    say_snapshot(l, "e", revision, "again");
    wait_now("again ");
    usleep(100000);
    assert_true(kept() < 1024);
    assert_int_equal(faccessat(dir_fd, "feed.new", F_OK, 0), -1);
    follow_free(f);
    api_ends(l);
}

static int set_up(void **state _unused_)
{
    struct err e;

    snprintf(dir, sizeof(dir), "/var/tmp/brume-feed-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof(path), "%s/feed.sock", dir);
    dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    listener = unix_listen(path, UNIX_STREAM, 0600, &e);
    now[0] = '\0';
    taking = false;
    return listener < 0 ? -1 : 0;
}

static int tear_down(void **state _unused_)
{
    struct err e;

    close(dir_fd);
    close(listener);
    return dir_remove(dir, &e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
        T(a_snapshot_and_what_changes_are_kept_for_the_next_start),
        T(an_older_feed_is_refused_and_another_epoch_is_not),
        T(half_a_snapshot_changes_nothing),
        T(a_torn_file_gives_what_is_whole_of_it),
        T(changes_without_a_beginning_are_no_feed),
        T(a_file_that_grows_is_replaced_by_a_snapshot),
    };

    log_init(LOG_ERROR + 1, false, "test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
