/* SPDX-License-Identifier: Apache-2.0 */
/* What stays in the store, and what is collected. */
#include "drivers/image/image_case.h"

static void what_is_held_stays_until_it_is_released(void **state _unused_)
{
    const char *const *dirs;
    struct image_state st, again;
    struct err e;
    static const struct entry own[] = { { "own", S_IFREG, "own", 0644 }, { NULL, 0, NULL, 0 } };

    assert_int_equal(wait_for("busybox", SECONDS(20)).status, IMAGE_READY);
    size_t before = files_in("images/layers");
    assert_int_equal(import("held", IMAGE_ROOTFS_TAR, NULL, make_tar(own, false), &st, &e), 0);
    assert_int_equal(layers(st.digest, &dirs), 1);
    assert_int_equal(image_remove(store, "held", &e), 0);
    assert_int_equal(image_inspect(store, &arena, "held", &again, &e), 0);
    assert_int_equal(again.status, IMAGE_ABSENT);
    assert_int_equal(access(dirs[0], F_OK), 0);
    /* Also over a restart, which sweeps what was half made. */
    assert_int_equal(mkdir(at("%s/images/layers/.new-killed", top), 0755), 0);
    image_free(store);
    store = open_store();
    assert_int_equal(access(dirs[0], F_OK), 0);
    assert_int_equal(files_in("images/layers"), before + 1);
    image_local_release(store, &user);
    assert_int_equal(access(dirs[0], F_OK), -1);
    assert_int_equal(files_in("images/layers"), before);
    assert_int_equal(image_inspect(store, &arena, "busybox", &again, &e), 0);
    assert_int_equal(again.status, IMAGE_READY);
    /* What got out of the way is removed where nobody waits for it. */
    for (int i = 0; i < 1000 && files_in("images/tmp"); i++)
        usleep(5000);
    assert_int_equal(files_in("images/tmp"), 0);
}

static int image_threads(void)
{
    struct dirent *f;
    struct str name;
    struct err e;
    int n = 0;
    DIR *d = opendir("/proc/self/task");

    assert_non_null(d);
    while ((f = readdir(d)))
        n += file_read(&arena, at("/proc/self/task/%s/comm", f->d_name), 64, &name, &e) == 0 &&
             strncmp(name.p, "image-", 6) == 0;
    closedir(d);
    return n;
}

/* Others have work for the threads; and what is left at the end is for the next start. */
static void one_thread_removes_what_was_set_aside(void **state _unused_)
{
    struct err e;

    image_free(store);
    for (int i = 0; i < 4000; i++) {
        assert_int_equal(mkdir(at("%s/images/tmp/.gone-%d", top, i), 0755), 0);
        assert_int_equal(mkdir(at("%s/images/tmp/.gone-%d/in", top, i), 0755), 0);
    }
    store = open_store();
    for (int i = 0; i < 20; i++)
        assert_int_equal(image_remove(store, "of-no-name", &e), 0);
    assert_true(image_threads() <= 2); /* a second may begin where the first has just done all */
    image_free(store);
    assert_true(files_in("images/tmp") > 0);
    store = open_store();
    for (int i = 0; i < 2000 && files_in("images/tmp"); i++)
        usleep(5000);
    assert_int_equal(files_in("images/tmp"), 0);
}

/* Its end is the last that is asked for: all that follows is the store's own work. */
static ssize_t give_and_remove(void *ctx, void *p, size_t n, struct err *e)
{
    ssize_t r = give(ctx, p, n, e);
    struct image_state st;
    struct err why;

    if (r == 0) {
        assert_int_equal(image_inspect(store, &arena, "late", &st, &why), 0);
        assert_int_equal(st.status, IMAGE_BUILDING);
        assert_string_equal(st.source, "import");
        assert_int_equal(image_remove(store, "late", &why), -1);
        assert_int_equal(why.code, ERR_INVALID_STATE);
    }
    return r;
}

static void an_import_that_nobody_waits_for_leaves_nothing(void **state _unused_)
{
    static const struct entry own[] = { { "late", S_IFREG, "late", 0644 }, { NULL, 0, NULL, 0 } };
    struct oci o = make_oci();
    const struct str bytes[] = { make_tar(own, false), oci_archive(&o) };
    struct image_state st;
    struct err e, again;
    size_t before = files_in("images/layers"), names = files_in("images/names");

    for (size_t i = 0; i < ARRAY_LEN(bytes); i++) {
        struct str left = bytes[i];
        assert_int_equal(image_import(store, &arena, "late",
                                      i == 0 ? IMAGE_ROOTFS_TAR : IMAGE_OCI_ARCHIVE, NULL,
                                      give_and_remove, &left, &st, &e),
                         -1);
        assert_int_equal(e.code, ERR_INVALID_STATE);
        assert_int_equal(image_inspect(store, &arena, "late", &st, &e), 0);
        assert_int_equal(st.status, IMAGE_ABSENT);
        assert_int_equal(files_in("images/layers"), before);
        assert_int_equal(files_in("images/names"), names);
        assert_int_equal(image_remove(store, "late", &again), 0);
    }
    /* The name is free for another try. */
    assert_int_equal(import("late", IMAGE_ROOTFS_TAR, NULL, bytes[0], &st, &e), 0);
    assert_int_equal(image_remove(store, "late", &e), 0);
}

