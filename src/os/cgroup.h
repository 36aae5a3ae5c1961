/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Control groups, v1 and v2 alike.  A group is a path below every tree in use ("brume/0a1b2c3d/…");
 * on v1 that is a folder in each of the trees memory, cpu, cpuacct, pids, freezer, blkio.  Where a
 * controller is missing its limit is not there, and cgroup_lacks() names it. */

#include <sys/types.h>

#include "base/base.h"

struct cgroups;
/* Finds the trees that this machine has mounted. */
struct cgroups *cgroups_open(struct err *e);
void cgroups_close(struct cgroups *g);
DEFINE_CLEANUP(struct cgroups *, cgroups_close)
/* The first controller that limits need and this machine does not have (memory, cpu, pids,
 * freezer), or NULL. */
const char *cgroups_lacks(const struct cgroups *g);
/* Where a v2 tree stands beside v1 trees, or NULL: OCI runtimes trip over it. */
const char *cgroups_hybrid(const struct cgroups *g);

struct cgroup_limits {
    int64_t memory_bytes; /* 0: no limit, in each */
    int64_t cpu_milli;
    int64_t pids;
};
/* Makes the group and those above it; one that exists is fine. */
int cgroup_make(struct cgroups *g, const char *path, struct err *e) _must_check_;
int cgroup_limit(struct cgroups *g, const char *path, const struct cgroup_limits *l,
                 struct err *e) _must_check_;
/* Files, one a tree, to be written "0" by a process of one thread that wants to be in it. */
int cgroup_procs_files(struct cgroups *g, struct arena *a, const char *path, const char ***out,
                       size_t *n, struct err *e) _must_check_;
int cgroup_freeze(struct cgroups *g, const char *path, bool frozen, struct err *e) _must_check_;
/* SIGKILL to all that is in it and below, frozen or not; waits until they are gone, at most
 * 'timeout'. */
int cgroup_kill(struct cgroups *g, const char *path, int64_t timeout, struct err *e) _must_check_;
/* Removes it and what is below, which must be without processes. Absent: 0. */
int cgroup_remove(struct cgroups *g, const char *path, struct err *e) _must_check_;
/* Removes the group and then each above it, as far as they are empty. */
void cgroup_tidy(struct cgroups *g, const char *path);
/* Names of the groups directly below, of all trees. */
int cgroup_children(struct cgroups *g, struct arena *a, const char *path, const char ***out,
                    size_t *n, struct err *e) _must_check_;
/* True if the kernel killed something in it for want of memory. */
bool cgroup_oom_killed(struct cgroups *g, const char *path);

struct cgroup_usage {
    int64_t cpu_usec, memory_bytes, memory_limit_bytes, pids, io_read_bytes, io_write_bytes;
};
int cgroup_usage(struct cgroups *g, const char *path, struct cgroup_usage *out,
                 struct err *e) _must_check_;
