/* SPDX-License-Identifier: Apache-2.0 */
/* Frames, and a connection that many threads speak over at once.  Hides the window that keeps one
 * slow reader from standing in the way of all others. */
#include "os/link.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#include "codec/json.h"

enum { WINDOW_BYTES = 8, PIECE_BYTES = 64 << 10 };

static uint32_t get32(const char *p)
{
    uint8_t b[4];

    memcpy(b, p, sizeof(b));
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static void put32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

int frame_decode(struct str in, struct frame *out, size_t *used, struct err *e)
{
    if (in.n >= 4 && get32(in.p) > FRAME_MAX)
        return err_set(e, ERR_TOO_LARGE, "a frame is over %d bytes", FRAME_MAX);
    if (in.n >= 5 && (in.p[4] < FRAME_JSON || in.p[4] > FRAME_CANCEL))
        return err_set(e, ERR_INVALID, "a frame is of no known kind");
    if (in.n < FRAME_HEAD)
        return 0;
    size_t n = get32(in.p);
    if ((in.p[4] == FRAME_WINDOW && n != WINDOW_BYTES) || (in.p[4] == FRAME_CANCEL && n != 0))
        return err_set(e, ERR_INVALID, "a frame is of the wrong length");
    if (in.n - FRAME_HEAD < n)
        return 0;
    *out = (struct frame){ .kind = (enum frame_kind)in.p[4], .stream = get32(in.p + 5) };
    out->body = (struct str){ in.p + FRAME_HEAD, n };
    *used = FRAME_HEAD + n;
    return 1;
}

void frame_encode_head(enum frame_kind kind, uint32_t stream, size_t n, uint8_t out[FRAME_HEAD])
{
    put32(out, (uint32_t)n);
    out[4] = (uint8_t)kind;
    put32(out + 5, stream);
}

/* ---- the link ---- */

struct link *link_new(int fd, const char *peer)
{
    struct link *l = calloc(1, sizeof(*l));
    struct timeval patience = { .tv_sec = 30 };

    if (!l)
        abort();
    l->fd = fd;
    l->peer = peer;
    l->refs = 1;
    l->streams = map_new();
    pthread_mutex_init(&l->write, NULL);
    pthread_mutex_init(&l->lock, NULL);
    /* A peer that does not read for so long is as good as gone. */
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    return l;
}

struct link *link_ref(struct link *l)
{
    pthread_mutex_lock(&l->lock);
    l->refs++;
    pthread_mutex_unlock(&l->lock);
    return l;
}

void link_unref(struct link *l)
{
    pthread_mutex_lock(&l->lock);
    int left = --l->refs;
    pthread_mutex_unlock(&l->lock);
    if (left > 0)
        return;
    close(l->fd);
    map_free(l->streams);
    pthread_mutex_destroy(&l->write);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

void link_break(struct link *l)
{
    size_t at = 0, key_len;
    const void *key;
    void *value;

    pthread_mutex_lock(&l->lock);
    l->broken = true;
    shutdown(l->fd, SHUT_RDWR);
    while (map_next(l->streams, &at, &key, &key_len, &value))
        pthread_cond_broadcast(&((struct stream *)value)->cond);
    pthread_mutex_unlock(&l->lock);
}

bool link_broken(struct link *l)
{
    pthread_mutex_lock(&l->lock);
    bool broken = l->broken;
    pthread_mutex_unlock(&l->lock);
    return broken;
}

static int send_all(int fd, struct iovec *io, int n)
{
    while (n > 0) {
        struct msghdr m = { .msg_iov = io, .msg_iovlen = (size_t)n };
        ssize_t w = sendmsg(fd, &m, MSG_NOSIGNAL);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return -1;
        while (n > 0 && (size_t)w >= io->iov_len) {
            w -= (ssize_t)io->iov_len;
            io++;
            n--;
        }
        if (n > 0) {
            io->iov_base = (char *)io->iov_base + w;
            io->iov_len -= (size_t)w;
        }
    }
    return 0;
}

int link_send(struct link *l, enum frame_kind kind, uint32_t stream, struct str body, struct err *e)
{
    uint8_t head[FRAME_HEAD];
    void *from;

    if (body.n > FRAME_MAX)
        return err_set(e, ERR_TOO_LARGE, "an order or an answer is over %d bytes", FRAME_MAX);
    memcpy(&from, &body.p, sizeof(from)); /* sendmsg() only reads it */
    struct iovec io[2] = { { head, FRAME_HEAD }, { from, body.n } };
    frame_encode_head(kind, stream, body.n, head);
    pthread_mutex_lock(&l->write);
    int r = link_broken(l) ? -1 : send_all(l->fd, io, body.n ? 2 : 1);
    pthread_mutex_unlock(&l->write);
    if (r == 0)
        return 0;
    link_break(l); /* half a frame may be out */
    return err_set(e, ERR_ENGINE_UNAVAILABLE, "lost contact with the %s", l->peer);
}

static int read_full(int fd, char *p, size_t n)
{
    while (n) {
        ssize_t r = read(fd, p, n);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return -1;
        p += r;
        n -= (size_t)r;
    }
    return 0;
}

struct message *link_receive(struct link *l, struct err *e)
{
    char head[FRAME_HEAD];
    struct frame f;
    size_t used;

    if (read_full(l->fd, head, sizeof(head)) < 0) {
        err_set(e, ERR_ENGINE_UNAVAILABLE, "lost contact with the %s", l->peer);
        return NULL;
    }
    if (frame_decode((struct str){ head, sizeof(head) }, &f, &used, e) < 0)
        return NULL;
    size_t n = get32(head);
    struct message *m = malloc(sizeof(*m) + n + 1);
    if (!m)
        abort();
    *m = (struct message){ .kind = (enum frame_kind)head[4], .stream = get32(head + 5), .n = n };
    m->p[n] = '\0';
    if (read_full(l->fd, m->p, n) == 0)
        return m;
    free(m);
    err_set(e, ERR_ENGINE_UNAVAILABLE, "lost contact with the %s", l->peer);
    return NULL;
}

/* Under link.lock, as the two below. */
static int open_window(struct stream *s, const struct message *m, struct err *e)
{
    s->out.bytes += get32(m->p);
    s->out.frames += get32(m->p + 4);
    if (s->out.bytes > STREAM_WINDOW_BYTES || s->out.frames > STREAM_WINDOW_FRAMES)
        return err_set(e, ERR_INVALID, "a window is opened further than it was closed");
    return 0;
}

static bool is_open(const struct window *w)
{
    return w->bytes > 0 && w->frames > 0;
}

static int append(struct stream *s, struct message *m, struct err *e)
{
    if (s->ended || (m->kind != FRAME_END && !is_open(&s->in)))
        return err_set(e, ERR_INVALID, "a stream has more frames than it may");
    m->next = NULL;
    if (s->last)
        s->last->next = m;
    else
        s->first = m;
    s->last = m;
    s->ended = m->kind == FRAME_END;
    if (!s->ended) {
        s->in.bytes -= (int64_t)m->n;
        s->in.frames--;
    }
    return 0;
}

int link_deliver(struct link *l, struct message *m, struct err *e)
{
    int r = 1;

    pthread_mutex_lock(&l->lock);
    struct stream *s = map_get(l->streams, &m->stream, sizeof(m->stream));
    if (s) {
        bool kept = false;
        r = 0;
        if (m->kind == FRAME_WINDOW) {
            r = open_window(s, m, e);
        } else if (m->kind == FRAME_CANCEL) {
            s->cancelled = true;
        } else {
            r = append(s, m, e);
            kept = r == 0;
        }
        if (!kept)
            free(m);
        pthread_cond_broadcast(&s->cond);
    }
    pthread_mutex_unlock(&l->lock);
    return r;
}

/* ---- greeting ---- */

static int greet_out(struct link *l, const char *installation, struct err *e)
{
    struct buf b = BUF(KIB(4));
    struct json_out o = JSON_OUT(&b);

    json_open(&o, '{');
    json_kstr(&o, "protocol", "brume-agent");
    json_kint(&o, "version", PROTOCOL_VERSION);
    json_kstr(&o, "release", BRUME_VERSION);
    if (installation)
        json_kstr(&o, "installation", installation);
    json_close(&o);
    int r = link_send(l, FRAME_JSON, 0, buf_str(&b), e);
    buf_free(&b);
    return r;
}

int link_greet(struct link *l, const char *installation, struct err *e)
{
    struct pollfd p = { .fd = l->fd, .events = POLLIN };

    TRY(greet_out(l, installation, e));
    if (poll(&p, 1, 5000) <= 0)
        return err_set(e, ERR_ENGINE_UNAVAILABLE, "the other side does not greet");
    struct message *m = link_receive(l, e);
    if (!m)
        return -1;
    _cleanup_(json_freep) struct json_value *v =
        m->kind == FRAME_JSON && m->stream == 0 ? json_parse((struct str){ m->p, m->n }, e) : NULL;
    free(m);
    const char *protocol = v ? json_str_of(json_get(v, "protocol"), NULL) : NULL;
    const char *theirs = v ? json_str_of(json_get(v, "installation"), NULL) : NULL;
    int64_t version = v ? json_get_int(v, "version", 0) : 0;

    if (!protocol || strcmp(protocol, "brume-agent") != 0)
        return err_set(e, ERR_INVALID, "the other side is no brume");
    if (version < PROTOCOL_OLDEST)
        return err_set(e, ERR_UNSUPPORTED_VERSION, "the other side speaks version %lld",
                       (long long)version);
    if (installation && theirs && strcmp(installation, theirs) != 0)
        return err_set(e, ERR_FORBIDDEN, "the %s belongs to installation %s", l->peer, theirs);
    l->version = version;
    return 0;
}

/* ---- streams ---- */

struct stream *stream_open(struct link *l, uint32_t id)
{
    struct stream *s = calloc(1, sizeof(*s));
    pthread_condattr_t attr;

    if (!s)
        abort();
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->cond, &attr);
    pthread_condattr_destroy(&attr);
    s->id = id;
    s->in = s->out = (struct window){ STREAM_WINDOW_BYTES, STREAM_WINDOW_FRAMES };
    pthread_mutex_lock(&l->lock);
    bool refused = l->broken || map_count(l->streams) >= LINK_MAX_STREAMS ||
                   map_get(l->streams, &id, sizeof(id));
    if (!refused) {
        s->link = l;
        l->refs++;
        map_set(l->streams, &id, sizeof(id), s);
    }
    pthread_mutex_unlock(&l->lock);
    if (!refused)
        return s;
    pthread_cond_destroy(&s->cond);
    free(s);
    return NULL;
}

void stream_close(struct stream *s)
{
    struct link *l = s->link;

    pthread_mutex_lock(&l->lock);
    map_del(l->streams, &s->id, sizeof(s->id));
    pthread_mutex_unlock(&l->lock);
    for (struct message *m = s->first, *next; m; m = next) {
        next = m->next;
        free(m);
    }
    pthread_cond_destroy(&s->cond);
    free(s);
    link_unref(l);
}

/* Under link.lock; false when 'until' is past. */
static bool wait_for(struct stream *s, int64_t timeout, const struct timespec *until)
{
    if (timeout < 0)
        return pthread_cond_wait(&s->cond, &s->link->lock) == 0;
    return pthread_cond_timedwait(&s->cond, &s->link->lock, until) != ETIMEDOUT;
}

static struct timespec deadline(int64_t timeout)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    if (timeout < 0)
        return t;
    int64_t ns = t.tv_nsec + timeout % 1000000 * 1000;
    t.tv_sec += timeout / 1000000 + ns / 1000000000;
    t.tv_nsec = ns % 1000000000;
    return t;
}

