/* SPDX-License-Identifier: Apache-2.0 */
#include "http/outgoing_fake.h"

#include <time.h>

#include "base/clock.h"
#include "http/outgoing_impl.h"
#include "os/thread.h"

enum { MOST_SEEN = 100000, MOST_LINES = 256 };

struct pending {
    struct pending *next;
    uint64_t id;
    outgoing_done *done;
    void *ctx;
    bool cancelled;
    const struct outgoing_script *line; /* NULL: none fits */
    int64_t due;
};

struct fake {
    struct outgoing face; /* first */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    struct arena memory;
    struct outgoing_script lines[MOST_LINES];
    int used[MOST_LINES];
    size_t n_lines;
    struct outgoing_seen *seen[MOST_SEEN];
    size_t n_seen;
    uint64_t last_id;
    struct pending *first, **last;
    bool started, held, closing, forgets;
};

static struct fake *fake_of(struct outgoing *face)
{
    return (struct fake *)(void *)face;
}

static int64_t now(void)
{
    return clock_mono(clock_system());
}

/* ---- the thread */

/* The first that may end now; else when to look again. */
static struct pending *take_due(struct fake *f, int64_t *again)
{
    *again = now() + HOURS(1);
    for (struct pending **at = &f->first; *at; at = &(*at)->next) {
        struct pending *p = *at;

        if (!f->closing && !p->cancelled && (f->held || p->due > now())) {
            if (!f->held)
                *again = MIN(*again, p->due);
            continue;
        }
        *at = p->next;
        if (!*at)
            f->last = at;
        p->cancelled = p->cancelled || f->closing;
        return p;
    }
    return NULL;
}

static void answer(struct pending *p)
{
    struct outgoing_result r = { .status = 200, .retry_after = -1, .address = "192.0.2.1" };

    if (p->cancelled) {
        r = (struct outgoing_result){ .retry_after = -1 };
        outgoing_say(&r, OUTGOING_CANCELLED, "the request was cancelled");
    } else if (p->line) {
        r = p->line->result;
        if (r.end != OUTGOING_ANSWERED && !r.err.code)
            outgoing_say(&r, r.end, "the script says so");
    }
    r.duration = MAX(r.duration, 1);
    p->done(p->ctx, p->id, &r);
    free(p);
}

