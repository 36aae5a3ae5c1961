/* SPDX-License-Identifier: Apache-2.0 */
/* Commands inside a running instance, and what it uses.  A command gets a group of its own below
 * the instance's and a shim of its own, which ends it in time whatever becomes of us, and says how
 * it ended. */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "codec/id.h"
#include "codec/text.h"
#include "drivers/compute/oci_impl.h"
#include "os/file.h"
#include "os/process.h"

enum {
    PROCESS_MAX = 1 << 20,
    OUTPUT_MAX = 1 << 20,
    SHIM_GRACE_S = 15,
    END_LOOKS = 3, /* of a second each */
};

#define FOLDER "exec-"

/* A command that runs: its files, its group, and what it shall be. */
struct running {
    const char *dir, *group, *process, *log, *end;
    const char *command, *cwd;
    int64_t first_id, uid; /* the instance's first id on the host; the user's inside of it */
};

static bool env_named(const struct json_value *own, const char *entry)
{
    const char *eq = entry ? strchr(entry, '=') : NULL;
    char key[256];

    if (!eq || (size_t)(eq - entry) >= sizeof(key))
        return false;
    memcpy(key, entry, (size_t)(eq - entry));
    key[eq - entry] = '\0';
    return own && json_get(own, key);
}

static void write_env(struct json_out *j, struct arena *a, const struct json_value *has,
                      const struct json_value *own)
{
    json_key(j, "env");
    json_open(j, '[');
    for (size_t k = 0; has && k < json_len(has); k++) {
        const char *entry = json_str_of(json_at(has, k), NULL);
        if (!env_named(own, entry))
            json_str(j, entry);
    }
    for (size_t k = 0; own && k < json_len(own); k++) {
        const char *key, *value = json_str_of(json_member(own, k, &key), NULL);
        if (value)
            json_str(j, arena_printf(a, "%s=%s", key, value));
    }
    json_close(j);
}

static void write_args(struct json_out *j, const char *cwd, const struct json_value *cmd)
{
    json_key(j, "args");
    json_open(j, '[');
    json_str(j, "/proc/self/fd/3"); /* brume-init, as the shim hands it in … */
    json_str(j, "4");               /* … with where it says how it went */
    json_str(j, cwd);
    for (size_t k = 0; k < json_len(cmd); k++)
        json_str(j, json_str_of(json_at(cmd, k), NULL));
    json_close(j);
}

/* The process of config.json with another command: same user, capabilities, environment. */
static int write_process(struct arena *a, const char *config, const struct compute_exec *x,
                         struct running *r, struct err *e)
{
    struct buf b = BUF(PROCESS_MAX);
    struct json_out j = JSON_OUT(&b);
    struct str text;
    const char *key;

    TRY(file_read(a, config, PROCESS_MAX, &text, e));
    _cleanup_(json_freep) struct json_value *all = json_parse(text, e);
    _cleanup_(json_freep) struct json_value *cmd = all ? json_parse(str_of(x->cmd), e) : NULL;
    _cleanup_(json_freep) struct json_value *env =
        cmd && x->env ? json_parse(str_of(x->env), e) : NULL;
    if (!all || !cmd || (x->env && !env))
        return -1;
    const struct json_value *was = json_get(all, "process");
    r->command = arena_strdup(a, json_str_of(json_at(cmd, 0), NULL));
    r->uid = json_get_int(json_get(was, "user"), "uid", 0);
    r->cwd = x->cwd ? x->cwd : json_get_str(a, was, "cwd", "/");
    if (!r->command || !*r->command)
        return err_set(e, ERR_INVALID, "the command is empty");
    json_open(&j, '{');
    for (size_t k = 0; was && k < json_len(was); k++) {
        const struct json_value *v = json_member(was, k, &key);
        if (strcmp(key, "env") == 0) {
            write_env(&j, a, v, env);
        } else if (strcmp(key, "args") == 0) {
            write_args(&j, r->cwd, cmd);
        } else if (strcmp(key, "cwd") == 0) { /* brume-init goes there: it says what is wrong */
            json_kstr(&j, key, "/");
        } else {
            json_key(&j, key);
            json_raw(&j, json_text(a, v));
        }
    }
    json_close(&j);
    int done = json_done(&j) < 0 ? err_set(e, ERR_TOO_LARGE, "the command is too large")
                                 : file_write(r->process, b.p, b.n, 0600, e);
    buf_free(&b);
    return done;
}

