/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the two ways of the shim share: its words, and how it enters where an instance lives.
 * System calls and the C library alone. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SHIM_MAX_LIST = 32, SHIM_MAX_REAPED = 16 };

struct shim_list {
    const char *at[SHIM_MAX_LIST];
    int n;
};

struct shim_args {
    const char *dir, *bundle; /* where the runtime finds 'dir', in its own mount namespace */
    int ready, mount, userns, netns, files, disk;
    struct shim_list held, hidden, own_groups, groups;
    const char *end_file, *init; /* of exec, as the three below */
    int64_t timeout_ms, owner;
    bool kill_rest;
    char **runtime;
};

/* ---- shim.c */
/* Both return where they ended; no NUL is written. */
char *shim_put_text(char *p, const char *s);
char *shim_put_number(char *p, int64_t v, int width);
int64_t shim_get_number(const char *s);
bool shim_write_all(int fd, const char *p, size_t n);
/* Ends the process when a step failed, and says which. */
void shim_must(int result, const char *what);
void shim_join_groups(const struct shim_list *l);
/* A mount namespace of its own, without what the runtime must not see. */
void shim_enter_mounts(const struct shim_args *a);
void shim_default_signals(void);
void shim_oom_score(const char *score);

/* ---- exec.c: its exit status */
int shim_exec(const struct shim_args *a);
