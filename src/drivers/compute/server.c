/* SPDX-License-Identifier: Apache-2.0 */
/* Takes orders at a socket.  Hides who does them: short ones a pool, those that stream a thread
 * each, so that a hundred long logs never keep an instance from starting. */
#include "drivers/compute/server_impl.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "os/memory.h"
#include "os/unixsock.h"

enum { MAX_LINKS = 64, MAX_STREAMING = 512, POOL_QUEUE = 1024 };

static void job_free(struct job *j)
{
    stream_close(j->stream);
    json_free(j->order);
    free(j);
}

static void job_run(struct job *j)
{
    struct err why = { 0 }, lost;
    int r;

    if (j->deadline && clock_mono(clock_system()) > j->deadline)
        r = err_set(&why, ERR_OVERLOADED, "the agent is too busy");
    else
        r = j->kind->run(j, &why);
    if (!stream_cancelled(j->stream))
        (void)stream_end(j->stream, r < 0 ? &why : NULL, &lost);
    job_free(j);
}

static void pool_job(void *ctx, _unused_ void *worker)
{
    job_run(ctx);
}

static void leave(struct compute_server *s, int *count)
{
    pthread_mutex_lock(&s->lock);
    --*count;
    pthread_cond_broadcast(&s->cond);
    pthread_mutex_unlock(&s->lock);
}

static bool enter(struct compute_server *s, int *count, int max)
{
    pthread_mutex_lock(&s->lock);
    bool ok = !s->closing && *count < max;
    *count += ok;
    pthread_mutex_unlock(&s->lock);
    return ok;
}

static void *streaming_job(void *ctx)
{
    struct job *j = ctx;
    struct compute_server *s = j->server;

    job_run(j);
    leave(s, &s->streaming);
    return NULL;
}

/* ---- connections ---- */

static void refuse(struct job *j, enum err_code code, const char *why)
{
    struct err e, lost;

    err_set(&e, code, "%s", why);
    (void)stream_end(j->stream, &e, &lost);
    job_free(j);
}

/* A frame of no stream: an order if it is JSON. */
static int take_order(struct compute_server *s, struct link *l, const struct message *m,
                      struct err *e)
{
    if (m->kind != FRAME_JSON) /* of an order that has ended */
        return 0;
    if (m->stream == 0)
        return err_set(e, ERR_INVALID, "an order on stream 0");
    struct json_value *order = json_parse((struct str){ m->p, m->n }, e);
    if (!order)
        return -1;
    struct job *j = calloc(1, sizeof(*j));
    if (!j)
        abort();
    *j = (struct job){ .server = s, .order = order, .stream = stream_open(l, m->stream) };
    if (!j->stream) {
        json_free(order);
        free(j);
        return err_set(e, ERR_OVERLOADED, "too many orders on a connection");
    }
    int64_t timeout = json_get_int(order, "timeout_ms", 0);
    if (timeout > 0 && timeout < 86400000)
        j->deadline = clock_mono(clock_system()) + MILLIS(timeout);
    j->kind = server_order_kind(json_str_of(json_get(order, "order"), NULL));
    if (!j->kind) {
        refuse(j, ERR_NOT_IMPLEMENTED, "the agent knows no such order");
    } else if (!j->kind->streams) {
        if (!pool_submit(s->pool, pool_job, j))
            refuse(j, ERR_OVERLOADED, "the agent has too many orders waiting");
    } else if (enter(s, &s->streaming, MAX_STREAMING)) {
        pthread_detach(thread_start("stream", streaming_job, j));
    } else {
        refuse(j, ERR_OVERLOADED, "the agent has too many streams open");
    }
    return 0;
}

static int serve_link(struct compute_server *s, struct link *l, struct err *e)
{
    struct message *m;
    uid_t uid;
    pid_t pid;

    TRY(unix_peer(l->fd, &uid, &pid, e));
    if (uid != 0 && uid != s->api_uid)
        return err_set(e, ERR_FORBIDDEN, "user %d may give no orders", (int)uid);
    TRY(link_greet(l, s->installation, e));
    while ((m = link_receive(l, e))) {
        int r = link_deliver(l, m, e);
        if (r == 1) {
            r = take_order(s, l, m, e);
            free(m);
        }
        TRY(r);
    }
    return -1;
}

struct connection {
    struct compute_server *server;
    struct link *link;
};

