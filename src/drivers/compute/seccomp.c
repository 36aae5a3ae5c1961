/* SPDX-License-Identifier: Apache-2.0 */
/* The system calls of an instance: what Docker's default profile allows to a container without
 * extra capabilities.  All others answer EPERM; clone3 answers ENOSYS, so that the C library falls
 * back to clone, whose flags a filter can see. */
#include "drivers/compute/oci_impl.h"

#include <malloc.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "base/log.h"
#include "codec/text.h"
#include "os/thread.h"

/* clang-format off */
static const char *const allowed[] = {
    "_llseek", "_newselect", "accept", "accept4", "access", "adjtimex", "alarm", "arch_prctl",
    "bind", "brk", "cachestat", "capget", "capset", "chdir", "chmod", "chown", "chown32", "chroot",
    "clock_adjtime", "clock_adjtime64", "clock_getres", "clock_getres_time64", "clock_gettime",
    "clock_gettime64", "clock_nanosleep", "clock_nanosleep_time64", "close", "close_range",
    "connect", "copy_file_range", "creat", "dup", "dup2", "dup3", "epoll_create", "epoll_create1",
    "epoll_ctl", "epoll_ctl_old", "epoll_pwait", "epoll_pwait2", "epoll_wait", "epoll_wait_old",
    "eventfd", "eventfd2", "execve", "execveat", "exit", "exit_group", "faccessat", "faccessat2",
    "fadvise64", "fadvise64_64", "fallocate", "fanotify_mark", "fchdir", "fchmod", "fchmodat",
    "fchmodat2", "fchown", "fchown32", "fchownat", "fcntl", "fcntl64", "fdatasync", "fgetxattr",
    "flistxattr", "flock", "fork", "fremovexattr", "fsetxattr", "fstat", "fstat64", "fstatat64",
    "fstatfs", "fstatfs64", "fsync", "ftruncate", "ftruncate64", "futex", "futex_requeue",
    "futex_time64", "futex_wait", "futex_waitv", "futex_wake", "futimesat", "get_mempolicy",
    "get_robust_list", "get_thread_area", "getcpu", "getcwd", "getdents", "getdents64", "getegid",
    "getegid32", "geteuid", "geteuid32", "getgid", "getgid32", "getgroups", "getgroups32",
    "getitimer", "getpeername", "getpgid", "getpgrp", "getpid", "getppid", "getpriority",
    "getrandom", "getresgid", "getresgid32", "getresuid", "getresuid32", "getrlimit", "getrusage",
    "getsid", "getsockname", "getsockopt", "gettid", "gettimeofday", "getuid", "getuid32",
    "getxattr", "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch",
    "io_cancel", "io_destroy", "io_getevents", "io_setup", "io_submit", "ioctl", "ioprio_get",
    "ioprio_set", "ipc", "kcmp", "kill", "landlock_add_rule", "landlock_create_ruleset",
    "landlock_restrict_self", "lchown", "lchown32", "lgetxattr", "link", "linkat", "listen",
    "listxattr", "llistxattr", "lremovexattr", "lseek", "lsetxattr", "lstat", "lstat64", "madvise",
    "map_shadow_stack", "mbind", "membarrier", "memfd_create", "memfd_secret", "mincore", "mkdir",
    "mkdirat", "mknod", "mknodat", "mlock", "mlock2", "mlockall", "mmap", "mmap2", "modify_ldt",
    "mprotect", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive",
    "mq_timedreceive_time64", "mq_timedsend", "mq_timedsend_time64", "mq_unlink", "mremap",
    "msgctl", "msgget", "msgrcv", "msgsnd", "msync", "munlock", "munlockall", "munmap",
    "name_to_handle_at", "nanosleep", "newfstatat", "open", "openat", "openat2", "pause",
    "pidfd_getfd", "pidfd_open", "pidfd_send_signal", "pipe", "pipe2", "pkey_alloc", "pkey_free",
    "pkey_mprotect", "poll", "ppoll", "ppoll_time64", "prctl", "pread64", "preadv", "preadv2",
    "prlimit64", "process_madvise", "process_mrelease", "process_vm_readv", "process_vm_writev",
    "pselect6", "pselect6_time64", "ptrace", "pwrite64", "pwritev", "pwritev2", "read", "readahead",
    "readdir", "readlink", "readlinkat", "readv", "recv", "recvfrom", "recvmmsg", "recvmmsg_time64",
    "recvmsg", "remap_file_pages", "removexattr", "rename", "renameat", "renameat2",
    "restart_syscall", "rmdir", "rseq", "rt_sigaction", "rt_sigpending", "rt_sigprocmask",
    "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_sigtimedwait_time64",
    "rt_tgsigqueueinfo", "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity",
    "sched_getattr", "sched_getparam", "sched_getscheduler", "sched_rr_get_interval",
    "sched_rr_get_interval_time64", "sched_setaffinity", "sched_setattr", "sched_setparam",
    "sched_setscheduler", "sched_yield", "seccomp", "select", "semctl", "semget", "semop",
    "semtimedop", "semtimedop_time64", "send", "sendfile", "sendfile64", "sendmmsg", "sendmsg",
    "sendto", "set_mempolicy", "set_robust_list", "set_thread_area", "set_tid_address", "setfsgid",
    "setfsgid32", "setfsuid", "setfsuid32", "setgid", "setgid32", "setgroups", "setgroups32",
    "setitimer", "setpgid", "setpriority", "setregid", "setregid32", "setresgid", "setresgid32",
    "setresuid", "setresuid32", "setreuid", "setreuid32", "setrlimit", "setsid", "setsockopt",
    "setuid", "setuid32", "setxattr", "shmat", "shmctl", "shmdt", "shmget", "shutdown", "sigaction",
    "sigaltstack", "signal", "signalfd", "signalfd4", "sigpending", "sigprocmask", "sigreturn",
    "sigsuspend", "socketcall", "socketpair", "splice", "stat", "stat64", "statfs", "statfs64",
    "statx", "symlink", "symlinkat", "sync", "sync_file_range", "syncfs", "syscall", "sysinfo",
    "tee", "tgkill", "time", "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime",
    "timer_gettime64", "timer_settime", "timer_settime64", "timerfd", "timerfd_create",
    "timerfd_gettime", "timerfd_gettime64", "timerfd_settime", "timerfd_settime64", "times",
    "tkill", "truncate", "truncate64", "ugetrlimit", "umask", "uname", "unlink", "unlinkat",
    "utime", "utimensat", "utimensat_time64", "utimes", "vfork", "wait4", "waitid", "waitpid",
    "write", "writev",
};

