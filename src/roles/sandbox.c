/* SPDX-License-Identifier: Apache-2.0 */
/* What the api and the edge give up.  The filter is a list of what is refused, not of what is
 * allowed: the C library, the databases' clients and the TLS library may use a call tomorrow that
 * they do not use today, and the role has no privilege left that a call not on this list could use.
 */

#include <fcntl.h>
#include <grp.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "roles/roles.h"

int sandbox_drop(const char *user, struct err *e)
{
    uid_t uid;
    gid_t gid;
    struct rlimit none = { 0, 0 };

    TRY(user_find(user, &uid, &gid, e));
    if (uid == 0)
        return err_set(e, ERR_INVALID, "places.user and places.edge_user must not be root");
    if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        return err_sys(e, errno, "become user %s", user);
    if (setuid(0) == 0 || getuid() != uid || geteuid() != uid)
        return err_set(e, ERR_INTERNAL, "could not leave root for good");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return err_sys(e, errno, "no_new_privs");
    setrlimit(RLIMIT_CORE, &none); /* no secret in a core dump */
    return 0;
}

/* clang-format off */
static const int refused[] = {
    /* Other programs and other processes. */
    SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev),
    SCMP_SYS(pidfd_getfd), SCMP_SYS(kcmp),
#ifndef __SANITIZE_ADDRESS__
    SCMP_SYS(ptrace), /* the leak checker looks at its own threads */
#endif
    /* Mounts, roots, namespaces. */
    SCMP_SYS(mount), SCMP_SYS(umount2), SCMP_SYS(move_mount), SCMP_SYS(open_tree), SCMP_SYS(fsopen),
    SCMP_SYS(fsmount), SCMP_SYS(fsconfig), SCMP_SYS(fspick), SCMP_SYS(mount_setattr),
    SCMP_SYS(pivot_root), SCMP_SYS(chroot), SCMP_SYS(unshare), SCMP_SYS(setns),
    SCMP_SYS(open_by_handle_at), SCMP_SYS(name_to_handle_at),
    /* The kernel itself. */
    SCMP_SYS(init_module), SCMP_SYS(finit_module), SCMP_SYS(delete_module), SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load), SCMP_SYS(bpf), SCMP_SYS(perf_event_open), SCMP_SYS(userfaultfd),
    SCMP_SYS(io_uring_setup), SCMP_SYS(io_uring_enter), SCMP_SYS(io_uring_register),
    SCMP_SYS(keyctl), SCMP_SYS(add_key), SCMP_SYS(request_key), SCMP_SYS(syslog),
    SCMP_SYS(lookup_dcookie), SCMP_SYS(fanotify_init), SCMP_SYS(quotactl), SCMP_SYS(acct),
    /* The machine. */
    SCMP_SYS(reboot), SCMP_SYS(swapon), SCMP_SYS(swapoff), SCMP_SYS(sethostname),
    SCMP_SYS(setdomainname), SCMP_SYS(settimeofday), SCMP_SYS(clock_settime), SCMP_SYS(adjtimex),
    SCMP_SYS(clock_adjtime), SCMP_SYS(iopl), SCMP_SYS(ioperm), SCMP_SYS(vhangup), SCMP_SYS(nfsservctl),
    SCMP_SYS(personality), SCMP_SYS(mknod), SCMP_SYS(mknodat),
    /* Other users. */
    SCMP_SYS(setuid), SCMP_SYS(setgid), SCMP_SYS(setreuid), SCMP_SYS(setregid), SCMP_SYS(setresuid),
    SCMP_SYS(setresgid), SCMP_SYS(setgroups), SCMP_SYS(setfsuid), SCMP_SYS(setfsgid),
    SCMP_SYS(capset),
};
static const int families[] = { AF_PACKET, AF_ALG, AF_KEY, AF_VSOCK, AF_BLUETOOTH, AF_CAN, AF_TIPC };
/* clang-format on */

int sandbox_filter(struct err *e)
{
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_ALLOW);
    int rc = 0;

    if (!f)
        return err_set(e, ERR_INTERNAL, "no system call filter");
    /* A binary tree instead of a chain of comparisons. */
    seccomp_attr_set(f, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    for (size_t i = 0; i < ARRAY_LEN(refused) && rc >= 0; i++)
        if (refused[i] >= 0) /* negative: this architecture has no such call */
            rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), refused[i], 0);
    for (size_t i = 0; i < ARRAY_LEN(families) && rc >= 0; i++)
        rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
                              SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i]));
    if (rc >= 0)
        rc = seccomp_load(f);
    seccomp_release(f);
    return rc < 0 ? err_sys(e, -rc, "system call filter") : 0;
}
