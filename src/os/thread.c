/* SPDX-License-Identifier: Apache-2.0 */
/* One queue, one lock: jobs here are requests of many microseconds, so the lock is never the limit.
 * A thread is started when a job comes and none is idle, so that a pool costs what it has been used
 * for at most.  Who submits wakes one worker at most; each that finds more than its own job wakes
 * the next, so that a burst of short jobs is not a burst of wake-ups. */
#include "os/thread.h"

#include <sched.h>
#include <signal.h>

struct job {
    struct fair_job turn; /* first */
    pool_fn *fn;
    void *ctx;
};

enum { BLOCK = 64 };
struct block {
    struct block *next;
    struct job jobs[BLOCK];
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
    struct fair *fair;
    struct block *blocks; /* places of jobs */
    struct job *spare;    /* those that are free, by turn.next */
    size_t waiting;
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

static void *work(void *arg);

/* Under the lock. */
static void one_more(struct pool *p)
{
    struct worker *w = &p->workers[p->started];
    char name[32];

    w->pool = p;
    snprintf(name, sizeof(name), "%s-%d", p->name, p->started++);
    w->thread = thread_start(name, work, w);
}

/* Under the lock: somebody for the next job, if it may begin.  At the end those that are there do
 * what is left, for they are being joined. */
static void call_hands(struct pool *p)
{
    if (!fair_ready(p->fair))
        return;
    if (p->waiting > (size_t)p->idle && p->started < p->opts.threads && !p->closing)
        one_more(p);
    else
        wake_one(p);
}

/* Under the lock, which it leaves for the while. */
static void rest(struct pool *p, void *state)
{
    if (fair_ready(p->fair) || !p->opts.worker_rest)
        return;
    pthread_mutex_unlock(&p->lock);
    p->opts.worker_rest(state);
    pthread_mutex_lock(&p->lock);
}

/* Under the lock: the next job, whose place is free again. */
static bool next_job(struct pool *p, struct job *out)
{
    struct job *j = (struct job *)fair_next(p->fair);

    if (!j)
        return false;
    *out = *j;
    j->turn.next = (struct fair_job *)p->spare;
    p->spare = j;
    p->waiting--;
    return true;
}

/* 'job' is the one that is done, if any, and gets the next. */
static bool take(struct pool *p, void *state, struct job *job)
{
    bool got;

    pthread_mutex_lock(&p->lock);
    if (job->fn)
        fair_give(p->fair, job->turn.flow.key, 1);
    rest(p, state);
    p->idle++;
    while (!(got = next_job(p, job)) && !(p->closing && !p->waiting)) {
        pthread_cond_wait(&p->more, &p->lock);
        p->waking = false;
    }
    p->idle--;
    if (got)
        call_hands(p);
    if (p->closing && !p->waiting)
        pthread_cond_broadcast(&p->more);
    pthread_mutex_unlock(&p->lock);
    return got;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct job j = { .fn = NULL };

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
    p->fair = fair_new(o->threads, (int64_t)o->queue);
    p->workers = calloc((size_t)o->threads, sizeof(*p->workers));
    if (!p->workers)
        abort();
    return p;
}

/* Under the lock.  Places are made as they are needed, a block at a time. */
static struct job *place(struct pool *p)
{
    struct job *j = p->spare;

    if (j) {
        p->spare = (struct job *)j->turn.next;
        return j;
    }
    struct block *b = calloc(1, sizeof(*b));
    if (!b)
        abort();
    b->next = p->blocks;
    p->blocks = b;
    for (size_t i = 1; i < BLOCK; i++) {
        b->jobs[i].turn.next = (struct fair_job *)p->spare;
        p->spare = &b->jobs[i];
    }
    return &b->jobs[0];
}

enum fair_result pool_submit_for(struct pool *p, const struct flow *flow, pool_fn *fn, void *ctx)
{
    enum fair_result got = FAIR_FULL;

    pthread_mutex_lock(&p->lock);
    if (!p->closing) {
        struct job *j = place(p);

        *j = (struct job){ .turn = { .flow = *flow }, .fn = fn, .ctx = ctx };
        got = fair_wait(p->fair, &j->turn);
        if (got != FAIR_OK) {
            j->turn.next = (struct fair_job *)p->spare;
            p->spare = j;
        }
    }
    if (got == FAIR_OK) {
        p->waiting++;
        call_hands(p);
    }
    pthread_mutex_unlock(&p->lock);
    return got;
}

bool pool_submit(struct pool *p, pool_fn *fn, void *ctx)
{
    return pool_submit_for(p, &(struct flow){ .key = FLOW_SYSTEM }, fn, ctx) == FAIR_OK;
}

void pool_counts(struct pool *p, struct fair_counts *out)
{
    pthread_mutex_lock(&p->lock);
    fair_counts(p->fair, out);
    pthread_mutex_unlock(&p->lock);
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
    while (p->blocks) {
        struct block *b = p->blocks;

        p->blocks = b->next;
        free(b);
    }
    fair_free(p->fair);
    free(p->workers);
    free(p);
}
