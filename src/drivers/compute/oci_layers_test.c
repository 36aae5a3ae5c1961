/* SPDX-License-Identifier: Apache-2.0 */
/* Instances of a host whose kernel cannot show layers under other ids: the driver is told to act as
 * there, for real containers. */
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/mount.h>
#include <sys/xattr.h>

#include "drivers/compute/oci_test_host.h"

#define CHROOT_RIGHT 0x40000u /* CAP_SYS_CHROOT */

/* The only folder in 'parent', or NULL. */
static const char *only(struct host *h, const char *parent)
{
    DIR *d = opendir(parent);
    const char *found = NULL;
    int n = 0;

    for (struct dirent *f; d && (f = readdir(d));)
        if (strcmp(f->d_name, ".") != 0 && strcmp(f->d_name, "..") != 0) {
            found = arena_printf(&h->a, "%s/%s", parent, f->d_name);
            n++;
        }
    if (d)
        closedir(d);
    assert_true(n <= 1);
    return found;
}

static const char *copies_of(struct host *h, const struct uuid *id)
{
    return arena_printf(&h->a, "%s/instances/%s/layers", h->dir, id->s);
}

static struct stat stat_of(struct host *h, const char *dir, const char *name)
{
    struct stat st;

    if (lstat(arena_printf(&h->a, "%s/%s", dir, name), &st) < 0)
        fail_msg("%s is missing", name);
    return st;
}

/* Everything a layer can hold. */
static void fill_layer(struct host *h, const char *layer)
{
    struct vfs_cap_data cap = { .magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE,
                                .data[0].permitted = CHROOT_RIGHT };
    struct err e;
#define IN(name) arena_printf(&h->a, "%s/" name, layer)

    assert_int_equal(dir_make(IN("home/guest"), 0750, &e), 0);
    assert_int_equal(chown(IN("home/guest"), 1000, 1000), 0);
    assert_int_equal(setxattr(IN("home/guest"), "trusted.overlay.opaque", "y", 1, 0), 0);
    assert_int_equal(file_write(IN("home/guest/big"), "x", 1, 0644, &e), 0);
    assert_int_equal(truncate(IN("home/guest/big"), 1 << 30), 0);
    assert_int_equal(file_write(IN("bin/raised"), "#!", 2, 0755, &e), 0);
    assert_int_equal(chown(IN("bin/raised"), 7, 65535), 0);
    assert_int_equal(chmod(IN("bin/raised"), 06755), 0);
    assert_int_equal(setxattr(IN("bin/raised"), "security.capability", &cap, sizeof(cap), 0), 0);
    assert_int_equal(setxattr(IN("bin/raised"), "user.note", "n", 1, 0), 0);
    assert_int_equal(link(IN("bin/raised"), IN("bin/also")), 0);
    assert_int_equal(mkfifo(IN("pipe"), 0640), 0);
    assert_int_equal(chmod(IN("pipe"), 0640), 0);
    assert_int_equal(mknod(IN("gone"), S_IFCHR, 0), 0);
    struct timespec t[2] = { { .tv_sec = 5 }, { .tv_sec = 1234567, .tv_nsec = 89 } };
    assert_int_equal(utimensat(AT_FDCWD, IN("home"), t, 0), 0);
#undef IN
}

