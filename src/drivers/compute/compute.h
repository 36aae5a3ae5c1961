/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a host can do with instances.  Orders are idempotent and name the row's revision; a host
 * refuses (ERR_INVALID_STATE) an older revision than it has done.  Implementations: fake.c (in
 * memory, scripted), oci.c (containers, in the agent), remote.c (in the api role: speaks to an
 * agent). */

#include "base/driver.h"
#include "base/record.h"

struct compute_settings {
    const char *runtime; /* auto, crun, runc */
};
extern const struct settings compute_settings;
extern const struct driver_class compute_driver;
#define app_compute(app, mode) ((struct compute *)app_driver((app), &compute_driver, (mode)))

enum compute_want { COMPUTE_WANT_RUNNING, COMPUTE_WANT_STOPPED, COMPUTE_WANT_PAUSED };
extern const struct enum_name compute_want_names[]; /* running, stopped, paused */

/* All that a host must know of an instance; it knows no tenants. */
struct compute_spec {
    struct uuid id;
    int64_t revision;
    enum compute_want want;
    int64_t boot;           /* start number; greater than the one done: start again */
    const char *name;       /* host name */
    const char *image;      /* digest in the image store, "sha256:…" */
    const char *entrypoint; /* JSON list; NULL: the image's; given, nothing of the image's runs */
    const char *cmd;        /* JSON list, after the entrypoint; NULL: the image's */
    const char *env;        /* JSON map; NULL: none beside the image's */
    const char *user_data;  /* for the metadata service; NULL: none */
    int64_t cpu_milli;      /* 1000: one CPU */
    int64_t memory_mb, disk_mb, pids, network_mbps; /* 0: no limit */
    struct uuid vpc_id;
    const char *vpc_cidr, *subnet_cidr, *ip, *gateway, *dns;
    const char *ports; /* JSON: [{"host":8080,"port":80,"protocol":"tcp"}] host 0: picked */
    /* What compute_files_text() makes, or NULL: files that it finds in COMPUTE_FILES, which it may
     * not write to; replaced one by one, also while it runs, by an order with another number.  A
     * host keeps them where only memory is, if it can, and nowhere else. */
    const char *files;
    int64_t files_revision;
    const char *data; /* absolute; a folder on its disk that outlives its root.  NULL: none */
    int64_t root;     /* greater than the one done: its next start finds the image's root anew */
};
extern const struct record compute_spec_record;

#define COMPUTE_FILES "/run/brume"
enum { COMPUTE_FILES_MAX = 32, COMPUTE_FILE_BYTES = 64 << 10, COMPUTE_FILES_BYTES = 256 << 10 };
struct compute_file {
    const char *name; /* letters, digits, '.', '_', '-'; no '.' first; at most 64 */
    struct str content;
    int64_t mode, uid, gid; /* 0 to 0777; ids inside of the instance */
};
/* NULL and '*e' (ERR_INVALID) where they are more, or larger, or named otherwise than above. */
const char *compute_files_text(struct arena *a, const struct compute_file *f, size_t n,
                               struct err *e) _must_check_;
/* The way back; as strict. */
int compute_files_read(struct arena *a, const char *text, struct compute_file **out, size_t *n,
                       struct err *e) _must_check_;

enum compute_status {
    COMPUTE_ABSENT, /* the host knows nothing of it */
    COMPUTE_CREATING,
    COMPUTE_RUNNING,
    COMPUTE_PAUSED,
    COMPUTE_EXITED,   /* it ran, and ended by itself: exit_code */
    COMPUTE_STOPPED,  /* as ordered */
    COMPUTE_FAILED,   /* it cannot be made: reason */
    COMPUTE_STOPPING, /* it was asked to end, and has its grace: ask again */
};
extern const struct enum_name compute_status_names[];

struct compute_state {
    struct uuid id;
    enum compute_status status;
    int64_t revision, boot; /* of the last order done */
    int64_t pid, exit_code; /* exit_code: 128 + signal; -1 unknown */
    bool oom_killed;
    int64_t started_at, finished_at;
    const char *ports;  /* JSON as in the spec, with what was picked */
    const char *reason; /* in plain words, NULL if all is well */
};
extern const struct record compute_state_record;

