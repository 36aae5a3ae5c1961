/* SPDX-License-Identifier: Apache-2.0 */
/* One thread and one multi handle of libcurl.  Who sends leaves a request in the inbox, under the
 * lock; from there on it is the thread's: it waits for its turn at its host, for the addresses of
 * the name, then for curl.  Names are looked up by a pool of threads that know a request by its id
 * alone, for it may have ended meanwhile; curl's own look-ups hold up all that its thread does when
 * one of them is given up. */
#include "http/outgoing_impl.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "base/metric.h"
#include "os/address.h"
#include "os/thread.h"

/* KEPT: connections of one flow; RESTING: flows that keep some and have nothing in hand. */
enum { KEPT = 128, RESTING = 16, ROUND_MS = 50, REST_MS = 5000 };
#define REST SECONDS(60)

struct host;
struct sender;
enum step { WAITING, RESOLVING, RUNNING };
struct job {
    struct fair_job turn; /* at its host; first */
    struct transfer t;
    uint64_t id;
    struct flow flow;
    int64_t bytes, until, begun;
    int64_t latest; /* that its turn may come: with less time it would only seem to be too slow */
    outgoing_done *done;
    void *ctx;
    bool cancelled;          /* under the lock */
    struct job *next, *prev; /* 'next' also in the inbox */
    enum step step;
    struct host *host;
    struct sender *sender; /* while RUNNING */
};

/* What goes to one name or address and port. */
struct host {
    struct fair *fair;
    int jobs;
    bool stirred; /* in the list */
    struct host *next;
    size_t key_n;
    char key[OUTGOING_NAME + 8];
};

/* A flow's own connections. */
struct sender {
    uint64_t key;
    CURLSH *share;
    int running;
    int64_t rested; /* when the last one ended */
};

struct lookup {
    struct lookup *next;
    struct house *house;
    uint64_t id;
    int n;
    struct ip found[OUTGOING_ADDRESSES];
    char name[OUTGOING_NAME];
};

struct house {
    struct outgoing face; /* first */
    struct outgoing_opts opts;
    struct outgoing_rules rules;
    pthread_mutex_t lock; /* around what follows */
    struct fair *hand, *bytes;
    struct map *by_id;
    uint64_t last_id;
    struct job *inbox, **inbox_end;
    struct lookup *looked;
    bool started, closing, cancels;
    /* From the start on. */
    CURLM *multi;
    int epoll, waker; /* the sockets that curl waits for; an eventfd among them */
    struct pool *pool;
    pthread_t thread;
    /* The thread's. */
    struct job *all;
    int idle; /* those of 'all' that curl does not watch */
    struct map *hosts, *senders;
    struct host *stirred;
    int64_t round;
    int64_t timer; /* when curl wants to look by itself */
};

static int64_t now(void)
{
    return clock_mono(clock_system());
}

static void wake(struct house *o)
{
    uint64_t one = 1;

    if (write(o->waker, &one, sizeof(one)) < 0 && errno != EAGAIN)
        abort();
}

/* ---- metrics: nothing of whose a request is, or where it leads */

static struct metric requests_total =
    METRIC(METRIC_COUNTER, "brume_http_outgoing_requests_total",
           "Requests to URLs of tenants that came to an end, by how and by the answer's class.");
static struct metric refused_total =
    METRIC(METRIC_COUNTER, "brume_http_outgoing_refused_total",
           "Requests to URLs of tenants that were not taken: wrong, or over a share.");
static struct metric in_hand =
    METRIC(METRIC_GAUGE, "brume_http_outgoing_in_hand", "Requests to URLs of tenants under way.");
static struct metric seconds =
    METRIC(METRIC_HISTOGRAM, "brume_http_outgoing_seconds",
           "From a request's turn to the end of its answer, whatever that was.");

static void count_end(const struct outgoing_result *r)
{
    char labels[60], status[8] = "";

    if (r->status)
        snprintf(status, sizeof(status), "%dxx", r->status / 100 % 10);
    snprintf(labels, sizeof(labels), "end=\"%s\",status=\"%s\"", outgoing_word(r->end), status);
    metric_cell_add(&requests_total, metric_labels(&requests_total, labels), 1);
    metric_add(&in_hand, -1);
    if (r->duration)
        metric_time(&seconds, r->duration);
}

/* ---- connections of a flow */

static struct sender *sender_take(struct house *o, uint64_t key)
{
    struct sender *s = map_get(o->senders, &key, sizeof(key));