static void check_copy(struct host *h, const char *copy, uid_t first)
{
    struct vfs_ns_cap_data cap;
    char note[4];

    struct stat st = stat_of(h, copy, "bin/raised");
    assert_int_equal(st.st_uid, first + 7);
    assert_int_equal(st.st_gid, first + 65535);
    assert_int_equal(st.st_mode, S_IFREG | 06755);
    assert_int_equal(st.st_nlink, 2);
    assert_int_equal(st.st_ino, stat_of(h, copy, "bin/also").st_ino);
    const char *raised = arena_printf(&h->a, "%s/bin/raised", copy);
    assert_int_equal(getxattr(raised, "user.note", note, sizeof(note)), 1);
    assert_int_equal(getxattr(raised, "security.capability", &cap, sizeof(cap)), sizeof(cap));
    assert_int_equal(cap.magic_etc, VFS_CAP_REVISION_3 | VFS_CAP_FLAGS_EFFECTIVE);
    assert_int_equal(cap.data[0].permitted, CHROOT_RIGHT);
    assert_int_equal(cap.rootid, first);
    st = stat_of(h, copy, "home/guest");
    assert_int_equal(st.st_uid, first + 1000);
    assert_int_equal(st.st_mode, S_IFDIR | 0750);
    const char *guest = arena_printf(&h->a, "%s/home/guest", copy);
    assert_int_equal(getxattr(guest, "trusted.overlay.opaque", note, sizeof(note)), 1);
    st = stat_of(h, copy, "home/guest/big");
    assert_int_equal(st.st_size, 1 << 30);
    assert_true(st.st_blocks < 64);
    st = stat_of(h, copy, "home");
    assert_int_equal(st.st_mtim.tv_sec, 1234567);
    assert_int_equal(st.st_mtim.tv_nsec, 89);
    assert_int_equal(stat_of(h, copy, "pipe").st_mode, S_IFIFO | 0640);
    assert_int_equal(stat_of(h, copy, "bin/sh").st_mode & S_IFMT, S_IFLNK);
    assert_int_equal(stat_of(h, copy, "bin/sh").st_uid, first);
    st = stat_of(h, copy, "gone");
    assert_int_equal(st.st_mode & S_IFMT, S_IFCHR);
    assert_int_equal(st.st_rdev, 0);
    assert_int_equal(stat_of(h, copy, ".").st_mode, S_IFDIR | 0755);
}

static void act_as_without_idmaps(struct host *h, bool yes)
{
    compute_free(h->c);
    h->copy_layers = yes;
    h->c = open_driver(h);
}

static const char *say(struct host *h, const struct uuid *id, const char *script)
{
    return exec_in(h, id, arena_printf(&h->a, "[\"sh\",\"-c\",\"%s\"]", script)).out.p;
}

static uid_t first_id(struct host *h, const struct uuid *id)
{
    const char *map = exec_in(h, id, "[\"cat\",\"/proc/self/uid_map\"]").out.p;
    unsigned in, out;

    assert_int_equal(sscanf(map, "%u %u", &in, &out), 2);
    return out;
}

TEST_HOST(layers_that_cannot_be_shown_under_other_ids_are_copied_once)
{
    HOST;
    const char *layer = only(h, arena_printf(&h->a, "%s/images/layers", h->dir));
    struct compute_spec s = spec_of(h, "[\"sh\",\"-c\",\"trap exit TERM; sleep 600 & wait\"]");
    struct compute_stats st;
    struct err e = { 0 };

    fill_layer(h, layer);
    act_as_without_idmaps(h, true);
    assert_int_equal(ensure(h, &s).status, COMPUTE_RUNNING);
    const char *copies = copies_of(h, &s.id), *copy = only(h, copies);
    assert_non_null(copy);
    check_copy(h, copy, first_id(h, &s.id));
    assert_string_equal(say(h, &s.id, "stat -c %u:%g:%a /bin/raised /home/guest /bin/busybox"),
                        "7:65535:6755\n1000:1000:750\n0:0:755\n");
    /* What it changes is its own: not the copy, not the layer. */
    assert_string_equal(say(h, &s.id, "rm /bin/also; echo mine > /etc/passwd; cat /etc/passwd"),
                        "mine\n");
    stat_of(h, copy, "bin/also");
    stat_of(h, layer, "bin/also");
    assert_int_equal(compute_stats_of(h->c, &s.id, &st, &e), 0);
    int64_t program = stat_of(h, copy, "bin/busybox").st_blocks * 512;
    assert_true(st.disk_bytes >= program && st.disk_bytes < program + (int64_t)MIB(1));

    /* Once: over a stop, and a restart of the driver. */
    ino_t inode = stat_of(h, copy, ".").st_ino;
    act_as_without_idmaps(h, true);
    assert_int_equal(await(h, &s.id, COMPUTE_RUNNING).boot, 1);
    s.boot = 2;
    s.revision = ++h->revision;
    ensure(h, &s);
    assert_string_equal(only(h, copies), copy);
    assert_int_equal(stat_of(h, copy, ".").st_ino, inode);
    assert_string_equal(say(h, &s.id, "cat /etc/passwd; test -e /bin/also || echo gone"),
                        "mine\ngone\n");
    assert_int_equal(destroy_now(h, &s.id, &e), 0);
    assert_null(only(h, arena_printf(&h->a, "%s/instances/%s", h->dir, s.id.s)));
}

