/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Inside of the container driver: what its files share.
 *
 * Two locks.  inst.order serialises the orders of one instance and is held as long as they take;
 * oci.lock guards the map and every instance's state, and is held for a look or a change only.  The
 * monitor takes oci.lock alone, so an order may wait for an exit. */

#include <pthread.h>
#include <sys/types.h>

#include "base/map.h"
#include "codec/json.h"
#include "drivers/compute/oci.h"
#include "drivers/image/image.h"
#include "drivers/net/net.h"
#include "os/cgroup.h"

enum {
    OCI_RANGES = 4094,
    OCI_RANGE_IDS = 65536,
    OCI_EVENTS = 1024,
    OCI_MAX_PORTS = 64,
};
#define OCI_FIRST_ID 1879048192u
/* Where the runtime finds an instance's folder: the shim places it there, in a mount namespace of
 * the runtime's own, for the way to the real one is closed to the instance's root.  A folder that
 * every machine has, everybody may enter, and no runtime looks for. */
#define OCI_BUNDLE "/dev/shm"

enum oci_runtime { OCI_CRUN, OCI_RUNC };

struct inst {
    struct uuid id;
    pthread_mutex_t order;      /* held by who carries out an order */
    int refs;                   /* under oci.lock, as all below up to the line */
    struct compute_state state; /* its ports and reason are the two below */
    char *ports, *reason;
    int range;       /* its ids begin at OCI_FIRST_ID + range * OCI_RANGE_IDS; -1: unknown */
    int shim_fd;     /* pidfd while its shim lives, else -1 */
    int init_fd;     /* pidfd of its first process, else -1 */
    bool stopping;   /* an order ends it */
    int64_t stop_by; /* monotonic: then it is killed */
    bool gone;       /* destroyed; whoever still holds it looks again */
    /* ---- under 'order' */
    struct arena arena; /* of spec */
    struct compute_spec spec;
    bool attached;               /* to the network */
    int64_t disk_bytes, disk_at; /* measured, when (monotonic) */
    int64_t copies_bytes;        /* of its own copies of layers, once copies_known */
    bool copies_known;
    int64_t root;           /* of its last start */
    int64_t files_revision; /* what lies there; -1: unknown */
};

struct oci {
    struct compute base;
    struct arena arena; /* of the strings here */
    const char *dir, *files_dir, *installation, *shim, *init, *runtime_path, *runtime_root;
    enum oci_runtime runtime;
    struct { /* the filter's program for crun, made beside the start */
        pthread_t thread;
        bool begun, joined; /* the latter under 'lock' of it */
        pthread_mutex_t lock;
        struct arena arena;
        const char *text;
        struct err err;
    } seccomp;
    struct net *net;
    struct image_store *images;
    bool copy_layers;
    struct cgroups *groups;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* some state changed; an event came */
    struct map *instances;
    uint8_t ranges[OCI_RANGES]; /* taken */
    struct oci_event {
        struct uuid id;
        enum compute_event what;
    } events[OCI_EVENTS];
    size_t first_event, n_events;
    int epoll, quit;      /* the monitor's */
    int printed;          /* inotify, of folders of logs */
    struct map *followed; /* struct uuid by its watch */
    pthread_t monitor;
    bool monitoring;
};

static inline struct oci *oci_of(struct compute *h)
{
    return (struct oci *)(void *)h;
}

/* The host's id of its root. */
static inline uid_t oci_base_id(const struct inst *i)
{
    return OCI_FIRST_ID + (uid_t)i->range * OCI_RANGE_IDS;
}

static inline void oci_unlockp(pthread_mutex_t **m)
{
    if (*m)
        pthread_mutex_unlock(*m);
}
#define OCI_LOCK(o)                                             \
    _cleanup_(oci_unlockp) pthread_mutex_t *lock_ = &(o)->lock; \
    pthread_mutex_lock(lock_)

/* ---- oci.c */
/* The instance with a reference and its order lock held, or NULL if there is none. */
struct inst *oci_take(struct oci *o, const struct uuid *id);
void oci_release(struct oci *o, struct inst *i);
struct inst *oci_add(struct oci *o, const struct uuid *id);
/* Under oci.lock. */
struct inst *oci_ref(struct inst *i);
void oci_unref_locked(struct oci *o, struct inst *i);
void oci_set_text(char **at, const char *text);
/* <dir>/<uuid>[/name] */
const char *oci_path(struct oci *o, struct arena *a, const struct uuid *id, const char *name);
/* brume/<installation>/<uuid> */
const char *oci_group(struct oci *o, struct arena *a, const struct uuid *id);

/* ---- oci_state.c: what is kept on disk, exits, adoption */
int oci_save_order(struct oci *o, struct inst *i, struct err *e);
/* What was saved outlives a loss of power. */
int oci_sync_order(struct oci *o, struct inst *i, struct err *e);
int oci_save_state(struct oci *o, struct inst *i, struct err *e);
/* All folders of 'dir' become instances. */
int oci_adopt(struct oci *o, struct err *e);
/* Hears of this shim's end from now on; takes the descriptors. */
/* With the lock held. */
void oci_push_event(struct oci *o, const struct uuid *id, enum compute_event what);
void oci_watch_shim(struct oci *o, struct inst *i, int shim_fd, int init_fd);
void oci_unpublish(struct oci *o, const struct uuid *id);
int oci_monitor_start(struct oci *o, struct err *e);
void oci_monitor_stop(struct oci *o);
/* Waits until no shim of 'i' lives; false after 'timeout'. */
bool oci_wait_ended(struct oci *o, struct inst *i, int64_t timeout);

