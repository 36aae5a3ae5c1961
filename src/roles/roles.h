/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the files of this floor tell each other: how the supervisor starts a role, where things are.
 */

#include <sys/types.h>

#include "core/config/config.h"

enum { LISTENERS_MAX = 64 };

/* A role's inheritance: descriptors at fixed numbers, and two variables. */
enum {
    FD_CONFIG =
        3,        /* the configuration in force, as YAML; the supervisor rewrites it, then SIGHUP */
    FD_READY = 4, /* lines to the supervisor: "ready", or what a first run made */
    FD_LISTEN = 5, /* listening sockets, as many as ENV_LISTENERS says */
};
#define ENV_SUPERVISOR "BRUME_SUPERVISOR" /* its process id */
#define ENV_LISTENERS  "BRUME_LISTENERS"

/* A role ends with this when starting it again cannot help. */
enum { EXIT_HOPELESS = 78 };

struct launch {
    pid_t supervisor; /* 0: started alone */
    int ready_fd;     /* -1: none */
    int listeners[LISTENERS_MAX];
    size_t n_listeners;
    int argc; /* with which it was started, and where */
    const char *const *argv, *const *env;
};

/* ---- serve.c */
/* `brume serve …`: 'argv' is what follows "serve". */
int serve_main(int argc, const char *const *argv, const char *const *env);
/* Reads file, environment and flags; says every fault on standard error. */
struct config *serve_config(int argc, const char *const *argv, const char *const *env);

/* ---- role.c: the child's side */
int role_main(const char *role, int argc, const char *const *argv, const char *const *env);
/* Ends with the supervisor: to be called after the user has been dropped. */
int role_bind(const struct launch *l, struct err *e);
/* A line to the supervisor. */
void role_say(const struct launch *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Before the first thread. */
void role_log(const struct config *c, const char *role);
/* What of it may change while it runs. */
void role_log_level(const struct config *c);
/* For config_follow(): says so in the log. */
void role_needs_restart(void *ctx, const struct setting *key);
/* The process ends with 0 after 'patience', if it has not ended by itself: to be called when what
 * is left to do can be cut anywhere (visits and orders are taken up again at the next start). */
void role_leave_within(int64_t patience);
/* As many open files as the system lets us have; before root is left. */
void role_raise_files(void);
/* Reads the configuration that stands at FD_CONFIG now. */
struct config *role_config(struct err *e);

/* ---- api.c */
int api_run(struct config *c, struct launch *l);
/* Its worker threads. */
int api_workers(const struct config *c);

/* ---- sandbox.c */
/* Becomes 'user' for good: no groups, no capabilities, nothing to gain by exec. */
int sandbox_drop(const char *user, struct err *e);
/* Refuses the system calls that the api and the edge have no use for.  What is not on the list is
 * allowed.
 */
int sandbox_filter(struct err *e);

/* ---- place.c: folders and names */
int user_find(const char *name, uid_t *uid, gid_t *gid, struct err *e);
/* Makes state, run and cache folders with their owners; idempotent. */
int place_make(const struct config *c, uid_t uid, gid_t gid, struct err *e);
/* The installation's id: 8 hex digits, made at the first call. */
int place_installation(const char *state_dir, char out[9], struct err *e);
/* Path of the shim that belongs to this program, or NULL. */
const char *place_shim(struct arena *a);
const char *place_agent_socket(struct arena *a, const struct config *c);
const char *place_control_socket(struct arena *a, const struct config *c);
const char *place_edge_socket(struct arena *a, const struct config *c);
const char *place_feed_socket(struct arena *a, const struct config *c);
/* The edge's own folder, made and opened by root: its user cannot pass the state folder above it.
 */
int place_edge(const struct config *c, struct err *e);
/* Path of the SQLite file, or NULL if the store is another. */
const char *place_store_file(const struct config *c);
/* Holds 'path' locked: a descriptor; ERR_INVALID_STATE if another process does. */
int place_lock(const char *path, struct err *e);

/* ---- clone.c */
/* The clone that this program was built in, if it runs from there; else NULL.  A program that was
 * taken out of its clone with what the build left beside it has its own folder for one, never the
 * places of an installed one. */
const char *clone_root(struct arena *a);
/* What to type there for this program: "./brume", or "brume" where it is installed. */
const char *clone_command(struct arena *a);
/* The clone's places, in place of the defaults; NULL if there is none. */
const struct config_below *clone_below(struct arena *a);

/* ---- listen.c */
/* Opens 'n' sockets for it. A port that somebody uses: says who, and what to do. */
int listen_open(const struct listen_address *at, size_t n, int *out, struct err *e);
/* Who listens there: "nginx (pid 812)", or "another process". */
void listen_owner(const struct listen_address *at, char *out, size_t n);
/* Whether that process has a socket that listens there. */
bool listen_held(const struct listen_address *at, pid_t pid);
/* How many I/O threads, and so listeners, the api has. */
int serve_io_threads(const struct config *c);

/* ---- control.c: orders to the running api, from root */
struct control;
struct store;
struct control *control_new(const char *path, struct store *store, const char *state_dir,
                            struct err *e);
int control_fd(const struct control *c);
/* A connection waits at control_fd(). */
void control_accept(struct control *c);
/* Waits for an order that runs. */
void control_free(struct control *c);
/* ---- backup.c */
int backup_main(int argc, const char *const *argv, const char *const *env);
int restore_main(int argc, const char *const *argv, const char *const *env);

/* ---- doctor.c */
int doctor_main(int argc, const char *const *argv, const char *const *env);
