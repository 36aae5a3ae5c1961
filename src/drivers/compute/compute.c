/* SPDX-License-Identifier: Apache-2.0 */
/* The class's front door and its tables: what crosses the socket between api and agent is what
 * these tables say, so a field added here travels without any other change. */
#include "drivers/compute/compute.h"

const struct enum_name compute_want_names[] = {
    { COMPUTE_WANT_RUNNING, "running" },
    { COMPUTE_WANT_STOPPED, "stopped" },
    { COMPUTE_WANT_PAUSED, "paused" },
    { 0 },
};

const struct enum_name compute_status_names[] = {
    { COMPUTE_ABSENT, "absent" }, { COMPUTE_CREATING, "creating" }, { COMPUTE_RUNNING, "running" },
    { COMPUTE_PAUSED, "paused" }, { COMPUTE_EXITED, "exited" },     { COMPUTE_STOPPED, "stopped" },
    { COMPUTE_FAILED, "failed" }, { COMPUTE_STOPPING, "stopping" }, { 0 },
};

const struct enum_name compute_probe_names[] = {
    { COMPUTE_PROBE_TCP, "tcp" },
    { COMPUTE_PROBE_HTTP, "http" },
    { 0 },
};

/* clang-format off */
#define T struct compute_spec
static const struct field spec_fields[] = {
    FIELD_UUID(T, id,           0, .doc = "The instance."),
    FIELD_INT (T, revision,     0, .doc = "Revision of the row behind the order."),
    FIELD_ENUM(T, want, enum compute_want, 0, .names = compute_want_names, .doc = "What it shall be."),
    FIELD_INT (T, boot,         0, .doc = "Number of the start asked for."),
    FIELD_STR (T, name,         0, .doc = "Host name."),
    FIELD_STR (T, image,        0, .doc = "Digest in the image store."),
    FIELD_JSON(T, entrypoint,   0, .doc = "How the command begins; absent: as the image says."),
    FIELD_JSON(T, cmd,          0, .doc = "The rest of the command; absent: the image's."),
    FIELD_JSON(T, env,          0, .doc = "Environment beside the image's."),
    FIELD_STR (T, user_data,    0, .max = 65536, .doc = "For the metadata service."),
    FIELD_INT (T, cpu_milli,    0, .doc = "Thousandths of a CPU; 0: no limit."),
    FIELD_INT (T, memory_mb,    0, .doc = "Memory in MiB; 0: no limit."),
    FIELD_INT (T, disk_mb,      0, .doc = "Disk in MiB; 0: no limit."),
    FIELD_INT (T, pids,         0, .doc = "Processes; 0: no limit."),
    FIELD_INT (T, network_mbps, 0, .doc = "Megabits a second; 0: no limit."),
    FIELD_UUID(T, vpc_id,       0, .doc = "Its network."),
    FIELD_STR (T, vpc_cidr,     0, .doc = "Addresses of the network."),
    FIELD_STR (T, subnet_cidr,  0, .doc = "Addresses of the subnet."),
    FIELD_STR (T, ip,           0, .doc = "Its address."),
    FIELD_STR (T, gateway,      0, .doc = "Its default route."),
    FIELD_STR (T, dns,          0, .doc = "Its name server."),
    FIELD_JSON(T, ports,        0, .doc = "Published ports."),
    FIELD_JSON(T, files,        0, .max = 1 << 20, .doc = "Files it finds at its start."),
    FIELD_INT (T, files_revision, 0, .doc = "Number of these files."),
    FIELD_STR (T, data,         0, .max = 4096, .doc = "Folder that outlives its root."),
    FIELD_INT (T, root,         0, .doc = "Number of its root."),
};
#undef T
const struct record compute_spec_record = RECORD(compute_spec, NULL, spec_fields);