/* ---- how it ended ---- */

static void failed(struct arena *a, struct compute_exec_result *out, int code, const char *text)
{
    out->exit_code = code;
    out->err = str_of(arena_printf(a, "%s\n", text));
}

static void command_failed(struct arena *a, const struct running *r, int why,
                           struct compute_exec_result *out)
{
    if (why == ENOENT || why == ENOTDIR)
        failed(a, out, 127, arena_printf(a, "command '%s' was not found", r->command));
    else if (why == EACCES || why == EPERM)
        failed(a, out, 126, arena_printf(a, "command '%s' cannot be executed", r->command));
    else if (why == ENOEXEC)
        failed(a, out, 126,
               arena_printf(a, "command '%s' is no program that this machine can run", r->command));
    else
        failed(a, out, 126,
               arena_printf(a, "command '%s' cannot be started: %s", r->command,
                            strerrordesc_np(why) ? strerrordesc_np(why) : "error"));
}

static const char *cwd_fault(struct arena *a, int why)
{
    if (why == ENOENT)
        return "does not exist in the instance";
    if (why == ENOTDIR)
        return "is no folder";
    if (why == EACCES || why == EPERM)
        return "may not be entered by the instance's user";
    return arena_printf(a, "cannot be entered: %s",
                        strerrordesc_np(why) ? strerrordesc_np(why) : "error");
}

static void runtime_failed(struct arena *a, const struct running *r,
                           struct compute_exec_result *out)
{
    struct str text;
    struct err ignored;

    if (file_read(a, r->log, KIB(64), &text, &ignored) < 0)
        text = STR("");
    while (text.n && text.p[text.n - 1] == '\n')
        text.n--;
    log_event(LOG_WARN, "exec_failed", L_STR("runtime", arena_dup(a, text.p, text.n)));
    size_t n = MIN(text.n, (size_t)400);
    failed(a, out, 126,
           arena_printf(a, "command '%s' cannot be started: %.*s", r->command, (int)n,
                        text.p ? text.p + text.n - n : ""));
}

static int read_end(struct arena *a, const struct running *r, struct compute_exec_result *out,
                    struct err *e)
{
    struct str text;
    int64_t number;

    if (file_read(a, r->end, 64, &text, e) < 0 || text.n < 4 ||
        !int_parse((struct str){ text.p + 2, text.n - 3 }, 0, INT32_MAX, &number))
        return err_set(e, ERR_INTERNAL, "nobody saw how the command ended");
    switch (text.p[0]) {
    case 'E':
        out->exit_code = number;
        return 0;
    case 'T':
        out->exit_code = 128 + 9;
        out->timed_out = true;
        return 0;
    case 'D':
        out->exit_code = 126;
        out->cwd_fault = cwd_fault(a, (int)number);
        return 0;
    case 'X':
        command_failed(a, r, (int)number, out);
        return 0;
    default:
        runtime_failed(a, r, out);
        return 0;
    }
}

/* ---- the shim ---- */

static int shim_words(struct oci *o, struct arena *a, const struct uuid *id,
                      const struct compute_exec *x, const struct running *r, struct oci_words *w,
                      struct err *e)
{
    int64_t timeout = x->timeout ? x->timeout : SECONDS(60), owner = r->first_id + r->uid;

