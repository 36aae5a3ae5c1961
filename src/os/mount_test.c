/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "os/mount.h"
#include "os/ns.h"

enum { FIRST = 1879048192 };

static char top[64];

static const char *at(const char *name)
{
    static char ring[8][128];
    static int i;
    char *p = ring[i++ % 8];

    snprintf(p, 128, "%s/%s", top, name);
    return p;
}

static int prepare(void **state _unused_)
{
    snprintf(top, sizeof(top), "/var/tmp/brume-mount-XXXXXX");
    if (!mkdtemp(top))
        return -1;
    const char *dirs[] = { "a", "b", "upper", "work", "root", "c" };
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
        if (mkdir(at(dirs[i]), 0755) < 0)
            return -1;
    return 0;
}

static int undo(void **state _unused_)
{
    struct err e;
    const char *rm[] = { "a/f", "b/f", "b/g", "upper/f", "work/work" };
    const char *dirs[] = { "a", "b", "upper", "work", "root", "c", "" };

    if (mount_remove(at("root"), &e) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(rm); i++)
        if (unlink(at(rm[i])) < 0)
            rmdir(at(rm[i]));
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
        if (rmdir(at(dirs[i])) < 0)
            return -1;
    return 0;
}

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "we");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void get(const char *path, char *out, int n)
{
    FILE *f = fopen(path, "re");

    assert_non_null(f);
    assert_non_null(fgets(out, n, f));
    fclose(f);
}

static void an_overlay_of_idmapped_layers_shows_the_topmost_under_mapped_ids(void **state _unused_)
{
    struct err e;
    struct stat st;
    char text[32];

    put(at("a/f"), "upper a");
    put(at("b/f"), "lower b");
    put(at("b/g"), "only b");
    assert_int_equal(chown(at("upper"), FIRST, FIRST), 0);
    int ns = mount_userns(FIRST, 65536, &e);
    assert_true(ns >= 0);
    int lower[2] = { mount_clone(at("a"), false, &e), mount_clone(at("b"), false, &e) };
    for (int i = 0; i < 2; i++) {
        assert_true(lower[i] >= 0);
        assert_int_equal(mount_idmap(lower[i], ns, &e), 0);
    }
    int fd = mount_overlay(lower, 2, at("upper"), at("work"), &e);
    if (fd < 0)
        fail_msg("%s: %s", e.msg, e.cause);
    assert_int_equal(mount_set(fd, MOUNT_NO_DEV, false, &e), 0);
    assert_false(mount_is(at("root")));
    assert_int_equal(mount_place(fd, AT_FDCWD, at("root"), &e), 0);
    assert_true(mount_is(at("root")));
    get(at("root/f"), text, sizeof(text));
    assert_string_equal(text, "upper a");
    get(at("root/g"), text, sizeof(text));
    assert_string_equal(text, "only b");
    assert_int_equal(stat(at("root/g"), &st), 0);
    assert_int_equal(st.st_uid, FIRST);
    /* Copy-up. */
    put(at("root/f"), "changed");
    get(at("a/f"), text, sizeof(text));
    assert_string_equal(text, "upper a");
    get(at("upper/f"), text, sizeof(text));
    assert_string_equal(text, "changed");
    close(fd);
    close(lower[0]);
    close(lower[1]);
    close(ns);
    assert_int_equal(mount_remove(at("root"), &e), 0);
    assert_false(mount_is(at("root")));
    assert_int_equal(mount_remove(at("root"), &e), 0);
    assert_int_equal(mount_remove(at("none"), &e), 0);
}

static void a_bind_mount_can_be_read_only(void **state _unused_)
{
    struct err e;

    assert_int_equal(mount_bind(at("b"), at("root"), MOUNT_READ_ONLY | MOUNT_NO_EXEC, &e), 0);
    assert_int_equal(access(at("root/f"), F_OK), -1);
    assert_int_equal(open(at("root/f"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600), -1);
    assert_int_equal(errno, EROFS);
}

static void a_refused_mount_says_why(void **state _unused_)
{
    struct err e;

    assert_int_equal(mount_new("no-such-fs", NULL, &e), -1);
    assert_int_equal(mount_new("tmpfs", "size=what", &e), -1);
    assert_non_null(strstr(e.cause, "size"));
    int fd = mount_new("tmpfs", "size=64k,mode=0700", &e);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(mount_overlay(NULL, 0, NULL, NULL, &e), -1);
    assert_int_equal(mount_bind(at("nothing"), at("root"), 0, &e), -1);
}

static void a_namespace_has_a_name_until_it_is_removed(void **state _unused_)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    struct err e;
    bool made;
    char name[64];
    const char **names;
    size_t n;

    snprintf(name, sizeof(name), "brume-nstest%d", (int)getpid());
    assert_int_equal(ns_open(name, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    int one = ns_make(name, &made, &e);
    assert_true(one >= 0 && made);
    int two = ns_make(name, &made, &e);
    assert_true(two >= 0 && !made);
    struct stat s1, s2;
    assert_true(fstat(one, &s1) == 0 && fstat(two, &s2) == 0);
    assert_int_equal(s1.st_ino, s2.st_ino);
    int s = ns_socket(one, 2, 2, 0, &e);
    assert_true(s >= 0);
    close(s);
    assert_int_equal(ns_list(&a, name, &names, &n, &e), 0);
    assert_int_equal(n, 1);
    close(one);
    close(two);
    assert_int_equal(ns_remove(name, &e), 0);
    assert_int_equal(ns_remove(name, &e), 0);
    assert_int_equal(ns_list(&a, name, &names, &n, &e), 0);
    assert_int_equal(n, 0);
    assert_int_equal(ns_make("../evil", &made, &e), -1);
    /* What a maker killed half way leaves. */
    char path[128];
    snprintf(path, sizeof(path), NS_DIR "/%s", name);
    put(path, "");
    assert_int_equal(ns_open(name, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    one = ns_make(name, &made, &e);
    assert_true(one >= 0 && made);
    close(one);
    assert_int_equal(ns_remove(name, &e), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            an_overlay_of_idmapped_layers_shows_the_topmost_under_mapped_ids, prepare, undo),
        cmocka_unit_test_setup_teardown(a_bind_mount_can_be_read_only, prepare, undo),
        cmocka_unit_test_setup_teardown(a_refused_mount_says_why, prepare, undo),
        cmocka_unit_test(a_namespace_has_a_name_until_it_is_removed),
    };

    if (geteuid() != 0) {
        printf("needs root\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
