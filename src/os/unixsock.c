/* SPDX-License-Identifier: Apache-2.0 */
/* Hides sockaddr_un, stale socket files and control messages. */
#include "os/unixsock.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

enum { MAX_FDS = 16, BACKLOG = 128 };

static int address(const char *path, struct sockaddr_un *out, struct err *e)
{
    *out = (struct sockaddr_un){ .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof(out->sun_path))
        return err_set(e, ERR_INVALID, "the socket's path is longer than %zu bytes",
                       sizeof(out->sun_path) - 1);
    memcpy(out->sun_path, path, strlen(path));
    return 0;
}

static int kind_of(enum unix_kind kind)
{
    return (kind == UNIX_STREAM ? SOCK_STREAM : SOCK_SEQPACKET) | SOCK_CLOEXEC;
}

int unix_connect(const char *path, enum unix_kind kind, struct err *e)
{
    struct sockaddr_un sa;

    TRY(address(path, &sa, e));
    _cleanup_close_ int fd = socket(AF_UNIX, kind_of(kind), 0);
    if (fd < 0)
        return err_sys(e, errno, "socket");
    if (connect(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0) {
        char why[128];
        snprintf(why, sizeof(why), "%s: %s", path, strerrordesc_np(errno));
        return err_cause(e, ERR_ENGINE_UNAVAILABLE, why, "nobody answers at the socket");
    }
    return TAKE_FD(fd);
}

int unix_listen(const char *path, enum unix_kind kind, unsigned mode, struct err *e)
{
    struct sockaddr_un sa;
    struct stat st;
    struct err gone;

    TRY(address(path, &sa, e));
    _cleanup_close_ int fd = socket(AF_UNIX, kind_of(kind), 0);
    if (fd < 0)
        return err_sys(e, errno, "socket");
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode)) {
        int other = unix_connect(path, kind, &gone);
        if (other >= 0) {
            close(other);
            return err_set(e, ERR_ALREADY_EXISTS, "another process listens at %s", path);
        }
        unlink(path);
    }
    mode_t was = umask(0177);
    int r = bind(fd, (const struct sockaddr *)&sa, sizeof(sa));
    umask(was);
    if (r < 0 || chmod(path, mode) < 0 || listen(fd, BACKLOG) < 0)
        return err_sys(e, errno, "listen at %s", path);
    return TAKE_FD(fd);
}

int unix_peer(int fd, uid_t *uid, pid_t *pid, struct err *e)
{
    struct ucred c;
    socklen_t n = sizeof(c);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &n) < 0)
        return err_sys(e, errno, "SO_PEERCRED");
    *uid = c.uid;
    *pid = c.pid;
    return 0;
}

union control {
    struct cmsghdr head;
    char room[CMSG_SPACE(sizeof(int) * MAX_FDS)];
};

int unix_send_fds(int fd, const void *p, size_t n, const int *fds, size_t n_fds, struct err *e)
{
    union control c = { 0 };
    void *from;

    memcpy(&from, &p, sizeof(from)); /* sendmsg() only reads it */
    struct iovec io = { from, n };
    struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1 };

    if (n_fds > MAX_FDS)
        return err_set(e, ERR_INVALID, "more than %d descriptors", MAX_FDS);
    if (n_fds) {
        m.msg_control = &c;
        m.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        struct cmsghdr *h = CMSG_FIRSTHDR(&m);
        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(h), fds, sizeof(int) * n_fds);
    }
    ssize_t r;
    do
        r = sendmsg(fd, &m, MSG_NOSIGNAL);
    while (r < 0 && errno == EINTR);
    if (r != (ssize_t)n)
        return err_sys(e, r < 0 ? errno : EMSGSIZE, "sendmsg");
    return 0;
}

ssize_t unix_recv_fds(int fd, void *p, size_t n, int *fds, size_t max_fds, size_t *n_fds,
                      struct err *e)
{
    union control c = { 0 };
    struct iovec io = { p, n };
    struct msghdr m = {
        .msg_iov = &io, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c)
    };
    ssize_t r;

    *n_fds = 0;
    do
        r = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
    while (r < 0 && errno == EINTR);
    if (r < 0)
        return err_sys(e, errno, "recvmsg");
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
            continue;
        size_t got = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < got; i++) {
            int one;
            memcpy(&one, CMSG_DATA(h) + i * sizeof(int), sizeof(one));
            if (*n_fds < max_fds)
                fds[(*n_fds)++] = one;
            else
                close(one);
        }
    }
    if (m.msg_flags & MSG_CTRUNC) {
        while (*n_fds)
            close(fds[--*n_fds]);
        return err_set(e, ERR_INVALID, "more descriptors than expected");
    }
    return r;
}