/* ---- oci_start.c */
/* What an instance is made of while it starts; descriptors are closed by oci_boot_free(). */
struct oci_boot {
    struct arena *a;
    int userns, netns, root, files;
    int disk; /* what oci_disk_open() gave */
    int loop; /* of its disk */
    int listen[OCI_MAX_PORTS];
    struct net_publish publish[OCI_MAX_PORTS];
    size_t n_publish;
    const char *const *layers; /* topmost first */
    size_t n_layers;
    struct image_state config; /* of the image */
    struct json_value *cmd;
};
/* A shim's words, NULL behind the last. */
enum { OCI_MAX_WORDS = 2 * OCI_MAX_PORTS + 128 };
struct oci_words {
    const char *at[OCI_MAX_WORDS];
    size_t n;
};
/* 'value' NULL: one word. */
void oci_word(struct oci_words *w, const char *flag, const char *value);
/* 'flag' and each file by which a process gets into 'group'. */
int oci_word_groups(struct oci *o, struct arena *a, struct oci_words *w, const char *flag,
                    const char *group, struct err *e) _must_check_;
/* Starts it. 0 with *failed NULL: it runs; 0 with a text: it cannot be started, in plain words. */
int oci_start(struct oci *o, struct arena *a, struct inst *i, const char **failed, struct err *e);
/* Asks it to end, or kills it once the grace of the first asking is over: 0 it has ended; 1 it
 * still has its grace. */
int oci_stop(struct oci *o, struct inst *i, int64_t grace, struct err *e);
/* Network detached, group removed, runtime's state forgotten. */
int oci_clean(struct oci *o, struct inst *i, struct err *e);
struct cgroup_limits oci_limits(const struct compute_spec *s);
/* ---- oci_disk.c */
/* The folder that holds work/ and, in time, upper/: the instance's own, or a file system of disk_mb
 * in a file, not placed anywhere.  *fd is a descriptor of it; *loop of its device, if it has one.
 */
int oci_disk_open(struct oci *o, struct inst *i, struct arena *a, int *fd, int *loop,
                  struct err *e);
/* Makes upper/ where it is missing: overlayfs shows its attributes as those of "/", which are the
 * image's, that is its topmost layer's. */
int oci_disk_root(const struct inst *i, int disk, const char *layer, struct err *e);
/* From now on past the host's cache.  That waits for the disk, so it is not done while a start
 * waits for it: a fresh file system would be written and read back first. */
void oci_disk_direct(int loop);
/* work/ in it, where it is missing. */
int oci_disk_work(const struct inst *i, int disk, struct err *e);
int64_t oci_disk_used(struct oci *o, struct inst *i);

/* ---- oci_files.c: what an instance has beside its root */
/* Its order's files, each whole; others go.  None given: 0. */
int oci_files_write(struct oci *o, struct inst *i, struct err *e);
/* A detached mount of them, for the shim. */
int oci_files_open(struct oci *o, struct inst *i, struct arena *a, struct err *e);
int oci_files_remove(struct oci *o, const struct uuid *id, struct err *e);
/* Files of no instance go. */
void oci_files_sweep(struct oci *o);
/* data/ on its disk, its user's from its making on. */
int oci_data_make(struct inst *i, int disk, int64_t uid, int64_t gid, struct err *e);
/* Where the order says so, what was written over the image goes; data/ stays. */
int oci_root_renew(struct oci *o, struct inst *i, struct arena *a, int disk, struct err *e);

/* ---- oci_layers.c: where layers cannot be shown under an instance's ids */
/* Makes what is missing of the instance's own copies; b->layers are those then.  On failure none
 * are left. */
int oci_layers_copy(struct oci *o, struct inst *i, struct oci_boot *b, struct err *e);
int oci_layers_drop(struct oci *o, struct inst *i, struct arena *a, struct err *e);

/* ---- oci_config.c, seccomp.c */
/* Writes config.json, hosts, hostname and resolv.conf; the root is finished. 1: *failed says why it
 * cannot be run. */
int oci_config_write(struct oci *o, struct inst *i, struct oci_boot *b, const char **failed,
                     struct err *e);
/* Where its command starts: absolute, never NULL. */
const char *oci_config_cwd(struct arena *a, const struct image_state *config);
/* What asks the instance to end, as its image has it. */
int oci_config_stop_signal(struct oci *o, struct arena *a, const struct uuid *id);
void oci_seccomp(struct json_out *o);
/* The filter as a program, in base64. */
void oci_seccomp_begin(struct oci *o);
void oci_seccomp_end(struct oci *o);
/* Waits until it is made; NULL if it cannot be. */
const char *oci_seccomp_program(struct oci *o, struct err *e);

/* ---- oci_log.c, oci_exec.c */
int oci_logs_begin(struct oci *o, struct err *e) _must_check_;
void oci_logs_end(struct oci *o);
/* Something was written to a log that is followed. */
void oci_printed(struct oci *o);
int oci_logs(struct compute *h, const struct uuid *id, const struct compute_log_opts *o,
             compute_line_fn *fn, void *ctx, struct err *e);
int oci_stats(struct compute *h, const struct uuid *id, struct compute_stats *out, struct err *e);
int oci_exec(struct compute *h, struct arena *a, const struct uuid *id,
             const struct compute_exec *x, struct compute_exec_result *out, struct err *e);
int oci_probe(struct compute *h, struct arena *a, const struct uuid *id,
              const struct compute_probe *p, const char **fault, struct err *e);
int oci_must_run(struct oci *o, const struct uuid *id, struct err *e);
/* Removes what commands of an agent that is gone have left in the instance's folder. */
void oci_exec_forget(struct oci *o, const struct uuid *id);