TEST_HOST(a_copy_whose_maker_was_killed_is_made_again)
{
    HOST;
    struct compute_spec s = spec_of(h, "[\"sh\",\"-c\",\"trap exit TERM; sleep 600 & wait\"]");

    act_as_without_idmaps(h, true);
    ensure(h, &s);
    const char *copy = only(h, copies_of(h, &s.id));
    const char *half =
        arena_printf(&h->a, "%s/.new-%s", copies_of(h, &s.id), strrchr(copy, '/') + 1);
    s.want = COMPUTE_WANT_STOPPED;
    s.revision = ++h->revision;
    assert_int_equal(ensure(h, &s).status, COMPUTE_STOPPED);
    assert_int_equal(rename(copy, half), 0);
    assert_int_equal(unlink(arena_printf(&h->a, "%s/bin/busybox", half)), 0);
    s.want = COMPUTE_WANT_RUNNING;
    s.boot = 2;
    s.revision = ++h->revision;
    assert_int_equal(ensure(h, &s).status, COMPUTE_RUNNING);
    assert_string_equal(only(h, copies_of(h, &s.id)), copy);
    assert_string_equal(say(h, &s.id, "echo alive"), "alive\n");
}

TEST_HOST(copies_go_when_the_kernel_has_learned_to_do_without)
{
    HOST;
    struct compute_spec s = spec_of(h, "[\"sh\",\"-c\",\"trap exit TERM; sleep 600 & wait\"]");

    act_as_without_idmaps(h, true);
    ensure(h, &s);
    say(h, &s.id, "echo mine > /etc/passwd");
    act_as_without_idmaps(h, false);
    s.boot = 2;
    s.revision = ++h->revision;
    assert_int_equal(ensure(h, &s).status, COMPUTE_RUNNING);
    assert_int_equal(access(copies_of(h, &s.id), F_OK), -1);
    assert_string_equal(say(h, &s.id, "cat /etc/passwd; stat -c %u /etc/passwd /bin/busybox"),
                        "mine\n0\n0\n");
}

TEST_HOST(a_full_disk_is_told_of_and_nothing_of_a_start_stays)
{
    HOST;
    const char *instances = arena_printf(&h->a, "%s/instances", h->dir);
    struct compute_spec s = spec_of(h, "[\"sleep\",\"600\"]");
    struct compute_state st;
    struct err e = { 0 };

    compute_free(h->c);
    assert_int_equal(mount("small", instances, "tmpfs", 0, "size=160k"), 0);
    h->copy_layers = true;
    h->c = open_driver(h);
    assert_int_equal(compute_ensure(h->c, &h->a, &s, &st, &e), -1);
    assert_int_equal(e.code, ERR_NO_SPACE);
    assert_string_equal(e.msg, "the host's disk is full");
    assert_int_equal(access(copies_of(h, &s.id), F_OK), -1);
    assert_int_equal(destroy_now(h, &s.id, &e), 0);
    assert_int_equal(access(arena_printf(&h->a, "%s/%s", instances, s.id.s), F_OK), -1);
    /* A disk of its own. */
    act_as_without_idmaps(h, false);
    uuid_new(clock_system(), &s.id);
    s.disk_mb = 64;
    assert_int_equal(compute_ensure(h->c, &h->a, &s, &st, &e), -1);
    assert_int_equal(e.code, ERR_NO_SPACE);
    assert_int_equal(destroy_now(h, &s.id, &e), 0);
    assert_int_equal(access(arena_printf(&h->a, "%s/%s", instances, s.id.s), F_OK), -1);
    compute_free(h->c);
    assert_int_equal(umount(instances), 0);
    h->c = open_driver(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HOST_TEST(layers_that_cannot_be_shown_under_other_ids_are_copied_once),
        HOST_TEST(a_copy_whose_maker_was_killed_is_made_again),
        HOST_TEST(copies_go_when_the_kernel_has_learned_to_do_without),
        HOST_TEST(a_full_disk_is_told_of_and_nothing_of_a_start_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
