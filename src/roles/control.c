/* SPDX-License-Identifier: Apache-2.0 */
/* The api role's control socket: what root asks of the running process because no other process may
 * open the store (contracts 9: unix-excl).  One order: "backup"; the answer is a line, and with
 * "ok" a descriptor of the finished copy.  So the role needs no right on the place where the copy
 * goes. */

#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/log.h"
#include "db/db.h"
#include "os/file.h"
#include "os/thread.h"
#include "roles/roles.h"

struct control {
    int fd;
    char path[108];
    struct store *store;
    const char *state_dir;
    pthread_mutex_t lock;
    pthread_cond_t idle;
    bool busy;
};

struct order {
    struct control *c;
    int fd;
};

struct control *control_new(const char *path, struct store *store, const char *state_dir,
                            struct err *e)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct control *c;

    if (strlen(path) >= sizeof(at.sun_path)) {
        err_set(e, ERR_INVALID, "the path of the socket %s is too long", path);
        return NULL;
    }
    memcpy(at.sun_path, path, strlen(path) + 1);
    unlink(path);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&at, sizeof(at)) < 0 || chmod(path, 0600) < 0 ||
        listen(fd, 4) < 0) {
        err_set(e, ERR_INVALID, "%s: %s", path, strerror(errno));
        return NULL;
    }
    c = calloc(1, sizeof(*c));
    if (!c)
        abort();
    c->fd = TAKE_FD(fd);
    memcpy(c->path, path, strlen(path) + 1);
    c->store = store;
    c->state_dir = state_dir;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->idle, NULL);
    return c;
}

int control_fd(const struct control *c)
{
    return c->fd;
}

static void answer(int fd, const char *line, int with)
{
    union {
        struct cmsghdr h;
        char space[CMSG_SPACE(sizeof(int))];
    } u = { 0 };
    struct iovec iov = { (char *)(uintptr_t)line, strlen(line) };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (with >= 0) {
        m.msg_control = u.space;
        m.msg_controllen = sizeof(u.space);
        u.h.cmsg_level = SOL_SOCKET;
        u.h.cmsg_type = SCM_RIGHTS;
        u.h.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&u.h), &with, sizeof(int));
    }
    (void)!sendmsg(fd, &m, MSG_NOSIGNAL);
}

static void refuse(int fd, const struct err *e)
{
    char line[400];

    snprintf(line, sizeof(line), "error %s",
             e->code == ERR_INTERNAL && e->cause[0] ? e->cause : e->msg);
    answer(fd, line, -1);
}

static void backup(struct control *c, int fd)
{
    struct arena a = ARENA(KIB(64));
    const char *copy = arena_printf(&a, "%s/backup.new", c->state_dir);
    _cleanup_close_ int file = -1;
    struct err e = { 0 };

    unlink(copy);
    if (store_backup(c->store, copy, &e) < 0) {
        refuse(fd, &e);
    } else if ((file = open(copy, O_RDONLY | O_CLOEXEC)) < 0) {
        err_sys(&e, errno, "open %s", copy);
        refuse(fd, &e);
    } else {
        answer(fd, "ok", file);
        log_event(LOG_INFO, "backup_made");
    }
    unlink(copy);
    arena_free(&a);
}

static void *serve_one(void *arg)
{
    struct order o = *(struct order *)arg;
    char line[64];
    struct timeval limit = { .tv_sec = 10 };
    struct err e;
    ssize_t n;

    free(arg);
    setsockopt(o.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    n = recv(o.fd, line, sizeof(line) - 1, 0);
    line[MAX(n, (ssize_t)0)] = '\0';
    if (!strcmp(line, "backup")) {
        backup(o.c, o.fd);
    } else {
        err_set(&e, ERR_INVALID, "unknown order");
        refuse(o.fd, &e);
    }
    close(o.fd);
    pthread_mutex_lock(&o.c->lock);
    o.c->busy = false;
    pthread_cond_broadcast(&o.c->idle);
    pthread_mutex_unlock(&o.c->lock);
    return NULL;
}

static bool allowed(int fd)
{
    struct ucred who;
    socklen_t n = sizeof(who);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) == 0 &&
           (who.uid == 0 || who.uid == geteuid());
}

void control_accept(struct control *c)
{
    int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC);
    struct order *o;
    bool busy;
    struct err e;

    if (fd < 0)
        return;
    pthread_mutex_lock(&c->lock);
    busy = c->busy;
    c->busy = true;
    pthread_mutex_unlock(&c->lock);
    if (busy || !allowed(fd)) {
        err_set(&e, ERR_INVALID_STATE, busy ? "another order is running" : "not for you");
        refuse(fd, &e);
        close(fd);
        if (!busy) {
            pthread_mutex_lock(&c->lock);
            c->busy = false;
            pthread_mutex_unlock(&c->lock);
        }
        return;
    }
    o = calloc(1, sizeof(*o));
    if (!o)
        abort();
    *o = (struct order){ c, fd };
    pthread_detach(thread_start("control", serve_one, o));
}

void control_free(struct control *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    while (c->busy)
        pthread_cond_wait(&c->idle, &c->lock);
    pthread_mutex_unlock(&c->lock);
    unlink(c->path);
    close(c->fd);
    pthread_cond_destroy(&c->idle);
    pthread_mutex_destroy(&c->lock);
    free(c);
}
