/* SPDX-License-Identifier: Apache-2.0 */
/* Hides when the edge is there.  What is wanted is a list; a thread brings the edge into line with
 * it, as often as the edge comes anew.  What the edge has from an agent before us is taken back as
 * a copy, after a look at it: the edge has fewer rights than we. */
#include "drivers/net/handover.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "codec/id.h"
#include "codec/json.h"
#include "os/ns.h"
#include "os/thread.h"
#include "os/unixsock.h"

enum { DROPS_MAX = 1024 };
static const int SOON_MS = 20, LATER_MS = 500, HOLDS_MS = 5000;

/* ---- messages */

static const struct enum_name verb_names[] = { { DOOR_HOLDS, "holds" },
                                               { DOOR_END, "end" },
                                               { DOOR_GIVE, "give" },
                                               { DOOR_DROP, "drop" },
                                               { 0 } };
/* clang-format off */
#define T struct door
static const struct field door_fields[] = {
    FIELD_ENUM(T, verb,    enum door_verb, 0, .names = verb_names, .doc = "What is said."),
    FIELD_UUID(T, vpc,     0, .doc = "Whose names are asked there."),
    FIELD_STR (T, address, 0, .doc = "Where they are asked."),
    FIELD_INT (T, netns,   0, .doc = "The namespace's inode."),
};
#undef T
/* clang-format on */
static const struct record door_record = RECORD(door, NULL, door_fields);

int door_send(int fd, const struct door *d, const int *fds, struct err *e)
{
    _cleanup_(buf_free) struct buf b = BUF(DOOR_TEXT);
    struct json_out o = JSON_OUT(&b);

    json_dump_row(&o, &door_record, d);
    if (json_done(&o) < 0)
        return err_set(e, ERR_TOO_LARGE, "a message to the edge is over %d bytes", DOOR_TEXT);
    return unix_send_fds(fd, b.p, b.n, fds, fds ? DOOR_FDS : 0, e);
}

static int read_door(struct arena *a, struct str text, size_t n_fds, struct door *out,
                     struct err *e)
{
    _cleanup_(json_freep) struct json_value *v = json_parse(text, e);
    struct ip ip;

    if (!v)
        return -1;
    TRY(json_load_row(a, &door_record, v, out, e));
    bool whole = out->verb == DOOR_END || !uuid_is_nil(&out->vpc);
    if (out->address)
        whole = whole && ip_parse(str_of(out->address), &ip) && ip.family == 4;
    else
        whole = whole && (out->verb == DOOR_END || out->verb == DOOR_DROP);
    if (!whole || n_fds != (out->verb == DOOR_GIVE || out->verb == DOOR_HOLDS ? DOOR_FDS : 0))
        return err_set(e, ERR_INVALID, "a message between agent and edge makes no sense");
    return 0;
}

int door_receive(int fd, struct arena *a, struct door *out, int fds[DOOR_FDS], struct err *e)
{
    char text[DOOR_TEXT];
    size_t n_fds;

    fds[0] = fds[1] = -1;
    ssize_t n = unix_recv_fds(fd, text, sizeof(text), fds, DOOR_FDS, &n_fds, e);
    if (n <= 0)
        return (int)n;
    if (read_door(a, (struct str){ text, (size_t)n }, n_fds, out, e) == 0)
        return 1;
    for (size_t i = 0; i < n_fds; i++)
        close(fds[i]);
    fds[0] = fds[1] = -1;
    return -1;
}

/* ---- what is wanted */

struct wanted {
    struct wanted *next;
    struct uuid vpc;
    struct ip addr;
    int ns_fd;
    int64_t netns;
    int fds[DOOR_FDS]; /* -1: not bound by us */
    bool given;        /* the edge has it */
};
struct drop {
    struct uuid vpc;
    bool all;
    struct ip addr;
};

struct handover {
    pthread_mutex_t lock;
    pthread_t thread;
    bool running, stop;
    char *path;
    int wake;
    struct wanted *wanted;
    struct drop drops[DROPS_MAX]; /* that the edge is to be told of */
    size_t n_drops;
    bool lost_count; /* there were more: the connection begins anew */
};

static void kick(struct handover *h)
{
    uint64_t one = 1;

    if (write(h->wake, &one, sizeof(one)) < 0 && errno != EAGAIN)
        abort();
}

static bool same_address(const struct ip *a, const struct ip *b)
{
    return memcmp(a->b, b->b, 4) == 0;
}