struct compute_stats {
    int64_t cpu_usec; /* used since its start */
    int64_t memory_bytes, memory_limit_bytes, pids;
    int64_t disk_bytes;
    int64_t net_rx_bytes, net_tx_bytes, net_rx_packets, net_tx_packets;
    int64_t io_read_bytes, io_write_bytes;
};
extern const struct record compute_stats_record;

/* A place in the output, of stdout and of stderr: what a host says with each line and takes back,
 * nobody else's to read.  All 0: none. */
struct compute_log_place {
    int64_t file[2], at[2];
};
struct compute_log_opts {
    int64_t tail;  /* last lines; < 0: all */
    int64_t since; /* only lines that ended then or later (wall time), 0: all */
    bool follow;   /* as it is there now; then watch() says once that there is more */
    struct compute_log_place from; /* go on behind this line instead of 'tail' */
};
enum compute_line_kind {
    COMPUTE_LINE,      /* a whole line */
    COMPUTE_LINE_PART, /* its rest is in the next of its stream (over 1 MiB), or not there */
    COMPUTE_LINE_GAP,  /* output is missing here: no longer kept, or never written */
    COMPUTE_LINE_IDLE, /* 'follow' has nothing more for now: the last, for the place behind it */
};
struct compute_line {
    enum compute_line_kind kind;
    int stream;      /* 1 stdout, 2 stderr; 0: neither */
    int64_t time;    /* 0: none */
    struct str text; /* as it was printed, any bytes */
    struct compute_log_place after;
};
/* What is there when the call begins, in order; -1 ends it.  A line that is being printed is a part
 * of that, but not for who follows: it comes whole, by the next call. */
typedef int compute_line_fn(void *ctx, const struct compute_line *line);

struct compute_exec {
    const char *cmd; /* JSON list */
    const char *env; /* JSON map or NULL */
    const char *cwd; /* absolute; NULL: the image's */
    struct str input;
    int64_t timeout;      /* microseconds; 0: 60 s.  Then all that it started is killed */
    bool kill_background; /* also at its own end; else what it left running lives on */
    /* Asked about twice a second: true, nobody waits for it any more; all that it started is killed
     * (ERR_ENGINE_UNAVAILABLE).  May be NULL. */
    bool (*gone)(void *ctx);
    void *gone_ctx;
};
struct compute_exec_result {
    int64_t exit_code;
    struct str out, err;              /* at most 1 MiB each, any bytes, in the arena */
    bool timed_out, out_cut, err_cut; /* there was more */
    const char *cwd_fault; /* why 'cwd' cannot be entered ("does not exist"); then nothing ran */
};

enum compute_event {
    COMPUTE_NOTHING,
    COMPUTE_CHANGED, /* an instance's status, by no order (an exit) */
    COMPUTE_PRINTED, /* one whose log is followed has printed something */
};

/* A question to what listens in an instance, asked from inside of its network. */
enum compute_probe_kind {
    COMPUTE_PROBE_TCP,  /* does the port accept? */
    COMPUTE_PROBE_HTTP, /* does GET 'path' answer 200 to 399? */
};
extern const struct enum_name compute_probe_names[]; /* tcp, http */
struct compute_probe {
    enum compute_probe_kind kind;
    int64_t port;
    const char *path;
    int64_t timeout; /* microseconds; at most COMPUTE_PROBE_MAX */
};
#define COMPUTE_PROBE_MAX SECONDS(10)