    if (!s) {
        s = calloc(1, sizeof(*s));
        if (!s || !(s->share = curl_share_init()))
            abort();
        s->key = key;
        curl_share_setopt(s->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_CONNECT);
        map_set(o->senders, &key, sizeof(key), s);
    }
    s->running++;
    return s;
}

static void sender_end(struct house *o, struct sender *s)
{
    map_del(o->senders, &s->key, sizeof(s->key));
    curl_share_cleanup(s->share);
    free(s);
}

/* Ends those that rest since 'before', and those that rest longest when there are too many. */
static void senders_sweep(struct house *o, int64_t before)
{
    struct sender *oldest;
    const void *key;
    size_t resting, n;
    void *value;

    do {
        size_t at = 0;

        oldest = NULL;
        resting = 0;
        while (map_next(o->senders, &at, &key, &n, &value)) {
            struct sender *s = value;

            if (s->running)
                continue;
            if (s->rested <= before) {
                sender_end(o, s);
                continue;
            }
            resting++;
            if (!oldest || s->rested < oldest->rested)
                oldest = s;
        }
        if (resting > RESTING)
            sender_end(o, oldest);
    } while (resting > RESTING);
}

/* ---- hosts */

static void host_stir(struct house *o, struct host *h)
{
    if (h->stirred)
        return;
    h->stirred = true;
    h->next = o->stirred;
    o->stirred = h;
}

static struct host *host_of(struct house *o, const struct outgoing_place *at)
{
    char key[sizeof(((struct host *)NULL)->key)];
    size_t n = (size_t)snprintf(key, sizeof(key), "%s:%d", at->host, at->port);
    struct host *h = map_get(o->hosts, key, n);

    if (!h) {
        if (!(h = calloc(1, sizeof(*h))))
            abort();
        memcpy(h->key, key, n + 1);
        h->key_n = n;
        h->fair = fair_new(o->opts.per_host, INT32_MAX);
        map_set(o->hosts, key, n, h);
    }
    return h;
}

/* ---- the end of a request */

static void forget(struct house *o, struct job *j)
{
    pthread_mutex_lock(&o->lock);
    map_del(o->by_id, &j->id, sizeof(j->id));
    fair_give(o->hand, j->flow.key, 1);
    fair_give(o->bytes, j->flow.key, j->bytes);
    pthread_mutex_unlock(&o->lock);
}

/* 'r' says what came of it. */
static void end(struct house *o, struct job *j, struct outgoing_result *r)
{
    struct host *h = j->host;

    r->duration = j->begun ? MAX(now() - j->begun, 1) : 0;
    if (j->next)
        j->next->prev = j->prev;
    if (j->prev)
        j->prev->next = j->next;
    else
        o->all = j->next;
    if (j->step == WAITING)
        fair_drop(h->fair, &j->turn);
    else
        fair_give(h->fair, j->flow.key, 1);
    h->jobs--;
    host_stir(o, h);
    if (j->step != RUNNING) {
        o->idle--;
    } else {
        curl_multi_remove_handle(o->multi, j->t.easy);
        curl_easy_cleanup(j->t.easy);
        j->t.easy = NULL;
        j->sender->running--;
        j->sender->rested = now();
    }
    forget(o, j);
    count_end(r);
    j->done(j->ctx, j->id, r);
    transfer_free(&j->t);
    free(j);
}

#define END(o, j, how, ...)                                \
    do {                                                   \
        struct outgoing_result r_ = { .retry_after = -1 }; \
        outgoing_say(&r_, how, __VA_ARGS__);               \
        end(o, j, &r_);                                    \
    } while (0)

/* ---- the way of a request */

static void run(struct house *o, struct job *j, const struct ip *to, int n)
{
    j->sender = sender_take(o, j->flow.key);
    transfer_begin(&j->t, j->sender->share, to, n, j->until - now());
    curl_easy_setopt(j->t.easy, CURLOPT_PRIVATE, j);
    j->step = RUNNING;
    o->idle--;
    if (curl_multi_add_handle(o->multi, j->t.easy) != CURLM_OK)
        abort();
}

static int resolve(void *ctx _unused_, const char *name, struct ip *out, int max)
{
    return ip_resolve(name, out, max);
}

/* On a thread of the pool. */
static void look_up(void *ctx, void *worker _unused_)
{
    struct lookup *l = ctx;
    struct house *o = l->house;

    pthread_mutex_lock(&o->lock);
    bool wanted = !o->closing && map_get(o->by_id, &l->id, sizeof(l->id));
    pthread_mutex_unlock(&o->lock);
    if (wanted)
        l->n = o->opts.resolve(o->opts.resolve_ctx, l->name, l->found, OUTGOING_ADDRESSES);
    pthread_mutex_lock(&o->lock);
    l->next = o->looked;
    o->looked = l;
    pthread_mutex_unlock(&o->lock);
    wake(o);
}

