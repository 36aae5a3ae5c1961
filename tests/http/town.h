/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A server for those who ask: on all of 127.0.0.0/8, one thread, and as badly behaved as the path
 * of a request wants it. */

#include <fcntl.h>

#include "tests/http/peer.h"

enum { TOWN_MOST = 4096 };
struct visitor {
    int fd;
    size_t n;
    bool drips; /* a byte each round */
    char in[2048];
};
struct town {
    int listener, port;
    pthread_t thread;
    _Atomic bool quit;
    _Atomic int opened, asked, hanging;
    pthread_mutex_t lock; /* around 'last' */
    char last[2048];
    struct pollfd polls[TOWN_MOST + 1];
    struct visitor *visitors[TOWN_MOST];
    int n;
};

static inline void town_put(int fd, const char *text)
{
    (void)!send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Much more than anybody takes, or all of it. */
static inline void town_flood(int fd, const char *block, int times)
{
    fcntl(fd, F_SETFL, 0);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &(struct timeval){ 5, 0 }, sizeof(struct timeval));
    for (int i = 0; i < times; i++)
        if (send(fd, block, strlen(block), MSG_NOSIGNAL) < 0)
            return;
}

#define TOWN_BLOCK "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"
/* False: hangs up. */
static inline bool town_answer(struct town *t, struct visitor *v)
{
    const char *path = strchr(v->in, ' ');

#define IS(text) (path && strncmp(path + 1, text " ", sizeof(text)) == 0)
    if (IS("/hang")) {
        atomic_fetch_add(&t->hanging, 1);
    } else if (IS("/slow-head")) {
        town_put(v->fd, "HTTP/1.1 200 OK\r\nX-Drip: ");
        v->drips = true;
    } else if (IS("/slow-body")) {
        town_put(v->fd, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
        v->drips = true;
    } else if (IS("/long")) {
        town_put(v->fd, "HTTP/1.1 200 OK\r\nContent-Length: 6400\r\n\r\n");
        town_flood(v->fd, TOWN_BLOCK, 100);
    } else if (IS("/endless")) {
        town_put(v->fd, "HTTP/1.1 200 OK\r\n\r\n");
        town_flood(v->fd, TOWN_BLOCK, 1000000);
        return false;
    } else if (IS("/endless-head")) {
        town_put(v->fd, "HTTP/1.1 200 OK\r\n");
        town_flood(v->fd, "X-More: " TOWN_BLOCK TOWN_BLOCK TOWN_BLOCK "\r\n", 100000);
        return false;
    } else if (IS("/cut")) {
        town_put(v->fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc");
        return false;
    } else if (IS("/silent")) {
        return false;
    } else if (IS("/other")) {
        town_put(v->fd, "220 mail ESMTP\r\n");
        return false;
    } else if (IS("/away")) {
        town_put(v->fd, "HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n");
    } else if (IS("/later")) {
        town_put(v->fd,
                 "HTTP/1.1 503 Later\r\nretry-after:  120 \r\nContent-Length: 4\r\n\r\nlate");
    } else {
        town_put(v->fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    }
#undef IS
    return true;
}

static inline bool town_read(struct town *t, struct visitor *v)
{
    ssize_t got = recv(v->fd, v->in + v->n, sizeof(v->in) - 1 - v->n, MSG_DONTWAIT);

    if (got <= 0)
        return false;
    v->n += (size_t)got;
    v->in[v->n] = '\0';
    const char *end = strstr(v->in, "\r\n\r\n"), *length = strcasestr(v->in, "content-length:");
    if (!end)
        return v->n < sizeof(v->in) - 1;
    if (length && v->n < (size_t)(end + 4 - v->in) + strtoul(length + 15, NULL, 10))
        return true;
    pthread_mutex_lock(&t->lock);
    memcpy(t->last, v->in, v->n + 1);
    pthread_mutex_unlock(&t->lock);
    atomic_fetch_add(&t->asked, 1);
    v->n = 0;
    return town_answer(t, v);
}

static inline void *town_work(void *arg)
{
    struct town *t = arg;

    while (!atomic_load(&t->quit)) {
        t->polls[t->n] = (struct pollfd){ .fd = t->listener, .events = POLLIN };
        poll(t->polls, (nfds_t)t->n + 1, 10);
        bool more = t->polls[t->n].revents;
        for (int i = 0; i < t->n; i++) {
            struct visitor *v = t->visitors[i];
            bool stays = true;

            if (v->drips)
                stays = send(v->fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1;
            if (stays && t->polls[i].revents)
                stays = town_read(t, v);
            if (stays)
                continue;
            close(v->fd);
            free(v);
            t->n--;
            t->visitors[i] = t->visitors[t->n];
            t->polls[i] = t->polls[t->n];
            i--;
        }
        for (int fd; more && t->n < TOWN_MOST &&
                     (fd = accept4(t->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0;) {
            t->visitors[t->n] = calloc(1, sizeof(struct visitor));
            assert_non_null(t->visitors[t->n]);
            t->visitors[t->n]->fd = fd;
            t->polls[t->n++] = (struct pollfd){ .fd = fd, .events = POLLIN };
            atomic_fetch_add(&t->opened, 1);
        }
    }
    while (t->n) {
        close(t->visitors[--t->n]->fd);
        free(t->visitors[t->n]);
    }
    return NULL;
}

static inline struct town *town_open(void)
{
    struct town *t = calloc(1, sizeof(*t));
    struct err e = { 0 };

    assert_non_null(t);
    t->listener = http_listen("0.0.0.0", 0, 4096, &e);
    if (t->listener < 0)
        fail_msg("listen: %s %s", e.msg, e.cause);
    fcntl(t->listener, F_SETFL, O_NONBLOCK);
    t->port = http_listen_port(t->listener);
    pthread_mutex_init(&t->lock, NULL);
    t->thread = thread_start("town", town_work, t);
    return t;
}

static inline void town_close(struct town *t)
{
    atomic_store(&t->quit, true);
    pthread_join(t->thread, NULL);
    close(t->listener);
    pthread_mutex_destroy(&t->lock);
    free(t);
}
DEFINE_CLEANUP(struct town *, town_close)
#define TOWN(name) _cleanup_(town_closep) struct town *name = town_open()

/* Whether the last request held this text. */
static inline bool town_heard(struct town *t, const char *text)
{
    pthread_mutex_lock(&t->lock);
    bool found = strstr(t->last, text) != NULL;
    pthread_mutex_unlock(&t->lock);
    return found;
}