/* Under link.lock: takes the first frame; *tell is what was used when it is time to say it. */
static struct message *take_first(struct stream *s, struct window *tell)
{
    struct message *m = s->first;

    s->first = m->next;
    s->last = s->first ? s->last : NULL;
    if (m->kind == FRAME_END)
        return m;
    s->used.bytes += (int64_t)m->n;
    s->used.frames++;
    if (s->used.bytes < STREAM_WINDOW_BYTES / 4 && s->used.frames < STREAM_WINDOW_FRAMES / 4)
        return m;
    *tell = s->used;
    s->in.bytes += s->used.bytes;
    s->in.frames += s->used.frames;
    s->used = (struct window){ 0 };
    return m;
}

int stream_next(struct stream *s, int64_t timeout, struct message **out)
{
    struct timespec until = deadline(timeout);
    struct window tell = { 0 };
    struct message *m = NULL;
    struct err e;
    uint8_t used[WINDOW_BYTES];
    int r = 1;

    pthread_mutex_lock(&s->link->lock);
    while (!s->first && r == 1) {
        if (s->cancelled || s->link->broken)
            r = -1;
        else if (!wait_for(s, timeout, &until))
            r = 0;
    }
    if (s->first) {
        m = take_first(s, &tell);
        r = 1;
    }
    pthread_mutex_unlock(&s->link->lock);
    if (!m)
        return r;
    *out = m;
    if (tell.frames) {
        put32(used, (uint32_t)tell.bytes);
        put32(used + 4, (uint32_t)tell.frames);
        (void)link_send(s->link, FRAME_WINDOW, s->id,
                        (struct str){ (const char *)used, sizeof(used) }, &e);
    }
    return 1;
}