static const struct rule {
    const char *name, *action, *op;
    int64_t errno_ret; /* 0: none */
    int64_t index, value, value_two;
} rules[] = {
    { "personality", "SCMP_ACT_ALLOW", "SCMP_CMP_EQ", 0, 0, 0x0,        0 },
    { "personality", "SCMP_ACT_ALLOW", "SCMP_CMP_EQ", 0, 0, 0x8,        0 },
    { "personality", "SCMP_ACT_ALLOW", "SCMP_CMP_EQ", 0, 0, 0x20000,    0 },
    { "personality", "SCMP_ACT_ALLOW", "SCMP_CMP_EQ", 0, 0, 0x20008,    0 },
    { "personality", "SCMP_ACT_ALLOW", "SCMP_CMP_EQ", 0, 0, 0xffffffff, 0 },
    /* No new namespaces: CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET} must all be clear. */
    { "clone",       "SCMP_ACT_ALLOW", "SCMP_CMP_MASKED_EQ", 0, 0, 0x7e020000, 0 },
    { "clone3",      "SCMP_ACT_ERRNO", NULL,          38, 0, 0, 0 },
    /* All families but AF_VSOCK, which would reach the host. */
    { "socket",      "SCMP_ACT_ALLOW", "SCMP_CMP_NE", 0, 0, 40, 0 },
};
/* clang-format on */

static void write_rule(struct json_out *o, const struct rule *r)
{
    json_open(o, '{');
    json_key(o, "names");
    json_open(o, '[');
    json_str(o, r->name);
    json_close(o);
    json_kstr(o, "action", r->action);
    if (r->errno_ret)
        json_kint(o, "errnoRet", r->errno_ret);
    if (r->op) {
        json_key(o, "args");
        json_open(o, '[');
        json_open(o, '{');
        json_kint(o, "index", r->index);
        json_kint(o, "value", r->value);
        json_kint(o, "valueTwo", r->value_two);
        json_kstr(o, "op", r->op);
        json_close(o);
        json_close(o);
    }
    json_close(o);
}

void oci_seccomp(struct json_out *o)
{
    static const char *const arches[] = {
#ifdef __x86_64__
        "SCMP_ARCH_X86_64",
        "SCMP_ARCH_X86",
        "SCMP_ARCH_X32",
#elif defined(__aarch64__)
        "SCMP_ARCH_AARCH64",
        "SCMP_ARCH_ARM",
#else
#    error "no seccomp architectures for this machine"
#endif
    };

    json_open(o, '{');
    json_kstr(o, "defaultAction", "SCMP_ACT_ERRNO");
    json_kint(o, "defaultErrnoRet", EPERM);
    json_key(o, "architectures");
    json_open(o, '[');
    for (size_t i = 0; i < ARRAY_LEN(arches); i++)
        json_str(o, arches[i]);
    json_close(o);
    json_key(o, "syscalls");
    json_open(o, '[');
    json_open(o, '{');
    json_key(o, "names");
    json_open(o, '[');
    for (size_t i = 0; i < ARRAY_LEN(allowed); i++)
        json_str(o, allowed[i]);
    json_close(o);
    json_kstr(o, "action", "SCMP_ACT_ALLOW");
    json_close(o);
    for (size_t i = 0; i < ARRAY_LEN(rules); i++)
        write_rule(o, &rules[i]);
    json_close(o);
    json_close(o);
}