/* Its turn has come. */
static void begin(struct house *o, struct job *j)
{
    int64_t at = now();

    j->step = RESOLVING;
    if (j->latest <= at) {
        END(o, j, OUTGOING_CROWDED, "too many requests to this host were before it");
        return;
    }
    j->begun = at;
    if (j->t.at.ip.family) {
        run(o, j, NULL, 0);
        return;
    }
    struct lookup *l = calloc(1, sizeof(*l));
    if (!l)
        abort();
    l->house = o;
    l->id = j->id;
    memcpy(l->name, j->t.at.host, sizeof(l->name));
    struct flow flow = { .key = j->flow.key };
    if (pool_submit_for(o->pool, &flow, look_up, l) != FAIR_OK) {
        free(l);
        END(o, j, OUTGOING_CROWDED, "too many names are being looked up");
    }
}

static void stir(struct house *o)
{
    while (o->stirred) {
        struct host *h = o->stirred;
        struct fair_job *turn;

        while ((turn = fair_next(h->fair)))
            begin(o, (struct job *)(void *)turn);
        o->stirred = h->next;
        h->stirred = false;
        if (h->jobs == 0) {
            map_del(o->hosts, h->key, h->key_n);
            fair_free(h->fair);
            free(h);
        }
    }
}

static void arrive(struct house *o, struct job *j)
{
    j->prev = NULL;
    j->next = o->all;
    if (o->all)
        o->all->prev = j;
    o->all = j;
    o->idle++;
    j->host = host_of(o, &j->t.at);
    j->host->jobs++;
    j->turn.flow = (struct flow){ .key = j->flow.key, .weight = j->flow.weight };
    host_stir(o, j->host);
    if (fair_wait(j->host->fair, &j->turn) != FAIR_OK)
        abort(); /* there are more places than requests */
}

static void looked_up(struct house *o, const struct lookup *l)
{
    pthread_mutex_lock(&o->lock);
    struct job *j = map_get(o->by_id, &l->id, sizeof(l->id));
    pthread_mutex_unlock(&o->lock);

    if (!j)
        return;
    if (l->n <= 0)
        END(o, j, OUTGOING_NO_NAME, "there is no address for %.100s", l->name);
    else
        run(o, j, l->found, l->n);
}

/* ---- the thread */

/* curl says what it waits for at a socket, so that no round looks at those where nothing happens.
 */
static int on_socket(CURL *easy _unused_, curl_socket_t s, int what, void *ctx, void *own _unused_)
{
    struct house *o = ctx;
    struct epoll_event ev = { .data.fd = s };

    if (what == CURL_POLL_REMOVE) {
        (void)epoll_ctl(o->epoll, EPOLL_CTL_DEL, s, NULL); /* closed ones have gone already */
        return 0;
    }
    ev.events = (what & CURL_POLL_IN ? EPOLLIN : 0U) | (what & CURL_POLL_OUT ? EPOLLOUT : 0U);
    if (epoll_ctl(o->epoll, EPOLL_CTL_MOD, s, &ev) == 0)
        return 0;
    return errno == ENOENT && epoll_ctl(o->epoll, EPOLL_CTL_ADD, s, &ev) == 0 ? 0 : -1;
}

static int on_timer(CURLM *multi _unused_, long ms, void *ctx)
{
    struct house *o = ctx;

    o->timer = ms < 0 ? INT64_MAX : now() + MILLIS(ms);
    return 0;
}