    oci_word(w, o->shim, "exec");
    oci_word(w, "-o", r->end);
    oci_word(w, "-i", o->init);
    oci_word(w, "-t", arena_printf(a, "%lld", (long long)(timeout / 1000)));
    oci_word(w, "-e", arena_printf(a, "%lld", (long long)owner));
    if (x->kill_background)
        oci_word(w, "-k", "1");
    if (cgroups_hybrid(o->groups))
        oci_word(w, "-x", cgroups_hybrid(o->groups));
    if (o->runtime == OCI_RUNC) { /* it starts from the bundle's folder */
        oci_word(w, "-d", oci_path(o, a, id, NULL));
        oci_word(w, "-b", OCI_BUNDLE);
    }
    TRY(oci_word_groups(o, a, w, "-s", arena_printf(a, "brume/%s/shims", o->installation), e));
    TRY(oci_word_groups(o, a, w, "-g", r->group, e));
    const char *v1 = strstr(w->at[w->n - 1], "/tasks");
    oci_word(w, "--", o->runtime_path);
    oci_word(w, "--root", o->runtime_root);
    oci_word(w, "--log", r->log);
    if (o->runtime == OCI_CRUN)
        oci_word(w, "--cgroup-manager=disabled", NULL);
    oci_word(w, "exec", "--detach");
    if (o->runtime == OCI_RUNC) /* it moves the command into groups by itself */
        oci_word(w, "--cgroup",
                 arena_printf(a, "%s%s", v1 ? "pids:" : "", strrchr(r->group, '/') + 1));
    oci_word(w, "--preserve-fds", "2");
    oci_word(w, "--process", r->process);
    oci_word(w, id->s, NULL);
    return 0;
}

/* Its shim's child, which outlives the shim, ends all of it and takes the group away; what it does
 * not is killed here. */
static void end_group(struct oci *o, const char *group)
{
    struct err e;

    for (int i = 0; i < END_LOOKS; i++)
        if (cgroup_remove(o->groups, group, &e) == 0)
            return;
    if (cgroup_kill(o->groups, group, SECONDS(5), &e) < 0 ||
        cgroup_remove(o->groups, group, &e) < 0)
        log_err(LOG_WARN, "exec_group_stays", &e);
}

static int run(struct oci *o, struct arena *a, const struct uuid *id, const struct compute_exec *x,
               const struct running *r, struct compute_exec_result *out, struct err *e)
{
    struct process_result got = { 0 };
    struct oci_words w = { .n = 0 };

    int done = shim_words(o, a, id, x, r, &w, e);
    struct process_opts p = { .argv = w.at,
                              .input = x->input,
                              .timeout =
                                  (x->timeout ? x->timeout : SECONDS(60)) + SECONDS(SHIM_GRACE_S),
                              .stop = x->gone,
                              .stop_ctx = x->gone_ctx,
                              .max_output = OUTPUT_MAX + 1 };
    if (done == 0)
        done = process_run(a, &p, &got, e);
    if (done < 0 && x->gone && x->gone(x->gone_ctx))
        err_set(e, ERR_ENGINE_UNAVAILABLE, "it was ended, for nobody waits for it");
    *out = (struct compute_exec_result){ .out = got.out, .err = got.err };
    out->out_cut = got.out.n > OUTPUT_MAX;
    out->err_cut = got.err.n > OUTPUT_MAX;
    out->out.n = MIN(out->out.n, (size_t)OUTPUT_MAX);
    out->err.n = MIN(out->err.n, (size_t)OUTPUT_MAX);
    if (done == 0)
        done = read_end(a, r, out, e);
    if (done < 0)
        end_group(o, r->group);
    return done;
}

int oci_must_run(struct oci *o, const struct uuid *id, struct err *e)
{
    OCI_LOCK(o);
    const struct inst *i = map_get(o->instances, id->s, strlen(id->s));

    if (!i)
        return err_set(e, ERR_NOT_FOUND, "the host has no such instance");
    if (i->state.status != COMPUTE_RUNNING)
        return err_set(e, ERR_INVALID_STATE, "the instance is not running");
    return 0;
}

static void forget(const struct running *r)
{
    struct err e;

    if (dir_remove(r->dir, &e) < 0)
        log_err(LOG_WARN, "exec_folder_stays", &e);
}