/* ---- the same as a program, made once: a runtime takes some ten milliseconds to make it anew ----
 */

static int add_rules(scmp_filter_ctx c)
{
    for (size_t i = 0; i < ARRAY_LEN(allowed); i++) {
        int nr = seccomp_syscall_resolve_name(allowed[i]);
        if (nr != __NR_SCMP_ERROR && seccomp_rule_add(c, SCMP_ACT_ALLOW, nr, 0) < 0)
            return -1;
    }
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        const struct rule *r = &rules[i];
        int nr = seccomp_syscall_resolve_name(r->name);
        uint32_t action = r->errno_ret ? SCMP_ACT_ERRNO((uint32_t)r->errno_ret) : SCMP_ACT_ALLOW;
        struct scmp_arg_cmp arg = { .arg = (unsigned)r->index,
                                    .datum_a = (scmp_datum_t)r->value,
                                    .datum_b = (scmp_datum_t)r->value_two };
        arg.op = !r->op                                     ? SCMP_CMP_EQ
                 : strcmp(r->op, "SCMP_CMP_NE") == 0        ? SCMP_CMP_NE
                 : strcmp(r->op, "SCMP_CMP_MASKED_EQ") == 0 ? SCMP_CMP_MASKED_EQ
                                                            : SCMP_CMP_EQ;
        if (seccomp_rule_add_array(c, action, nr, r->op ? 1 : 0, r->op ? &arg : NULL) < 0)
            return -1;
    }
    return 0;
}

static int add_arches(scmp_filter_ctx c)
{
#ifdef __x86_64__
    static const uint32_t more[] = { SCMP_ARCH_X86, SCMP_ARCH_X32 };
#else
    static const uint32_t more[] = { SCMP_ARCH_ARM };
#endif

    for (size_t i = 0; i < ARRAY_LEN(more); i++)
        if (seccomp_arch_add(c, more[i]) < 0)
            return -1;
    return 0;
}

static const char *make_program(struct arena *a, struct err *e)
{
    scmp_filter_ctx c = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    _cleanup_close_ int fd = memfd_create("seccomp", MFD_CLOEXEC);
    bool ok = c && fd >= 0 && seccomp_attr_set(c, SCMP_FLTATR_CTL_OPTIMIZE, 2) == 0 &&
              add_arches(c) == 0 && add_rules(c) == 0 && seccomp_export_bpf(c, fd) == 0;

    seccomp_release(c);
    off_t size = ok ? lseek(fd, 0, SEEK_END) : -1;
    char *p = size > 0 ? arena_alloc(a, (size_t)size) : NULL;
    if (!p || pread(fd, p, (size_t)size, 0) != size) {
        err_set(e, ERR_ENGINE_UNAVAILABLE, "this host cannot filter system calls");
        return NULL;
    }
    return base64_encode(a, p, (size_t)size, false);
}

/* Tens of milliseconds and a megabyte of heap: neither is the start's. */
static void *make(void *arg)
{
    struct oci *o = arg;

    setpriority(PRIO_PROCESS, (id_t)gettid(), 10);
    o->seccomp.text = make_program(&o->seccomp.arena, &o->seccomp.err);
    if (!o->seccomp.text)
        log_err(LOG_ERROR, "no_system_call_filter", &o->seccomp.err);
    malloc_trim(0);
    return NULL;
}

void oci_seccomp_begin(struct oci *o)
{
    o->seccomp.arena = ARENA(MIB(4));
    pthread_mutex_init(&o->seccomp.lock, NULL);
    o->seccomp.begun = true;
    o->seccomp.thread = thread_start("seccomp", make, o);
}

const char *oci_seccomp_program(struct oci *o, struct err *e)
{
    pthread_mutex_lock(&o->seccomp.lock);
    if (!o->seccomp.joined)
        pthread_join(o->seccomp.thread, NULL);
    o->seccomp.joined = true;
    pthread_mutex_unlock(&o->seccomp.lock);
    if (!o->seccomp.text)
        *e = o->seccomp.err;
    return o->seccomp.text;
}

void oci_seccomp_end(struct oci *o)
{
    struct err ignored;

    if (!o->seccomp.begun)
        return;
    oci_seccomp_program(o, &ignored);
    pthread_mutex_destroy(&o->seccomp.lock);
    arena_free(&o->seccomp.arena);
}
