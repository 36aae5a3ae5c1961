/* SPDX-License-Identifier: Apache-2.0 */
/* Commands inside a running instance, and what it uses.  A command gets a group of its own below
 * the instance's, so that a time-out ends all that it started. */
#include <fcntl.h>

#include "drivers/compute/oci_impl.h"
#include "os/file.h"
#include "os/process.h"

enum { PROCESS_MAX = 1 << 20, OUTPUT_MAX = 1 << 20, MAX_ARGS = 64 };

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

/* The process of config.json with another command: same user, capabilities, environment. */
static int write_process(struct arena *a, const char *config, const struct compute_exec *x,
                         const char *path, const char **command, struct err *e)
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
    *command = arena_strdup(a, json_str_of(json_at(cmd, 0), NULL));
    if (!*command || !**command)
        return err_set(e, ERR_INVALID, "the command is empty");
    const struct json_value *was = json_get(all, "process");
    json_open(&j, '{');
    for (size_t k = 0; was && k < json_len(was); k++) {
        const struct json_value *v = json_member(was, k, &key);
        if (strcmp(key, "env") == 0) {
            write_env(&j, a, v, env);
        } else if (strcmp(key, "args") == 0 || (strcmp(key, "cwd") == 0 && x->cwd)) {
            json_key(&j, key);
            if (key[0] == 'a')
                json_raw(&j, x->cmd);
            else
                json_str(&j, x->cwd);
        } else {
            json_key(&j, key);
            json_raw(&j, json_text(a, v));
        }
    }
    json_close(&j);
    int r = json_done(&j) < 0 ? err_set(e, ERR_TOO_LARGE, "the command is too large")
                              : file_write(path, b.p, b.n, 0600, e);
    buf_free(&b);
    return r;
}

static void explain(struct arena *a, const char *log, const char *command,
                    struct compute_exec_result *out)
{
    struct str text;
    struct err e;

    if (file_read(a, log, KIB(64), &text, &e) < 0 || text.n == 0)
        return;
    bool missing = strstr(text.p, "not found in $PATH") || strstr(text.p, "No such file");
    bool refused = strstr(text.p, "ermission denied");
    const char *why = missing   ? arena_printf(a, "command '%s' was not found\n", command)
                      : refused ? arena_printf(a, "command '%s' cannot be executed\n", command)
                                : NULL;
    if (!why)
        return;
    out->exit_code = missing ? 127 : 126;
    out->err = str_of(why);
}

static int run(struct oci *o, struct arena *a, const struct uuid *id, const char *group,
               const char *process, const char *log, const struct compute_exec *x,
               struct process_result *r, struct err *e)
{
    const char *argv[MAX_ARGS] = { o->shim, "enter" }, **files;
    size_t n = 2, n_files;

    if (cgroups_hybrid(o->groups)) {
        argv[n++] = "-x";
        argv[n++] = cgroups_hybrid(o->groups);
    }
    if (o->runtime == OCI_RUNC) { /* it starts from the bundle's folder */
        argv[n++] = "-d";
        argv[n++] = oci_path(o, a, id, NULL);
    }
    TRY(cgroup_procs_files(o->groups, a, group, &files, &n_files, e));
    for (size_t k = 0; k < n_files; k++) {
        argv[n++] = "-g";
        argv[n++] = files[k];
    }
    const char *const rest[] = { "--", o->runtime_path, "--root", o->runtime_root, "--log", log };
    for (size_t k = 0; k < ARRAY_LEN(rest); k++)
        argv[n++] = rest[k];
    if (o->runtime == OCI_CRUN)
        argv[n++] = "--cgroup-manager=disabled";
    argv[n++] = "exec";
    if (o->runtime == OCI_RUNC) { /* it moves the command into groups by itself */
        bool v1 = strstr(files[0], "/tasks");
        argv[n++] = "--cgroup";
        argv[n++] = arena_printf(a, "%s%s", v1 ? "pids:" : "", strrchr(group, '/') + 1);
    }
    argv[n++] = "--process";
    argv[n++] = process;
    argv[n++] = id->s;
    argv[n] = NULL;
    struct process_opts p = { .argv = argv,
                              .input = x->input,
                              .timeout = x->timeout ? x->timeout : SECONDS(60),
                              .max_output = OUTPUT_MAX };
    return process_run(a, &p, r, e);
}

int oci_exec(struct compute *h, struct arena *a, const struct uuid *id,
             const struct compute_exec *x, struct compute_exec_result *out, struct err *e)
{
    struct oci *o = oci_of(h);
    struct process_result r = { 0 };
    const char *command;
    struct err later;
    int64_t number;

    {
        OCI_LOCK(o);
        struct inst *i = map_get(o->instances, id->s, strlen(id->s));
        if (!i)
            return err_set(e, ERR_NOT_FOUND, "the host has no such instance");
        if (i->state.status != COMPUTE_RUNNING)
            return err_set(e, ERR_INVALID_STATE, "the instance is not running");
        number = ++i->exec_number;
    }
    const char *name = arena_printf(a, "exec-%d-%lld", (int)getpid(), (long long)number);
    const char *group = arena_printf(a, "%s/%s", oci_group(o, a, id), name);
    const char *process = oci_path(o, a, id, arena_printf(a, "%s.json", name));
    const char *log = oci_path(o, a, id, arena_printf(a, "%s.log", name));
    TRY(write_process(a, oci_path(o, a, id, "config.json"), x, process, &command, e));
    int done = cgroup_make(o->groups, group, e);
    if (done == 0)
        done = run(o, a, id, group, process, log, x, &r, e);
    *out = (struct compute_exec_result){ .exit_code = r.status, .timed_out = r.timed_out };
    out->out = r.out;
    out->err = r.err;
    out->truncated = r.out.n >= OUTPUT_MAX || r.err.n >= OUTPUT_MAX;
    if (done == 0 && r.status != 0)
        explain(a, log, command, out);
    unlink(process);
    unlink(log);
    if (cgroup_kill(o->groups, group, SECONDS(5), &later) == 0 &&
        cgroup_remove(o->groups, group, &later) == 0 && r.timed_out)
        done = 0;
    return done;
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