/* Waits no longer than 'ms', then lets curl do what it can. */
static void drive(struct house *o, int ms)
{
    struct epoll_event events[64];
    int64_t left_to = o->timer - now();
    uint64_t drain;
    int left;

    if (left_to < MILLIS(ms))
        ms = left_to > 0 ? (int)((left_to + 999) / 1000) : 0;
    int n = epoll_wait(o->epoll, events, ARRAY_LEN(events), ms);
    for (int i = 0; i < n; i++) {
        int fd = events[i].data.fd;
        unsigned e = events[i].events;
        int what = (e & EPOLLIN ? CURL_CSELECT_IN : 0) | (e & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                   (e & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);

        if (fd == o->waker)
            (void)!read(fd, &drain, sizeof(drain));
        else
            curl_multi_socket_action(o->multi, fd, what, &left);
    }
    if (o->timer <= now()) {
        o->timer = INT64_MAX;
        curl_multi_socket_action(o->multi, CURL_SOCKET_TIMEOUT, 0, &left);
    }
}

static void ended(struct house *o)
{
    struct outgoing_result r;
    struct job *j;
    CURLMsg *m;
    int left;

    while ((m = curl_multi_info_read(o->multi, &left))) {
        CURLcode rc = m->data.result;

        if (m->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &j);
        r = (struct outgoing_result){ .retry_after = -1 };
        transfer_end(&j->t, rc, &r);
        end(o, j, &r);
    }
}

static void end_cancelled(struct house *o, bool all)
{
    for (struct job *j = o->all, *next; j; j = next) {
        next = j->next;
        pthread_mutex_lock(&o->lock);
        bool it = all || j->cancelled;
        pthread_mutex_unlock(&o->lock);
        if (it)
            END(o, j, OUTGOING_CANCELLED, "the request was cancelled");
    }
}

/* curl watches over those that run. */
static void end_overdue(struct house *o)
{
    int64_t at = now();

    if (at - o->round < MILLIS(ROUND_MS))
        return;
    o->round = at;
    for (struct job *j = o->all, *next; j; j = next) {
        next = j->next;
        if (j->step == WAITING && j->latest <= at)
            END(o, j, OUTGOING_CROWDED, "too many requests to this host were before it");
        else if (j->step == RESOLVING && j->until <= at)
            END(o, j, OUTGOING_TIMED_OUT, "the name was not resolved in time");
    }
    senders_sweep(o, at - REST);
}

/* False when all is to end. */
static bool take_in(struct house *o)
{
    pthread_mutex_lock(&o->lock);
    struct job *j = TAKE(o->inbox);
    struct lookup *l = TAKE(o->looked);
    bool cancels = o->cancels, closing = o->closing;
    o->inbox_end = &o->inbox;
    o->cancels = false;
    pthread_mutex_unlock(&o->lock);

    for (struct job *next; j; j = next) {
        next = j->next;
        arrive(o, j);
    }
    if (cancels || closing)
        end_cancelled(o, closing);
    for (struct lookup *next; l; l = next) {
        next = l->next;
        looked_up(o, l);
        free(l);
    }
    return !closing;
}

static void *work(void *arg)
{
    struct house *o = arg;

    while (take_in(o)) {
        stir(o);
        drive(o, o->stirred ? 0 : o->idle ? ROUND_MS : REST_MS);
        ended(o);
        end_overdue(o);
    }
    stir(o);
    return NULL;
}

/* ---- what others see */

static int watch_open(struct house *o, struct err *e)
{
    struct epoll_event ev = { .events = EPOLLIN };

    o->timer = INT64_MAX;
    o->epoll = epoll_create1(EPOLL_CLOEXEC);
    o->waker = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ev.data.fd = o->waker;
    if (o->epoll >= 0 && o->waker >= 0 && epoll_ctl(o->epoll, EPOLL_CTL_ADD, o->waker, &ev) == 0)
        return 0;
    err_sys(e, errno, "epoll");
    close(o->epoll);
    close(o->waker);
    return -1;
}

static int start(struct house *o, struct err *e)
{
    struct pool_opts p = { .name = "look-up",
                           .threads = o->opts.lookups,
                           .queue = (size_t)o->opts.most };

    if (o->started)
        return 0;
    if (!o->pool && !(o->pool = pool_new(&p, e)))
        return -1;
    TRY(watch_open(o, e));
    o->multi = curl_multi_init();
    if (!o->multi)
        abort();
    curl_multi_setopt(o->multi, CURLMOPT_MAXCONNECTS, (long)KEPT);
    curl_multi_setopt(o->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(o->multi, CURLMOPT_SOCKETDATA, o);
    curl_multi_setopt(o->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(o->multi, CURLMOPT_TIMERDATA, o);
    o->thread = thread_start("outgoing", work, o);
    o->started = true;
    return 0;
}

static enum fair_result take_room(struct house *o, struct job *j)
{
    struct flow bytes = { .key = j->flow.key };
    enum fair_result got = fair_take(o->hand, &j->flow, 1);

    if (got != FAIR_OK)
        return got;
    got = fair_take(o->bytes, &bytes, j->bytes);
    if (got != FAIR_OK)
        fair_give(o->hand, j->flow.key, 1);
    return got;
}

static int admit(struct house *o, struct job *j, struct err *e)
{
    if (o->closing)
        return err_set(e, ERR_OVERLOADED, "no more requests are sent: this process ends");
    TRY(start(o, e));
    switch (take_room(o, j)) {
    case FAIR_OK:
        break;
    case FAIR_OWN:
        return err_set(e, ERR_RATE_LIMITED, "as many requests as may be are under way already");
    default:
        return err_set(e, ERR_OVERLOADED, "too many requests are under way");
    }
    j->id = ++o->last_id;
    map_set(o->by_id, &j->id, sizeof(j->id), j);
    *o->inbox_end = j;
    o->inbox_end = &j->next;
    return 0;
}

static uint64_t send_one(struct outgoing *face, const struct outgoing_request *q,
                         outgoing_done *done, void *ctx, struct err *e)
{
    struct house *o = (struct house *)(void *)face;
    struct job *j = calloc(1, sizeof(*j));
    uint64_t id = 0;

    if (!j)
        abort();
    if (transfer_read(&j->t, q, &o->rules, e) == 0) {
        j->flow = q->flow;
        j->flow.seats = q->flow.seats ? q->flow.seats : o->opts.own;
        j->bytes = (int64_t)(j->t.body_n + j->t.keep);
        int64_t whole = q->timeout ? q->timeout : SECONDS(10);
        j->until = now() + whole;
        j->latest = j->until - MIN(whole / 2, SECONDS(1));
        j->done = done;
        j->ctx = ctx;
        pthread_mutex_lock(&o->lock);
        if (admit(o, j, e) == 0)
            id = j->id;
        pthread_mutex_unlock(&o->lock);
    }
    metric_add(id ? &in_hand : &refused_total, 1);
    if (!id) {
        transfer_free(&j->t);
        free(j);
        return 0;
    }
    wake(o);
    return id;
}

static bool cancel_one(struct outgoing *face, uint64_t id)
{
    struct house *o = (struct house *)(void *)face;

    pthread_mutex_lock(&o->lock);
    struct job *j = map_get(o->by_id, &id, sizeof(id));
    bool fresh = j && !j->cancelled;
    if (fresh)
        j->cancelled = o->cancels = true;
    pthread_mutex_unlock(&o->lock);
    if (fresh)
        wake(o);
    return fresh;
}

static void free_all(struct outgoing *face)
{
    struct house *o = (struct house *)(void *)face;

    pthread_mutex_lock(&o->lock);
    o->closing = true;
    bool started = o->started;
    pthread_mutex_unlock(&o->lock);
    if (started) {
        wake(o);
        pthread_join(o->thread, NULL);
        pool_free(o->pool);
        senders_sweep(o, INT64_MAX);
        curl_multi_cleanup(o->multi);
        close(o->epoll);
        close(o->waker);
    }
    for (struct lookup *l = o->looked, *next; l; l = next) {
        next = l->next;
        free(l);
    }
    map_free(o->senders);
    map_free(o->hosts);
    map_free(o->by_id);
    fair_free(o->bytes);
    fair_free(o->hand);
    pthread_mutex_destroy(&o->lock);
    free(o->rules.allowed);
    free(o);
}

struct outgoing *outgoing_new(const struct outgoing_opts *opts)
{
    static const struct outgoing_ops ops = { send_one, cancel_one, free_all };
    struct house *o = calloc(1, sizeof(*o));

    if (!o)
        abort();
    o->face.ops = &ops;
    o->opts = *opts;
    o->opts.most = opts->most ? opts->most : 1024;
    o->opts.own = opts->own ? opts->own : 128;
    o->opts.per_host = opts->per_host ? opts->per_host : 16;
    o->opts.lookups = opts->lookups ? opts->lookups : 32;
    o->opts.resolve = opts->resolve ? opts->resolve : resolve;
    o->rules.ca_file = opts->ca_file;
    o->rules.user_agent = opts->user_agent ? opts->user_agent : "brume/" BRUME_VERSION;
    o->rules.n_allowed = opts->n_allowed;
    o->rules.allowed = calloc(opts->n_allowed + 1, sizeof(struct cidr));
    if (!o->rules.allowed)
        abort();
    if (opts->n_allowed)
        memcpy(o->rules.allowed, opts->allowed, opts->n_allowed * sizeof(struct cidr));
    pthread_mutex_init(&o->lock, NULL);
    o->hand = fair_new(o->opts.most, 1);
    o->bytes = fair_new(opts->bytes ? opts->bytes : (int64_t)MIB(64), 1);
    o->by_id = map_new();
    o->hosts = map_new();
    o->senders = map_new();
    o->inbox_end = &o->inbox;
    return &o->face;
}