static struct str held_back;
static ssize_t give_and_remove_another(void *ctx, void *p, size_t n, struct err *e)
{
    size_t had = files_in("images/layers");
    struct err why;

    if (image_remove(store, "another", &why) == 0 && files_in("images/layers") == had - 1)
        *(bool *)ctx = true;
    return give(&held_back, p, n, e);
}

static void what_takes_long_to_make_does_not_hold_up_collecting(void **state _unused_)
{
    static const struct entry other[] = { { "other", S_IFREG, "o", 0644 }, { NULL, 0, NULL, 0 } };
    static const struct entry own[] = { { "long", S_IFREG, "long", 0644 }, { NULL, 0, NULL, 0 } };
    struct image_state st;
    bool gone = false;
    struct err e;

    assert_int_equal(import("another", IMAGE_ROOTFS_TAR, NULL, make_tar(other, false), &st, &e), 0);
    held_back = make_tar(own, false);
    assert_int_equal(image_import(store, &arena, "long", IMAGE_ROOTFS_TAR, NULL,
                                  give_and_remove_another, &gone, &st, &e),
                     0);
    assert_true(gone);
    assert_int_equal(image_remove(store, "long", &e), 0);
}

/* What is in use is not known then. */
static void nothing_is_collected_while_a_record_cannot_be_read(void **state _unused_)
{
    static const struct entry own[] = { { "kept", S_IFREG, "k", 0644 }, { NULL, 0, NULL, 0 } };
    const char *names = at("%s/images/names", top), *away = at("%s/images/away", top);
    struct image_state st;
    struct err e;

    assert_int_equal(import("kept", IMAGE_ROOTFS_TAR, NULL, make_tar(own, false), &st, &e), 0);
    size_t had = files_in("images/layers");
    assert_int_equal(rename(names, away), 0);
    assert_int_equal(image_remove(store, "of-no-name", &e), 0);
    assert_int_equal(rename(away, names), 0);
    assert_int_equal(files_in("images/layers"), had);
    const char *record = at("%s/images/names/record", top);
    assert_int_equal(symlink(record, record), 0);
    assert_int_equal(image_remove(store, "kept", &e), 0);
    assert_int_equal(files_in("images/layers"), had);
    assert_int_equal(unlink(record), 0);
    int fd = open(record, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd); /* one that makes no sense keeps nothing */
    assert_int_equal(image_remove(store, "kept", &e), 0);
    assert_int_equal(files_in("images/layers"), had - 1);
    assert_int_equal(unlink(record), 0);
}

static void *collect_all_the_time(void *stop)
{
    struct err e;

    /* Who takes a lock again at once leaves it to nobody. */
    for (; !atomic_load((atomic_bool *)stop); usleep(100))
        if (image_remove(store, "of-no-name", &e) < 0)
            return stop;
    return NULL;
}

static void collecting_takes_nothing_of_what_is_being_made(void **state _unused_)
{
    struct oci o = make_oci();
    struct str archive = oci_archive(&o);
    atomic_bool stop = false;
    struct image_state st;
    void *failed;
    struct err e;

    for (const char *const *one = (const char *const[]){ "app", "saved", NULL }; *one; one++)
        assert_int_equal(image_remove(store, *one, &e), 0);
    pthread_t thread = thread_start("collect", collect_all_the_time, &stop);
    for (int i = 0; i < 30; i++) {
        if (import("made", IMAGE_OCI_ARCHIVE, NULL, archive, &st, &e) < 0)
            fail_msg("%s: %s", e.msg, e.cause);
        check_two_layers(&st);
        assert_int_equal(image_remove(store, "made", &e), 0);
    }
    atomic_store(&stop, true);
    pthread_join(thread, &failed);
    assert_null(failed);
}

static void a_full_disk_is_told_of_and_nothing_of_an_image_stays(void **state _unused_)
{
    static char much[2 << 20];
    const struct entry files[] = { { "much", S_IFREG, much, 0644 }, { NULL, 0, NULL, 0 } };
    struct image_state st;
    struct err e;

    memset(much, 'x', sizeof(much) - 1);
    struct str tar = make_tar(files, false);
    image_free(store);
    assert_int_equal(mount("small", at("%s/images", top), "tmpfs", 0, "size=1m"), 0);
    store = open_store();
    assert_int_equal(import("full", IMAGE_ROOTFS_TAR, NULL, tar, &st, &e), -1);
    assert_int_equal(e.code, ERR_NO_SPACE);
    assert_string_equal(e.msg, "the host's disk is full");
    assert_int_equal(files_in("images/layers"), 0);
    assert_int_equal(files_in("images/tmp"), 0);
    assert_int_equal(import("full", IMAGE_OCI_ARCHIVE, NULL, tar, &st, &e), -1);
    assert_int_equal(e.code, ERR_NO_SPACE);
    assert_int_equal(files_in("images/tmp"), 0);
    image_free(store);
    assert_int_equal(umount(at("%s/images", top)), 0);
    store = open_store();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_held_stays_until_it_is_released),
        cmocka_unit_test(one_thread_removes_what_was_set_aside),
        cmocka_unit_test(an_import_that_nobody_waits_for_leaves_nothing),
        cmocka_unit_test(what_takes_long_to_make_does_not_hold_up_collecting),
        cmocka_unit_test(nothing_is_collected_while_a_record_cannot_be_read),
        cmocka_unit_test(collecting_takes_nothing_of_what_is_being_made),
        cmocka_unit_test(a_full_disk_is_told_of_and_nothing_of_an_image_stays),
    };

    return run_cases(tests, ARRAY_LEN(tests));
}