static void *work(void *arg)
{
    struct fake *f = arg;
    struct pending *p;
    int64_t again;

    pthread_mutex_lock(&f->lock);
    for (;;) {
        if ((p = take_due(f, &again))) {
            pthread_mutex_unlock(&f->lock);
            answer(p);
            pthread_mutex_lock(&f->lock);
            continue;
        }
        if (f->closing)
            break;
        struct timespec ts = { again / 1000000, again % 1000000 * 1000 };
        pthread_cond_clockwait(&f->changed, &f->lock, CLOCK_MONOTONIC, &ts);
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

/* ---- requests */

static void copy(struct arena *a, uint64_t id, const struct outgoing_request *q,
                 struct outgoing_seen *out)
{
    struct client_header *headers = arena_new_n(a, struct client_header, q->n_headers);

    for (size_t i = 0; i < q->n_headers; i++) {
        headers[i].name = arena_strdup(a, q->headers[i].name);
        headers[i].value = arena_strdup(a, q->headers[i].value);
    }
    *out = (struct outgoing_seen){
        .id = id,
        .flow = q->flow.key,
        .method = arena_strdup(a, q->method),
        .url = arena_strdup(a, q->url),
        .headers = headers,
        .n_headers = q->n_headers,
        .body = { q->body.n ? arena_dup(a, q->body.p, q->body.n) : "", q->body.n },
        .timeout = q->timeout,
    };
}

static const struct outgoing_script *line_for(struct fake *f, const char *url)
{
    for (size_t i = 0; i < f->n_lines; i++) {
        const struct outgoing_script *line = &f->lines[i];

        if (strncmp(url, line->prefix, strlen(line->prefix)) == 0 &&
            (!line->times || f->used[i] < line->times)) {
            f->used[i]++;
            return line;
        }
    }
    return NULL;
}

static uint64_t fake_send(struct outgoing *face, const struct outgoing_request *q,
                          outgoing_done *done, void *ctx, struct err *e)
{
    struct outgoing_rules rules = { .user_agent = "fake" };
    struct fake *f = fake_of(face);
    struct transfer t = { 0 };
    uint64_t id = 0;

    int rc = transfer_read(&t, q, &rules, e);
    transfer_free(&t);
    if (rc < 0)
        return 0;
    struct pending *p = calloc(1, sizeof(*p));
    if (!p)
        abort();
    pthread_mutex_lock(&f->lock);
    if (f->closing || f->n_seen == MOST_SEEN) {
        err_set(e, ERR_OVERLOADED, "no more requests are sent");
        free(p);
    } else {
        if (!f->started)
            f->thread = thread_start("outgoing-fake", work, f);
        f->started = true;
        id = ++f->last_id;
        if (!f->forgets) {
            struct outgoing_seen *seen = arena_new(&f->memory, struct outgoing_seen);

            copy(&f->memory, id, q, seen);
            f->seen[f->n_seen++] = seen;
        }
        *p = (struct pending){ .id = id, .done = done, .ctx = ctx, .line = line_for(f, q->url) };
        p->due = now() + (p->line ? p->line->delay : 0);
        *f->last = p;
        f->last = &p->next;
        pthread_cond_signal(&f->changed);
    }
    pthread_mutex_unlock(&f->lock);
    return id;
}

static bool fake_cancel(struct outgoing *face, uint64_t id)
{
    struct fake *f = fake_of(face);
    bool fresh = false;

    pthread_mutex_lock(&f->lock);
    for (struct pending *p = f->first; p; p = p->next)
        if (p->id == id && !p->cancelled)
            fresh = p->cancelled = true;
    pthread_cond_signal(&f->changed);
    pthread_mutex_unlock(&f->lock);
    return fresh;
}

static void fake_free(struct outgoing *face)
{
    struct fake *f = fake_of(face);

    pthread_mutex_lock(&f->lock);
    f->closing = true;
    pthread_cond_signal(&f->changed);
    pthread_mutex_unlock(&f->lock);
    if (f->started)
        pthread_join(f->thread, NULL);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
    arena_free(&f->memory);
    free(f);
}

struct outgoing *outgoing_fake_new(void)
{
    static const struct outgoing_ops ops = { fake_send, fake_cancel, fake_free };
    struct fake *f = calloc(1, sizeof(*f));

    if (!f)
        abort();
    f->face.ops = &ops;
    f->memory = ARENA(MIB(256));
    f->last = &f->first;
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    return &f->face;
}

struct outgoing *outgoing_simulation_new(void)
{
    struct outgoing *face = outgoing_fake_new();

    fake_of(face)->forgets = true;
    return face;
}

/* ---- the test's side */

void outgoing_fake_answer(struct outgoing *fake, const struct outgoing_script *line)
{
    struct fake *f = fake_of(fake);

    pthread_mutex_lock(&f->lock);
    if (f->n_lines == MOST_LINES)
        abort();
    struct outgoing_script *l = &f->lines[f->n_lines++];
    *l = *line;
    l->prefix = arena_strdup(&f->memory, line->prefix);
    if (l->result.body.n)
        l->result.body.p = arena_dup(&f->memory, line->result.body.p, line->result.body.n);
    pthread_mutex_unlock(&f->lock);
}

void outgoing_fake_hold(struct outgoing *fake, bool held)
{
    struct fake *f = fake_of(fake);

    pthread_mutex_lock(&f->lock);
    f->held = held;
    pthread_cond_signal(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

size_t outgoing_fake_count(struct outgoing *fake)
{
    struct fake *f = fake_of(fake);

    pthread_mutex_lock(&f->lock);
    size_t n = f->n_seen;
    pthread_mutex_unlock(&f->lock);
    return n;
}

bool outgoing_fake_seen(struct outgoing *fake, size_t i, struct arena *a, struct outgoing_seen *out)
{
    struct fake *f = fake_of(fake);

    pthread_mutex_lock(&f->lock);
    const struct outgoing_seen *seen = i < f->n_seen ? f->seen[i] : NULL;
    pthread_mutex_unlock(&f->lock);
    if (!seen)
        return false;
    struct outgoing_request q = {
        .flow.key = seen->flow,
        .method = seen->method,
        .url = seen->url,
        .headers = seen->headers,
        .n_headers = seen->n_headers,
        .body = seen->body,
        .timeout = seen->timeout,
    };
    copy(a, seen->id, &q, out);
    return true;
}
