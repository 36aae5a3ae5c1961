/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Processes by argv, never by a shell: a clean environment, no inherited descriptors beyond 0–2 and
 * those named, a time-out, bounded output. */

#include "base/base.h"
#include "base/buf.h"

struct process_opts {
    const char *const *argv; /* argv[0] is looked up in PATH unless it has a '/' */
    const char *const *env;  /* NULL: PATH, LANG=C.UTF-8, HOME=/ only */
    const char *cwd;         /* NULL: "/" */
    struct str input;        /* to its stdin; empty: /dev/null */
    int64_t timeout;         /* microseconds; 0: 60 s.  Then SIGKILL to its process group. */
    bool (*stop)(void *ctx); /* asked twice a second: true ends it like its time-out; may be NULL */
    void *stop_ctx;
    size_t max_output;   /* of stdout and of stderr each; 0: 1 MiB; the rest is discarded */
    const int *keep_fds; /* descriptors it inherits at the same numbers; ends with -1 */
};

struct process_result {
    int status; /* exit code, or 128 + signal */
    bool timed_out;
    struct str out, err; /* in the arena, NUL-terminated */
};

/* Runs it to its end.  -1 only if it could not be started, timed out or was to stop
 * (ERR_REQUEST_TIMEOUT). */
int process_run(struct arena *a, const struct process_opts *o, struct process_result *out,
                struct err *e);
/* As above, and a non-zero exit is an error too, whose cause is the last line of stderr. */
int process_check(struct arena *a, const struct process_opts *o, struct process_result *out,
                  struct err *e);
/* Full path of a program in PATH (and /usr/sbin:/sbin), or NULL. */
const char *process_which(struct arena *a, const char *name);
/* The number of a signal: "SIGTERM", "TERM", "15", "SIGRTMIN+3", in letters of any case; 0 if it is
 * none. */
int process_signal(const char *name);