struct compute;
struct compute_class {
    const char *name;
    /* Takes the instance towards the spec and returns its state then.  May take as long as a start
     * takes, never as long as an image's build or a stop: what has to end before is asked to
     * (COMPUTE_STOPPING), and killed by the first order after its ten seconds.  ERR_NOT_FOUND: the
     * image is not on this host; ERR_ALREADY_EXISTS: a host port is taken.  What cannot be started
     * for good is COMPUTE_FAILED.
     */
    int (*ensure)(struct compute *h, struct arena *a, const struct compute_spec *s,
                  struct compute_state *out, struct err *e);
    /* COMPUTE_ABSENT is no error. */
    int (*inspect)(struct compute *h, struct arena *a, const struct uuid *id,
                   struct compute_state *out, struct err *e);
    /* Ends it (its stop signal, from 'grace' microseconds on SIGKILL) and removes all it had: 0,
     * also where it is absent; 1: it has been asked to end and has its grace, ask again. */
    int (*destroy)(struct compute *h, const struct uuid *id, int64_t revision, int64_t grace,
                   struct err *e);
    /* All it has; *out in 'a'. */
    int (*list)(struct compute *h, struct arena *a, struct compute_state **out, size_t *n,
                struct err *e);
    int (*logs)(struct compute *h, const struct uuid *id, const struct compute_log_opts *o,
                compute_line_fn *fn, void *ctx, struct err *e);
    int (*stats)(struct compute *h, const struct uuid *id, struct compute_stats *out,
                 struct err *e);
    int (*exec)(struct compute *h, struct arena *a, const struct uuid *id,
                const struct compute_exec *x, struct compute_exec_result *out, struct err *e);
    /* 0: yes, '*fault' is NULL; or no, and it says why in plain words (in 'a').  -1: nobody could
     * ask; ERR_INVALID_STATE: it does not run. */
    int (*probe)(struct compute *h, struct arena *a, const struct uuid *id,
                 const struct compute_probe *p, const char **fault, struct err *e);
    /* The next event of any instance and, unless nothing happened within 'timeout', its id: an enum
     * compute_event.  -1: lost contact.  Events may be lost with it, or when there are too many. */
    int (*watch)(struct compute *h, int64_t timeout, struct uuid *id, struct err *e);
    void (*free)(struct compute *h);
};
struct compute {
    const struct compute_class *class;
};

int compute_ensure(struct compute *h, struct arena *a, const struct compute_spec *s,
                   struct compute_state *out, struct err *e) _must_check_;
int compute_inspect(struct compute *h, struct arena *a, const struct uuid *id,
                    struct compute_state *out, struct err *e) _must_check_;
int compute_destroy(struct compute *h, const struct uuid *id, int64_t revision, int64_t grace,
                    struct err *e) _must_check_;
int compute_list(struct compute *h, struct arena *a, struct compute_state **out, size_t *n,
                 struct err *e) _must_check_;
int compute_logs(struct compute *h, const struct uuid *id, const struct compute_log_opts *o,
                 compute_line_fn *fn, void *ctx, struct err *e) _must_check_;
int compute_stats_of(struct compute *h, const struct uuid *id, struct compute_stats *out,
                     struct err *e) _must_check_;
int compute_exec_in(struct compute *h, struct arena *a, const struct uuid *id,
                    const struct compute_exec *x, struct compute_exec_result *out,
                    struct err *e) _must_check_;
int compute_probe_in(struct compute *h, struct arena *a, const struct uuid *id,
                     const struct compute_probe *p, const char **fault, struct err *e) _must_check_;
int compute_watch(struct compute *h, int64_t timeout, struct uuid *id, struct err *e);
void compute_free(struct compute *h);
DEFINE_CLEANUP(struct compute *, compute_free)

/* In memory: an instance runs at once, unless its env has SIMULATE=fail (fails), exit (exits with 1
 * at once); SIMULATE=sick: it answers no probe.  Logs are two lines. */
struct compute *compute_fake(void);
/* Fake only: the last order's, in 'a'; id nil: none is there. */
void compute_fake_order(struct compute *h, struct arena *a, const struct uuid *id,
                        struct compute_spec *out);
/* Fake only: from now on it answers probes and its commands end well, or neither. */
void compute_fake_sick(struct compute *h, const struct uuid *id, bool sick);
/* Fake only: the instance's process ends now. */
void compute_fake_exit(struct compute *h, const struct uuid *id, int exit_code);
