/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Where fuzzers unpack what nobody trusts: a file system in memory that only this process sees and
 * that ends with it, however it ends. */

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/base.h"
#include "os/file.h"

#define FUZZ_PLACE "/mnt"

static inline void fuzz_place_open(void)
{
    static bool open;

    if (open)
        return;
    if (unshare(CLONE_NEWNS) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0) {
        fprintf(stderr, "no mount namespace: %s\n", strerrordesc_np(errno));
        exit(1);
    }
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("fuzz", FUZZ_PLACE, "tmpfs", 0, "size=64m,nr_inodes=20000,mode=755") < 0) {
        fprintf(stderr, "no place of its own: %s\n", strerrordesc_np(errno));
        exit(1);
    }
    open = true;
}

/* An empty folder of that name in the place. */
static inline const char *fuzz_folder(const char *name)
{
    static _Thread_local char path[4][64];
    static _Thread_local unsigned turn;
    char *out = path[turn++ % 4];
    struct err e;

    fuzz_place_open();
    snprintf(out, sizeof(path[0]), FUZZ_PLACE "/%s", name);
    if (dir_remove(out, &e) < 0 || mkdir(out, 0755) < 0) {
        fprintf(stderr, "%s: %s %s\n", out, e.msg, strerrordesc_np(errno));
        abort();
    }
    return out;
}