static void *connection_thread(void *ctx)
{
    struct connection *c = ctx;
    struct compute_server *s = c->server;
    struct link *l = c->link;
    struct err why = { 0 };

    free(c);
    (void)serve_link(s, l, &why);
    link_break(l);
    log_err(LOG_INFO, "agent_connection_closed", &why);
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < MAX_LINKS; i++)
        if (s->link[i] == l)
            s->link[i] = NULL;
    pthread_mutex_unlock(&s->lock);
    link_unref(l);
    leave(s, &s->links);
    return NULL;
}

static void accept_one(struct compute_server *s)
{
    int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0)
        return;
    if (!enter(s, &s->links, MAX_LINKS)) {
        close(fd);
        return;
    }
    struct connection *c = calloc(1, sizeof(*c));
    if (!c)
        abort();
    *c = (struct connection){ s, link_new(fd, "api") };
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < MAX_LINKS; i++)
        if (!s->link[i]) {
            s->link[i] = c->link;
            break;
        }
    pthread_mutex_unlock(&s->lock);
    pthread_detach(thread_start("agent-conn", connection_thread, c));
}

static void *accept_thread(void *ctx)
{
    struct compute_server *s = ctx;
    struct pollfd p[2] = { { s->fd, POLLIN, 0 }, { s->quit, POLLIN, 0 } };

    for (;;) {
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            abort();
        if (p[1].revents)
            return NULL;
        if (p[0].revents)
            accept_one(s);
    }
}

/* Exits of instances, for all who watch. */
static void *watch_thread(void *ctx)
{
    struct compute_server *s = ctx;
    struct uuid id;
    struct err e;

    while (!server_closing(s)) {
        int r = compute_watch(s->compute, MILLIS(250), &id, &e);
        memory_settle();
        if (r <= 0)
            continue;
        pthread_mutex_lock(&s->lock);
        s->events[s->n_events++ % SERVER_EVENTS] =
            (struct server_event){ id, (enum compute_event)r };
        pthread_cond_broadcast(&s->cond);
        pthread_mutex_unlock(&s->lock);
    }
    return NULL;
}

bool server_closing(struct compute_server *s)
{
    pthread_mutex_lock(&s->lock);
    bool closing = s->closing;
    pthread_mutex_unlock(&s->lock);
    return closing;
}

/* ---- birth and end ---- */

struct compute_server *compute_server_new(const struct compute_server_opts *o, struct err *e)
{
    struct compute_server *s = calloc(1, sizeof(*s));
    struct pool_opts p = { .name = "order",
                           .threads = o->threads ? o->threads : 32,
                           .queue = POOL_QUEUE };
    pthread_condattr_t attr;

    if (!s)
        abort();
    s->fd = s->quit = -1;
    s->compute = o->compute;
    s->images = o->images;
    s->api_uid = o->api_uid;
    s->installation = o->installation ? strdup(o->installation) : NULL;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->cond, &attr);
    pthread_condattr_destroy(&attr);
    /* Anyone may connect: who it is decides (SO_PEERCRED), not the file's mode. */
    s->fd = unix_listen(o->socket_path, UNIX_STREAM, 0666, e);
    s->path = strdup(o->socket_path);
    s->quit = eventfd(0, EFD_CLOEXEC);
    s->pool = s->fd < 0 ? NULL : pool_new(&p, e);
    if (s->fd < 0 || !s->pool) {
        compute_server_free(s);
        return NULL;
    }
    s->acceptor = thread_start("agent-accept", accept_thread, s);
    s->watcher = thread_start("agent-watch", watch_thread, s);
    s->started = true;
    return s;
}

void compute_server_free(struct compute_server *s)
{
    uint64_t one = 1;

    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->closing = true;
    pthread_cond_broadcast(&s->cond);
    pthread_mutex_unlock(&s->lock);
    if (s->started && write(s->quit, &one, sizeof(one)) == sizeof(one)) {
        pthread_join(s->acceptor, NULL);
        pthread_join(s->watcher, NULL);
        unlink(s->path);
    }
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < MAX_LINKS; i++)
        if (s->link[i])
            link_break(s->link[i]);
    while (s->links > 0 || s->streaming > 0)
        pthread_cond_wait(&s->cond, &s->lock);
    pthread_mutex_unlock(&s->lock);
    pool_free(s->pool);
    if (s->fd >= 0)
        close(s->fd);
    if (s->quit >= 0)
        close(s->quit);
    pthread_cond_destroy(&s->cond);
    pthread_mutex_destroy(&s->lock);
    free(s->path);
    free(s->installation);
    free(s);
}