#define T struct compute_state
static const struct field state_fields[] = {
    FIELD_UUID(T, id,          0, .doc = "The instance."),
    FIELD_ENUM(T, status, enum compute_status, 0, .names = compute_status_names,
                                  .doc = "How it is."),
    FIELD_INT (T, revision,    0, .doc = "Revision of the last order done."),
    FIELD_INT (T, boot,        0, .doc = "Number of the last start."),
    FIELD_INT (T, pid,         0, .doc = "Its first process; 0: none."),
    FIELD_INT (T, exit_code,   0, .doc = "Exit code, 128 + signal, or -1 if unknown."),
    FIELD_BOOL(T, oom_killed,  0, .doc = "It ran out of memory."),
    FIELD_TIME(T, started_at,  0, .doc = "When its last start was."),
    FIELD_TIME(T, finished_at, 0, .doc = "When it ended."),
    FIELD_JSON(T, ports,       0, .doc = "Published ports with what was picked."),
    FIELD_STR (T, reason,      0, .max = 1024, .doc = "Why it is not as asked, in words."),
};
#undef T
const struct record compute_state_record = RECORD(compute_state, NULL, state_fields);

#define T struct compute_stats
static const struct field stats_fields[] = {
    FIELD_INT(T, cpu_usec,           0, .doc = "CPU microseconds since its start."),
    FIELD_INT(T, memory_bytes,       0, .doc = "Memory in use."),
    FIELD_INT(T, memory_limit_bytes, 0, .doc = "Memory it may use; 0: no limit."),
    FIELD_INT(T, pids,               0, .doc = "Processes."),
    FIELD_INT(T, disk_bytes,         0, .doc = "Disk in use."),
    FIELD_INT(T, net_rx_bytes,       0, .doc = "Bytes received."),
    FIELD_INT(T, net_tx_bytes,       0, .doc = "Bytes sent."),
    FIELD_INT(T, net_rx_packets,     0, .doc = "Packets received."),
    FIELD_INT(T, net_tx_packets,     0, .doc = "Packets sent."),
    FIELD_INT(T, io_read_bytes,      0, .doc = "Bytes read from disks."),
    FIELD_INT(T, io_write_bytes,     0, .doc = "Bytes written to disks."),
};
#undef T
const struct record compute_stats_record = RECORD(compute_stats, NULL, stats_fields);
/* clang-format on */

int compute_ensure(struct compute *h, struct arena *a, const struct compute_spec *s,
                   struct compute_state *out, struct err *e)
{
    return h->class->ensure(h, a, s, out, e);
}

int compute_inspect(struct compute *h, struct arena *a, const struct uuid *id,
                    struct compute_state *out, struct err *e)
{
    return h->class->inspect(h, a, id, out, e);
}

int compute_destroy(struct compute *h, const struct uuid *id, int64_t revision, int64_t grace,
                    struct err *e)
{
    return h->class->destroy(h, id, revision, grace, e);
}

int compute_list(struct compute *h, struct arena *a, struct compute_state **out, size_t *n,
                 struct err *e)
{
    return h->class->list(h, a, out, n, e);
}

int compute_logs(struct compute *h, const struct uuid *id, const struct compute_log_opts *o,
                 compute_line_fn *fn, void *ctx, struct err *e)
{
    return h->class->logs(h, id, o, fn, ctx, e);
}

int compute_stats_of(struct compute *h, const struct uuid *id, struct compute_stats *out,
                     struct err *e)
{
    return h->class->stats(h, id, out, e);
}

int compute_exec_in(struct compute *h, struct arena *a, const struct uuid *id,
                    const struct compute_exec *x, struct compute_exec_result *out, struct err *e)
{
    return h->class->exec(h, a, id, x, out, e);
}

int compute_probe_in(struct compute *h, struct arena *a, const struct uuid *id,
                     const struct compute_probe *p, const char **fault, struct err *e)
{
    return h->class->probe(h, a, id, p, fault, e);
}

int compute_watch(struct compute *h, int64_t timeout, struct uuid *id, struct err *e)
{
    return h->class->watch(h, timeout, id, e);
}

void compute_free(struct compute *h)
{
    if (h)
        h->class->free(h);
}