static void close_fds(int fds[DOOR_FDS])
{
    for (int i = 0; i < DOOR_FDS; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
        fds[i] = -1;
    }
}

static void wanted_free(struct wanted *w)
{
    close_fds(w->fds);
    close(w->ns_fd);
    free(w);
}

struct bind_call {
    const struct ip *addr;
    int fds[DOOR_FDS];
    bool taken;
};

static int bind_inside(void *ctx, struct err *e)
{
    static const int types[DOOR_FDS] = { SOCK_DGRAM, SOCK_STREAM };
    struct bind_call *c = ctx;
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(53) };
    int one = 1;

    memcpy(&sa.sin_addr, c->addr->b, 4);
    for (int i = 0; i < DOOR_FDS; i++) {
        c->fds[i] = socket(AF_INET, types[i] | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (c->fds[i] < 0)
            return err_sys(e, errno, "socket for DNS");
        if (types[i] == SOCK_STREAM)
            setsockopt(c->fds[i], SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        if (bind(c->fds[i], (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
            (types[i] == SOCK_STREAM && listen(c->fds[i], 16) < 0)) {
            c->taken = errno == EADDRINUSE;
            return err_sys(e, errno, "bind the DNS address of a VPC");
        }
    }
    return 0;
}

/* Under the lock.  An address that is taken is the edge's, from an agent before us. */
static int bind_wanted(struct wanted *w, struct err *e)
{
    struct bind_call c = { &w->addr, { -1, -1 }, false };

    if (w->fds[0] >= 0)
        return 0;
    if (ns_call(w->ns_fd, bind_inside, &c, e) < 0) {
        close_fds(c.fds);
        return c.taken ? 0 : -1;
    }
    memcpy(w->fds, c.fds, sizeof(w->fds));
    return 0;
}

static void want_no_more(struct handover *h, const struct uuid *vpc, const struct ip *addr)
{
    for (struct wanted **at = &h->wanted, *w; (w = *at);) {
        if (!uuid_eq(&w->vpc, vpc) || (addr && !same_address(addr, &w->addr))) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        wanted_free(w);
    }
    if (h->n_drops == DROPS_MAX) {
        h->lost_count = true;
        return;
    }
    h->drops[h->n_drops++] =
        (struct drop){ .vpc = *vpc, .all = !addr, .addr = addr ? *addr : (struct ip){ 0 } };
}

static struct wanted *find(struct handover *h, const struct uuid *vpc, const struct ip *addr)
{
    struct wanted *w = h->wanted;

    while (w && (!uuid_eq(&w->vpc, vpc) || !same_address(&w->addr, addr)))
        w = w->next;
    return w;
}

int handover_listen(struct handover *h, const struct uuid *vpc, int ns_fd, const struct ip *addr,
                    struct err *e)
{
    struct stat st;
    int r = 0;

    if (fstat(ns_fd, &st) < 0)
        return err_sys(e, errno, "look at a namespace");
    pthread_mutex_lock(&h->lock);
    struct wanted *w = find(h, vpc, addr);
    if (w && w->netns != (int64_t)st.st_ino) { /* the VPC was made anew */
        want_no_more(h, vpc, addr);
        w = NULL;
    }
    if (!w) {
        w = calloc(1, sizeof(*w));
        if (!w)
            abort();
        *w = (struct wanted){
            .vpc = *vpc, .addr = *addr, .netns = (int64_t)st.st_ino, .fds = { -1, -1 }
        };
        w->ns_fd = fcntl(ns_fd, F_DUPFD_CLOEXEC, 3);
        r = w->ns_fd < 0 ? err_sys(e, errno, "keep a namespace") : bind_wanted(w, e);
        if (r == 0) {
            w->next = h->wanted;
            h->wanted = w;
        } else {
            wanted_free(w);
        }
    }
    pthread_mutex_unlock(&h->lock);
    kick(h);
    return r;
}

void handover_unlisten(struct handover *h, const struct uuid *vpc, const struct ip *addr)
{
    pthread_mutex_lock(&h->lock);
    want_no_more(h, vpc, addr);
    pthread_mutex_unlock(&h->lock);
    kick(h);
}

/* ---- the edge */

/* Waits until something is to be done; true: the edge is gone ('fd' may be -1), or we are to end.
 */
static bool wait_for(struct handover *h, int fd, int timeout_ms)
{
    struct pollfd p[] = { { h->wake, POLLIN, 0 }, { fd, POLLIN | POLLRDHUP, 0 } };
    uint64_t some;

    if (poll(p, ARRAY_LEN(p), timeout_ms) < 0 && errno != EINTR)
        abort();
    if (p[0].revents && read(h->wake, &some, sizeof(some)) < 0 && errno != EAGAIN)
        abort();
    pthread_mutex_lock(&h->lock);
    bool over = h->stop || p[1].revents;
    pthread_mutex_unlock(&h->lock);
    return over;
}

static int socket_option(int fd, int option)
{
    socklen_t n = sizeof(int);
    int value = -1;

    return getsockopt(fd, SOL_SOCKET, option, &value, &n) == 0 ? value : -1;
}

/* Whether they are what we would have made: bound there, in that namespace. */
static bool are_ours(const int fds[DOOR_FDS], const struct ip *addr, int64_t netns)
{
    for (int i = 0; i < DOOR_FDS; i++) {
        struct sockaddr_in at = { 0 };
        socklen_t n = sizeof(at);
        struct stat st;

        if (socket_option(fds[i], SO_DOMAIN) != AF_INET ||
            socket_option(fds[i], SO_TYPE) != (i ? SOCK_STREAM : SOCK_DGRAM) ||
            socket_option(fds[i], SO_ACCEPTCONN) != i ||
            getsockname(fds[i], (struct sockaddr *)&at, &n) < 0 || at.sin_port != htons(53) ||
            memcmp(&at.sin_addr, addr->b, 4) != 0)
            return false;
        _cleanup_close_ int ns = ioctl(fds[i], SIOCGSKNS);
        if (ns < 0 || fstat(ns, &st) < 0 || (int64_t)st.st_ino != netns)
            return false;
    }
    return true;
}

/* What it holds is taken as given, or is to be dropped.  'fds' are taken or closed. */
static void compare(struct handover *h, const struct door *d, int fds[DOOR_FDS])
{
    struct ip addr;
    bool ours = ip_parse(str_of(d->address), &addr) && are_ours(fds, &addr, d->netns);

    pthread_mutex_lock(&h->lock);
    struct wanted *w = find(h, &d->vpc, &addr);
    if (w && ours && w->netns == d->netns) {
        w->given = true;
        for (int i = 0; i < DOOR_FDS && w->fds[DOOR_FDS - 1] < 0; i++)
            w->fds[i] = TAKE_FD(fds[i]);
    } else if (!w && h->n_drops < DROPS_MAX) {
        h->drops[h->n_drops++] = (struct drop){ .vpc = d->vpc, .addr = addr };
    }
    pthread_mutex_unlock(&h->lock);
    close_fds(fds);
}

/* Connects, and hears what the edge holds. */
static int meet(struct handover *h, struct err *e)
{
    _cleanup_close_ int fd = unix_connect(h->path, UNIX_SEQPACKET, e);
    struct pollfd p = { .fd = fd, .events = POLLIN };
    struct timeval patience = { .tv_sec = 5 };
    int fds[DOOR_FDS], r;
    struct door d;
    uid_t uid;
    pid_t pid;

    TRY(fd);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    /* Who listens there got the socket from root: the edge before it dropped its rights. */
    TRY(unix_peer(fd, &uid, &pid, e));
    if (uid != 0)
        return err_set(e, ERR_FORBIDDEN, "who listens at %s is not the edge", h->path);
    pthread_mutex_lock(&h->lock);
    h->n_drops = 0;
    h->lost_count = false;
    for (struct wanted *w = h->wanted; w; w = w->next)
        w->given = false;
    pthread_mutex_unlock(&h->lock);
    do {
        _cleanup_(arena_free) struct arena a = ARENA(KIB(16));
        if (poll(&p, 1, HOLDS_MS) != 1)
            return err_set(e, ERR_ENGINE_UNAVAILABLE, "the edge says nothing");
        r = door_receive(fd, &a, &d, fds, e);
        if (r == 0)
            return err_set(e, ERR_ENGINE_UNAVAILABLE, "the edge has gone");
        if (r == 1 && d.verb == DOOR_HOLDS)
            compare(h, &d, fds);
    } while (r == 1 && d.verb == DOOR_HOLDS);
    return r < 0 ? -1 : TAKE_FD(fd);
}

/* The next message that is due, taken off the list: 1; 0: none is.  '*fds' are copies. */
static int next_message(struct handover *h, struct door *d, char address[IP_TEXT],
                        int fds[DOOR_FDS], bool *unbound)
{
    struct err e;
    int r = 0;

    fds[0] = fds[1] = -1;
    *unbound = false;
    pthread_mutex_lock(&h->lock);
    if (h->n_drops) {
        struct drop *x = h->drops;
        *d = (struct door){ .verb = DOOR_DROP, .vpc = x->vpc, .address = x->all ? NULL : address };
        ip_format(&x->addr, address);
        memmove(x, x + 1, --h->n_drops * sizeof(*x));
        r = 1;
    }
    for (struct wanted *w = h->wanted; w && r == 0; w = w->next) {
        if (w->given)
            continue;
        if (bind_wanted(w, &e) < 0)
            log_err(LOG_WARN, "names_not_bound", &e);
        if (w->fds[0] < 0) {
            *unbound = true;
            continue;
        }
        for (int i = 0; i < DOOR_FDS; i++)
            fds[i] = fcntl(w->fds[i], F_DUPFD_CLOEXEC, 3);
        *d = (struct door){
            .verb = DOOR_GIVE, .vpc = w->vpc, .address = address, .netns = w->netns
        };
        ip_format(&w->addr, address);
        w->given = true;
        r = 1;
    }
    pthread_mutex_unlock(&h->lock);
    return r;
}

/* Says all that is due; *unbound: something cannot be bound yet. */
static int say_all(struct handover *h, int fd, bool *unbound, struct err *e)
{
    char address[IP_TEXT];
    int fds[DOOR_FDS], r = 0;
    struct door d;

    while (r == 0 && next_message(h, &d, address, fds, unbound) == 1) {
        r = door_send(fd, &d, d.verb == DOOR_GIVE ? fds : NULL, e);
        close_fds(fds);
    }
    return r;
}

/* Until it is gone. */
static int stay(struct handover *h, int fd, struct err *e)
{
    bool unbound, over = false;

    while (!over) {
        TRY(say_all(h, fd, &unbound, e));
        pthread_mutex_lock(&h->lock);
        over = h->lost_count;
        pthread_mutex_unlock(&h->lock);
        over = over || wait_for(h, fd, unbound ? LATER_MS / 5 : -1);
    }
    return 0;
}

static void *run(void *arg)
{
    struct handover *h = arg;
    bool told = false;
    int pause = 0;

    for (;;) {
        struct err e = { 0 };
        int fd = meet(h, &e);

        if (fd >= 0) {
            pause = 0;
            told = false;
            if (stay(h, fd, &e) < 0)
                log_err(LOG_INFO, "edge_lost", &e);
            close(fd);
        } else if (e.code != ERR_ENGINE_UNAVAILABLE && !told) {
            log_err(LOG_ERROR, "edge_not_met", &e);
            told = true;
        }
        pause = pause ? MIN(pause * 2, LATER_MS) : SOON_MS;
        int64_t until = clock_mono(clock_system()) + MILLIS(pause), left;
        bool stop = wait_for(h, -1, 0);
        while (!stop && (left = until - clock_mono(clock_system())) > 0)
            stop = wait_for(h, -1, (int)(left / 1000 + 1));
        if (stop)
            return NULL;
    }
}

/* ---- its life */

struct handover *handover_new(const char *socket_path)
{
    struct handover *h = calloc(1, sizeof(*h));

    if (!h)
        abort();
    pthread_mutex_init(&h->lock, NULL);
    h->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (h->wake < 0)
        abort();
    h->path = socket_path ? strdup(socket_path) : NULL;
    if (socket_path && !h->path)
        abort();
    return h;
}

void handover_begin(struct handover *h)
{
    if (!h->path || h->running)
        return;
    h->running = true;
    h->thread = thread_start("edge-link", run, h);
}

void handover_free(struct handover *h)
{
    if (!h)
        return;
    pthread_mutex_lock(&h->lock);
    h->stop = true;
    pthread_mutex_unlock(&h->lock);
    kick(h);
    if (h->running)
        pthread_join(h->thread, NULL);
    for (struct wanted *w = h->wanted, *next; w; w = next) {
        next = w->next;
        wanted_free(w);
    }
    close(h->wake);
    pthread_mutex_destroy(&h->lock);
    free(h->path);
    free(h);
}