static int make_place(struct oci *o, struct arena *a, const struct inst *i,
                      const struct compute_exec *x, struct running *r, struct err *e)
{
    TRY(oci_must_run(o, &i->id, e));
    r->first_id = OCI_FIRST_ID + (int64_t)i->range * OCI_RANGE_IDS;
    TRY(dir_make(r->dir, 0700, e));
    if (write_process(a, oci_path(o, a, &i->id, "config.json"), x, r, e) == 0 &&
        cgroup_make(o->groups, r->group, e) == 0)
        return 0;
    forget(r);
    return -1;
}

/* Its folder and its group, which no order can take away meanwhile: what an instance had does not
 * come back once it is gone. */
static int prepare(struct oci *o, struct arena *a, const struct uuid *id,
                   const struct compute_exec *x, struct running *r, struct err *e)
{
    TRY(oci_must_run(o, id, e)); /* what is being started is not waited for */
    struct inst *i = oci_take(o, id);
    if (!i)
        return err_set(e, ERR_NOT_FOUND, "the host has no such instance");
    int done = make_place(o, a, i, x, r, e);
    oci_release(o, i);
    return done;
}

int oci_exec(struct compute *h, struct arena *a, const struct uuid *id,
             const struct compute_exec *x, struct compute_exec_result *out, struct err *e)
{
    struct oci *o = oci_of(h);
    struct compute_exec_result result;
    struct uuid number;

    if (x->cwd && x->cwd[0] != '/')
        return err_set(e, ERR_INVALID, "the working directory must begin with '/'");
    uuid_new(clock_system(), &number);
    const char *name = arena_printf(a, FOLDER "%s", number.s);
    struct running r = { .dir = oci_path(o, a, id, name),
                         .group = arena_printf(a, "%s/%s", oci_group(o, a, id), name) };
    r.process = arena_printf(a, "%s/process.json", r.dir);
    r.log = arena_printf(a, "%s/runtime.log", r.dir);
    r.end = arena_printf(a, "%s/end", r.dir);
    TRY(prepare(o, a, id, x, &r, e));
    int done = run(o, a, id, x, &r, &result, e);
    forget(&r);
    if (done == 0)
        *out = result;
    return done;
}

void oci_exec_forget(struct oci *o, const struct uuid *id)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    DIR *d = opendir(oci_path(o, &a, id, NULL));
    struct err e;

    for (struct dirent *f; d && (f = readdir(d));)
        if (strncmp(f->d_name, FOLDER, strlen(FOLDER)) == 0 &&
            dir_remove(oci_path(o, &a, id, f->d_name), &e) < 0)
            log_err(LOG_WARN, "exec_folder_stays", &e);
    if (d)
        closedir(d);
}

int oci_stats(struct compute *h, const struct uuid *id, struct compute_stats *out, struct err *e)
{
    struct oci *o = oci_of(h);
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    struct cgroup_usage u = { 0 };
    struct net_counters c = { 0 };
    struct inst *i;
    bool alive;

    {
        OCI_LOCK(o);
        i = map_get(o->instances, id->s, strlen(id->s));
        if (!i)
            return err_set(e, ERR_NOT_FOUND, "the host has no such instance");
        oci_ref(i);
        alive = i->shim_fd >= 0;
    }
    int r = 0;
    if (alive && cgroup_usage(o->groups, oci_group(o, &a, id), &u, e) < 0)
        r = e->code == ERR_NOT_FOUND ? 0 : -1; /* it ended just now */
    if (r == 0 && alive && o->net && net_stats(o->net, id, &c, e) < 0)
        c = (struct net_counters){ 0 }; /* it has no network */
    *out = (struct compute_stats){ .cpu_usec = u.cpu_usec,
                                   .memory_bytes = u.memory_bytes,
                                   .memory_limit_bytes = u.memory_limit_bytes,
                                   .pids = u.pids,
                                   .disk_bytes = oci_disk_used(o, i),
                                   .net_rx_bytes = c.rx_bytes,
                                   .net_tx_bytes = c.tx_bytes,
                                   .net_rx_packets = c.rx_packets,
                                   .net_tx_packets = c.tx_packets,
                                   .io_read_bytes = u.io_read_bytes,
                                   .io_write_bytes = u.io_write_bytes };
    OCI_LOCK(o);
    oci_unref_locked(o, i);
    return r;
}