/* Nobody wants more of it: for who gives the order, its END is the answer. */
static bool stopped(const struct stream *s)
{
    return s->cancelled || s->link->broken || (s->ended && s->link->orderer);
}

static int send_when_open(struct stream *s, enum frame_kind kind, struct str body, int64_t timeout,
                          const struct timespec *until, struct err *e)
{
    bool late = false, stop;

    pthread_mutex_lock(&s->link->lock);
    while (!(stop = stopped(s)) && !is_open(&s->out) && !late)
        late = !wait_for(s, timeout, until);
    bool ok = !stop && is_open(&s->out);
    if (ok) {
        s->out.bytes -= (int64_t)body.n;
        s->out.frames--;
    }
    pthread_mutex_unlock(&s->link->lock);
    if (!ok)
        return err_set(e, ERR_ENGINE_UNAVAILABLE, "the other side stopped reading");
    return link_send(s->link, kind, s->id, body, e);
}

int stream_bytes(struct stream *s, struct str bytes, int64_t timeout, struct err *e)
{
    struct timespec until = deadline(timeout);

    do {
        size_t n = MIN(bytes.n, (size_t)PIECE_BYTES);
        TRY(send_when_open(s, FRAME_BYTES, (struct str){ bytes.p, n }, timeout, &until, e));
        bytes.p += n;
        bytes.n -= n;
    } while (bytes.n);
    return 0;
}

