/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "os/file.h"

static struct arena a;
static char top[64];

static const char *at(const char *name)
{
    return arena_printf(&a, "%s/%s", top, name);
}

static int prepare(void **state _unused_)
{
    a = ARENA(MIB(4));
    snprintf(top, sizeof(top), "/tmp/brume-file-XXXXXX");
    return mkdtemp(top) ? 0 : -1;
}

static int undo(void **state _unused_)
{
    struct err e = { 0 };

    umount2(at("tree/mnt"), MNT_DETACH);
    int rc = dir_remove(top, &e);
    arena_free(&a);
    return rc;
}

static size_t files_in_top(void)
{
    DIR *d = opendir(top);
    size_t n = 0;

    while (readdir(d))
        n++;
    closedir(d);
    return n - 2;
}

static void a_file_is_read_whole_or_refused(void **state _unused_)
{
    struct err e;
    struct str s;

    assert_int_equal(file_write(at("f"), "hello", 5, 0640, &e), 0);
    assert_int_equal(file_read(&a, at("f"), 5, &s, &e), 0);
    assert_true(str_is(s, "hello"));
    assert_int_equal(s.p[5], 0);
    assert_int_equal(file_read(&a, at("f"), 4, &s, &e), -1);
    assert_int_equal(e.code, ERR_TOO_LARGE);
    assert_int_equal(file_read(&a, at("none"), 4, &s, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_int_equal(file_read(&a, top, 4, &s, &e), -1);
    assert_int_equal(mkfifo(at("fifo"), 0600), 0);
    assert_int_equal(file_read(&a, at("fifo"), 4, &s, &e), -1); /* and does not hang */
    assert_int_equal(file_read(&a, "/proc/self/status", 65536, &s, &e), 0);
    assert_true(s.n > 100); /* a kernel's file says its size is 0 */
    assert_int_equal(file_read(&a, "/proc/self/status", 10, &s, &e), -1);
    assert_int_equal(e.code, ERR_TOO_LARGE);
}

static void writing_replaces_the_file_and_leaves_nothing_beside(void **state _unused_)
{
    struct err e;
    struct str s;
    struct stat st;

    assert_int_equal(file_write_atomic(at("f"), "one", 3, 0600, &e), 0);
    assert_int_equal(file_write_atomic(at("f"), "second", 6, 0644, &e), 0);
    assert_int_equal(file_read(&a, at("f"), 100, &s, &e), 0);
    assert_true(str_is(s, "second"));
    assert_int_equal(stat(at("f"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
    assert_int_equal(files_in_top(), 1);
    assert_int_equal(mkdir(at("dir"), 0700), 0);
    assert_int_equal(file_write_atomic(at("dir"), "x", 1, 0600, &e), -1);
    assert_int_equal(file_write(at("no/such/place"), "x", 1, 0600, &e), -1);
    assert_int_equal(e.code, ERR_INTERNAL);
    assert_int_equal(files_in_top(), 2);
}

static void a_link_in_the_place_of_a_file_is_replaced_not_followed(void **state _unused_)
{
    struct err e;
    struct str s;
    struct stat st;

    assert_int_equal(file_write(at("target"), "keep", 4, 0600, &e), 0);
    assert_int_equal(symlink(at("target"), at("link")), 0);
    assert_int_equal(file_write(at("link"), "new", 3, 0600, &e), 0);
    assert_int_equal(file_read(&a, at("target"), 10, &s, &e), 0);
    assert_true(str_is(s, "keep"));
    assert_int_equal(lstat(at("link"), &st), 0);
    assert_true(S_ISREG(st.st_mode));
}

static void folders_are_made_with_their_parents(void **state _unused_)
{
    struct err e;
    struct stat st;

    assert_int_equal(dir_make(at("x/y//z"), 0750, &e), 0);
    assert_int_equal(dir_make(at("x/y/z/"), 0750, &e), 0);
    assert_int_equal(stat(at("x/y/z"), &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_int_equal(file_write(at("f"), "", 0, 0600, &e), 0);
    assert_int_equal(dir_make(at("f"), 0750, &e), -1);
    assert_int_equal(dir_make(at("f/g"), 0750, &e), -1);
    assert_int_equal(dir_make("", 0750, &e), -1);
}

static void removing_follows_no_link(void **state _unused_)
{
    struct err e;
    struct stat st;

    assert_int_equal(dir_make(at("tree/a/b"), 0700, &e), 0);
    assert_int_equal(dir_make(at("outside"), 0700, &e), 0);
    assert_int_equal(file_write(at("outside/keep"), "k", 1, 0600, &e), 0);
    assert_int_equal(file_write(at("tree/a/f"), "k", 1, 0400, &e), 0);
    assert_int_equal(symlink(at("outside"), at("tree/a/b/link")), 0);
    assert_int_equal(symlink(at("outside"), at("tree/link")), 0);
    assert_int_equal(dir_remove(at("tree"), &e), 0);
    assert_int_equal(lstat(at("tree"), &st), -1);
    assert_int_equal(stat(at("outside/keep"), &st), 0);
    assert_int_equal(dir_remove(at("tree"), &e), 0); /* missing is fine */
    assert_int_equal(symlink(at("outside"), at("l")), 0);
    assert_int_equal(dir_remove(at("l"), &e), 0);
    assert_int_equal(stat(at("outside/keep"), &st), 0);
}

static void removing_enters_no_mount(void **state _unused_)
{
    struct err e;
    struct stat st;

    assert_int_equal(dir_make(at("tree/mnt"), 0700, &e), 0);
    assert_int_equal(dir_make(at("outside"), 0700, &e), 0);
    assert_int_equal(file_write(at("outside/keep"), "k", 1, 0600, &e), 0);
    if (mount(at("outside"), at("tree/mnt"), NULL, MS_BIND, NULL) < 0)
        skip();
    assert_int_equal(dir_remove(at("tree"), &e), -1);
    assert_int_equal(stat(at("outside/keep"), &st), 0);
    assert_int_equal(umount(at("tree/mnt")), 0);
    assert_int_equal(dir_remove(at("tree"), &e), 0);
}

static void a_tree_of_any_depth_is_removed(void **state _unused_)
{
    struct err e;
    struct stat st;
    int fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    for (int i = 0; i < 3000; i++) { /* far past PATH_MAX and the limit of descriptors */
        assert_int_equal(mkdirat(fd, "deep", 0700), 0);
        int f = openat(fd, "file", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        int next = openat(fd, "deep", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(f >= 0 && next >= 0);
        close(f);
        close(fd);
        fd = next;
    }
    close(fd);
    assert_int_equal(dir_remove(at("deep"), &e), 0);
    assert_int_equal(lstat(at("deep"), &st), -1);
}

static void all_bytes_go_through_a_slow_pipe(void **state _unused_)
{
    static char in[300000], out[300000];
    struct err e;
    int fds[2];

    for (size_t i = 0; i < sizeof(in); i++)
        in[i] = (char)(i * 7);
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0)
        _exit(fd_write_all(fds[1], in, sizeof(in), &e) < 0);
    close(fds[1]);
    assert_int_equal(fd_read_all(fds[0], out, sizeof(out), &e), 0);
    assert_memory_equal(in, out, sizeof(in));
    assert_int_equal(fd_read_all(fds[0], out, 1, &e), -1); /* the end */
    close(fds[0]);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(fd_write_all(-1, in, 1, &e), -1);
    assert_int_equal(fd_set_nonblock(-1), -1);
    assert_int_equal(file_poke(at("none"), "1", &e), -1);
}

static _Atomic bool renaming;
static void *rename_often(void *arg)
{
    int root = *(int *)arg;

    while (renaming)
        if (renameat(root, "one", root, "two") < 0 || renameat(root, "two", root, "one") < 0)
            break;
    return NULL;
}

/* With bare openat2() about one open in ten fails here. */
static void a_way_up_is_found_while_folders_are_renamed(void **state _unused_)
{
    _cleanup_close_ int root = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    pthread_t t;

    assert_int_equal(mkdirat(root, "one", 0700), 0);
    assert_int_equal(mkdirat(root, "in", 0700), 0);
    renaming = true;
    assert_int_equal(pthread_create(&t, NULL, rename_often, &root), 0);
    for (int i = 0; i < 20000; i++) {
        _cleanup_close_ int fd =
            fd_open_in(root, "in/../in/../../../in/..", O_RDONLY | O_DIRECTORY, 0);
        if (fd < 0)
            fail_msg("the %dth: %s", i, strerrordesc_np(errno));
    }
    renaming = false;
    pthread_join(t, NULL);
    assert_int_equal(fd_open_in(root, "in/../../etc", O_RDONLY, 0), -1);
}

static void what_cannot_be_looked_through_is_no_empty_file(void **state _unused_)
{
    struct err e = { 0 };
    int from[2], to = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    assert_true(to >= 0);
    assert_int_equal(pipe2(from, O_CLOEXEC), 0);
    assert_int_equal(write(from[1], "text", 4), 4);
    assert_int_equal(fd_copy_all(from[0], to, &e), -1);
    assert_int_equal(e.code, ERR_INTERNAL);
    close(from[0]);
    close(from[1]);
    close(to);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, prepare, undo)
    const struct CMUnitTest tests[] = {
        TEST(a_file_is_read_whole_or_refused),
        TEST(writing_replaces_the_file_and_leaves_nothing_beside),
        TEST(a_link_in_the_place_of_a_file_is_replaced_not_followed),
        TEST(folders_are_made_with_their_parents),
        TEST(removing_follows_no_link),
        TEST(removing_enters_no_mount),
        TEST(a_tree_of_any_depth_is_removed),
        TEST(all_bytes_go_through_a_slow_pipe),
        TEST(a_way_up_is_found_while_folders_are_renamed),
        cmocka_unit_test(what_cannot_be_looked_through_is_no_empty_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
