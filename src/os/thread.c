/* SPDX-License-Identifier: Apache-2.0 */
/* One queue, one lock: jobs here are requests of many microseconds, so the lock is never the limit.
 * A thread is started when a job comes and none is idle, so that a pool costs what it has been used
 * for at most.  Who submits wakes one worker at most; each that finds more than its own job wakes
 * the next, so that a burst of short jobs is not a burst of wake-ups. */
#include "os/thread.h"

#include <sched.h>
#include <signal.h>

struct job {
    pool_fn *fn;
    void *ctx;
};

struct worker {
    struct pool *pool;
    pthread_t thread;
    void *state; /* what worker_new made */
};

struct pool {
    struct pool_opts opts;
    char name[11];
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct job *ring;
    size_t first, waiting;
    bool closing;
    struct worker *workers;
    int started, idle;
    bool waking; /* one has been woken and is not here yet */
};

struct start {
    char name[16];
    void *(*fn)(void *);
    void *arg;
};

static void *trampoline(void *p)
{
    struct start s = *(struct start *)p;

    free(p);
    pthread_setname_np(pthread_self(), s.name);
    return s.fn(s.arg);
}

pthread_t thread_start(const char *name, void *(*fn)(void *), void *arg)
{
    struct start *s = malloc(sizeof(*s));
    sigset_t all, was;
    pthread_t t;

    if (!s)
        abort();
    *s = (struct start){ .fn = fn, .arg = arg };
    memcpy(s->name, name, strnlen(name, sizeof(s->name) - 1));
    /* Blocked before it is born, so that no signal finds the new thread first. */
    sigfillset(&all);
    /* What the thread itself does wrong is not put off. */
    static const int own[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP };
    for (size_t i = 0; i < ARRAY_LEN(own); i++)
        sigdelset(&all, own[i]);
    pthread_sigmask(SIG_SETMASK, &all, &was);
    int rc = pthread_create(&t, NULL, trampoline, s);
    pthread_sigmask(SIG_SETMASK, &was, NULL);
    if (rc != 0)
        abort();
    return t;
}

void thread_gathers(void)
{
    sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){ 0 });
}

/* Under the lock. */
static void wake_one(struct pool *p)
{
    if (!p->idle || p->waking)
        return;
    p->waking = true;
    pthread_cond_signal(&p->more);
}

/* Under the lock, which it leaves for the while. */
static void rest(struct pool *p, void *state)
{
    if (p->waiting || !p->opts.worker_rest)
        return;
    pthread_mutex_unlock(&p->lock);
    p->opts.worker_rest(state);
    pthread_mutex_lock(&p->lock);
}

static bool take(struct pool *p, void *state, struct job *out)
{
    bool got = false;

    pthread_mutex_lock(&p->lock);
    rest(p, state);
    p->idle++;
    while (!p->waiting && !p->closing) {
        pthread_cond_wait(&p->more, &p->lock);
        p->waking = false;
    }
    p->idle--;
    if (p->waiting) {
        *out = p->ring[p->first];
        p->first = (p->first + 1) % p->opts.queue;
        p->waiting--;
        got = true;
    }
    if (p->waiting)
        wake_one(p);
    pthread_mutex_unlock(&p->lock);
    return got;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct job j;

    thread_gathers();
    if (w->pool->opts.worker_new)
        w->state = w->pool->opts.worker_new(w->pool->opts.arg);
    while (take(w->pool, w->state, &j))
        j.fn(j.ctx, w->state);
    if (w->pool->opts.worker_free && w->state)
        w->pool->opts.worker_free(w->state);
    return NULL;
}

struct pool *pool_new(const struct pool_opts *o, struct err *e)
{
    if (o->threads < 1 || o->threads > 1024 || o->queue < 1 || o->queue > 1 << 20) {
        err_set(e, ERR_INVALID, "a pool has 1 to 1024 threads and a queue of 1 to 1048576");
        return NULL;
    }
    struct pool *p = calloc(1, sizeof(*p));
    if (!p)
        abort();
    p->opts = *o;
    snprintf(p->name, sizeof(p->name), "%.10s", o->name);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->more, NULL);
    p->ring = calloc(o->queue, sizeof(*p->ring));
    p->workers = calloc((size_t)o->threads, sizeof(*p->workers));
    if (!p->ring || !p->workers)
        abort();
    return p;
}

/* Under the lock. */
static void one_more(struct pool *p)
{
    struct worker *w = &p->workers[p->started];
    char name[32];

    w->pool = p;
    snprintf(name, sizeof(name), "%s-%d", p->name, p->started++);
    w->thread = thread_start(name, work, w);
}

bool pool_submit(struct pool *p, pool_fn *fn, void *ctx)
{
    bool room;

    pthread_mutex_lock(&p->lock);
    room = !p->closing && p->waiting < p->opts.queue;
    if (room) {
        p->ring[(p->first + p->waiting) % p->opts.queue] = (struct job){ fn, ctx };
        p->waiting++;
        if (p->waiting > (size_t)p->idle && p->started < p->opts.threads)
            one_more(p);
        else
            wake_one(p);
    }
    pthread_mutex_unlock(&p->lock);
    return room;
}

void pool_free(struct pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->closing = true;
    pthread_cond_broadcast(&p->more);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->started; i++)
        pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->more);
    pthread_mutex_destroy(&p->lock);
    free(p->workers);
    free(p->ring);
    free(p);
}