int stream_order(struct stream *s, const struct buf *json, struct err *e)
{
    if (json->failed)
        return err_set(e, ERR_TOO_LARGE, "an order is over %d bytes", FRAME_MAX);
    return link_send(s->link, FRAME_JSON, s->id, buf_str(json), e);
}

int stream_json(struct stream *s, const struct buf *json, struct err *e)
{
    static const struct timespec never;

    if (json->failed || json->n > FRAME_MAX)
        return err_set(e, ERR_TOO_LARGE, "an order or an answer is over %d bytes", FRAME_MAX);
    return send_when_open(s, FRAME_JSON, buf_str(json), -1, &never, e);
}

int stream_end(struct stream *s, const struct err *failure, struct err *e)
{
    struct buf b = BUF(KIB(8));
    struct json_out o = JSON_OUT(&b);

    json_open(&o, '{');
    if (failure) {
        json_key(&o, "error");
        json_open(&o, '{');
        json_kstr(&o, "code", err_wire(failure->code ? failure->code : ERR_INTERNAL));
        json_kstr(&o, "message", failure->msg);
        json_kstr(&o, "cause", failure->cause);
        json_close(&o);
    }
    json_close(&o);
    int r = link_send(s->link, FRAME_END, s->id, buf_str(&b), e);
    buf_free(&b);
    return r;
}

bool stream_cancelled(struct stream *s)
{
    pthread_mutex_lock(&s->link->lock);
    bool yes = s->cancelled || s->link->broken;
    pthread_mutex_unlock(&s->link->lock);
    return yes;
}
