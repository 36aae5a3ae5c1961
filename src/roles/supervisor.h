/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Keeps children running: starts them, starts again what dies (at once, and with a pause that grows
 * while it dies again and again), passes signals on, reaps everything.  One thread; knows nothing
 * of what the children do. */

#include <sys/types.h>

#include "base/base.h"

enum { CHILDREN_MAX = 8, CHILD_FDS = 80 };

struct child {
    const char *name;
    int exe_fd;                           /* what execveat runs */
    const char *const *argv, *const *env; /* env: ENV_SUPERVISOR is added */
    const int *fds;                       /* become 3, 4, …; -1: the ready pipe's end */
    size_t n_fds;
    int64_t wait; /* before its first start: it is not to be in the way of those people wait for */
    int hopeless; /* an exit code after which it is not started again: all end */
    /* A line it wrote to its ready pipe. May be NULL. */
    void (*on_line)(void *ctx, const char *line);
    void *ctx;
    /* The supervisor's own: */
    pid_t pid; /* 0: not running */
    int ready_fd;
    bool ready, died;
    int64_t started, start_at, backoff;
    size_t line_n;
    char line[512];
};

struct supervisor {
    struct child *children; /* stopped last to first, each after the one before has ended */
    size_t n;
    /* Before the start of a child that died before and ran for less than 'healthy' (60 s) now:
     * 100 ms, twice as long each time, at most 5 s. */
    int64_t backoff_min, backoff_max, healthy;
    int64_t drain;                /* from SIGTERM to SIGKILL: 35 s */
    void (*on_hangup)(void *ctx); /* before SIGHUP goes to the children. May be NULL. */
    void *ctx;
};
/* Runs until SIGTERM or SIGINT (then 0), or until a child is hopeless (then that child's exit
 * code). A second SIGINT or SIGTERM kills at once. */
int supervise(struct supervisor *s, struct err *e);
