/* SPDX-License-Identifier: Apache-2.0 */
/* A host in memory, for tests of what stands above and for the simulation of test keys.  It keeps
 * the same promises as a real one: revisions, boots, exits that a watcher hears of.  The decision
 * it hides: nothing but the order decides what happens (SIMULATE in its environment), so tests
 * repeat. */
#include <pthread.h>

#include "base/clock.h"
#include "base/map.h"
#include "codec/json.h"
#include "drivers/compute/compute.h"

enum { FAKE_EVENTS = 1024 };

struct fake_instance {
    struct uuid id;
    struct compute_state state; /* its ports and reason are below */
    char *ports, *env;
    const char *reason; /* a literal */
    bool sick;
    struct arena arena; /* of 'spec' */
    struct compute_spec spec;
};

struct fake {
    struct compute base;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct map *instances;
    struct uuid events[FAKE_EVENTS]; /* a ring of exits nobody has heard of */
    size_t first, count;
    int next_port;
    int64_t next_pid;
};

static struct fake *fake_of(struct compute *h)
{
    return (struct fake *)(void *)h;
}

static void fake_unlockp(pthread_mutex_t **m)
{
    pthread_mutex_unlock(*m);
}
#define FAKE_LOCK(f)                                             \
    _cleanup_(fake_unlockp) pthread_mutex_t *lock_ = &(f)->lock; \
    pthread_mutex_lock(lock_)

static struct fake_instance *fake_find(struct fake *f, const struct uuid *id)
{
    return map_get(f->instances, id->s, strlen(id->s));
}

static void fake_instance_free(struct fake_instance *i)
{
    free(i->ports);
    free(i->env);
    arena_free(&i->arena);
    free(i);
}

static char *fake_copy(const char *s)
{
    char *p = strdup(s ? s : "");

    if (!p)
        abort();
    return p;
}

static void fake_show(struct arena *a, const struct fake_instance *i, struct compute_state *out)
{
    *out = i->state;
    if (out->boot < 0) /* never started */
        out->boot = 0;
    out->ports = i->ports[0] ? arena_strdup(a, i->ports) : NULL;
    out->reason = i->reason;
}

/* The ports of an order with a host port picked wherever it says 0. */
static char *fake_ports(struct fake *f, const char *text)
{
    struct err e;
    _cleanup_(json_freep) struct json_value *list = text ? json_parse(str_of(text), &e) : NULL;
    struct buf b = BUF(KIB(64));
    struct json_out o = JSON_OUT(&b);
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));

    if (!list || json_type_of(list) != JSON_ARR || json_len(list) == 0)
        return fake_copy(NULL);
    json_open(&o, '[');
    for (size_t i = 0; i < json_len(list); i++) {
        const struct json_value *p = json_at(list, i);
        int64_t host = json_get_int(p, "host", 0);

        if (host == 0)
            host = f->next_port++;
        json_open(&o, '{');
        json_kint(&o, "host", host);
        json_kint(&o, "port", json_get_int(p, "port", 0));
        json_kstr(&o, "protocol", json_get_str(&a, p, "protocol", "tcp"));
        json_close(&o);
    }
    json_close(&o);
    char *out = fake_copy(buf_cstr(&b));
    buf_free(&b);
    return out;
}

static bool fake_simulates(const char *env, const char *what)
{
    struct err e;
    _cleanup_(json_freep) struct json_value *v = env && env[0] ? json_parse(str_of(env), &e) : NULL;
    const char *s = v ? json_str_of(json_get(v, "SIMULATE"), NULL) : NULL;

    return s && strcmp(s, what) == 0;
}

static void fake_end(struct fake_instance *i, enum compute_status status, int64_t code)
{
    i->state.status = status;
    i->state.exit_code = code;
    i->state.pid = 0;
    i->state.finished_at = clock_wall(clock_system());
}

static void fake_start(struct fake *f, struct fake_instance *i, int64_t boot)
{
    i->state.boot = boot;
    i->reason = NULL;
    i->state.exit_code = 0;
    i->state.finished_at = 0;
    if (fake_simulates(i->env, "fail")) {
        i->state.status = COMPUTE_FAILED;
        i->reason = "the simulation was asked to fail";
        return;
    }
    i->state.status = COMPUTE_RUNNING;
    i->state.pid = f->next_pid++;
    i->state.started_at = clock_wall(clock_system());
    if (fake_simulates(i->env, "exit"))
        fake_end(i, COMPUTE_EXITED, 1);
}

static void fake_keep(struct fake_instance *i, const struct compute_spec *s)
{
    struct err e;
    struct buf b = BUF(MIB(2));
    struct json_out o = JSON_OUT(&b);

    arena_free(&i->arena);
    i->arena = ARENA(MIB(4));
    json_dump_row(&o, &compute_spec_record, s);
    _cleanup_(json_freep) struct json_value *v = json_parse(buf_str(&b), &e);
    if (json_done(&o) < 0 || !v ||
        json_load_row(&i->arena, &compute_spec_record, v, &i->spec, &e) < 0)
        abort();
    buf_free(&b);
}

static void fake_step(struct fake *f, struct fake_instance *i, const struct compute_spec *s)
{
    bool alive = i->state.status == COMPUTE_RUNNING || i->state.status == COMPUTE_PAUSED;

    if (s->want == COMPUTE_WANT_STOPPED) {
        if (alive)
            fake_end(i, COMPUTE_STOPPED, 128 + 15);
        else
            i->state.status = COMPUTE_STOPPED;
        return;
    }
    if (s->boot > i->state.boot) {
        fake_start(f, i, s->boot);
        alive = i->state.status == COMPUTE_RUNNING;
    }
    if (alive)
        i->state.status = s->want == COMPUTE_WANT_PAUSED ? COMPUTE_PAUSED : COMPUTE_RUNNING;
}

static int fake_ensure(struct compute *h, struct arena *a, const struct compute_spec *s,
                       struct compute_state *out, struct err *e)
{
    struct fake *f = fake_of(h);
    FAKE_LOCK(f);
    struct fake_instance *i = fake_find(f, &s->id);

    if (!i) {
        i = calloc(1, sizeof(*i));
        if (!i)
            abort();
        i->id = s->id;
        i->state = (struct compute_state){ .id = s->id, .boot = -1 };
        i->state.status = COMPUTE_STOPPED;
        i->ports = fake_ports(f, s->ports);
        map_set(f->instances, s->id.s, strlen(s->id.s), i);
    } else if (s->revision < i->state.revision) {
        return err_set(e, ERR_INVALID_STATE, "the host has already done a newer order");
    }
    i->state.revision = s->revision;
    free(i->env);
    i->env = fake_copy(s->env);
    fake_keep(i, s);
    fake_step(f, i, s);
    fake_show(a, i, out);
    return 0;
}

static int fake_inspect(struct compute *h, struct arena *a, const struct uuid *id,
                        struct compute_state *out, _unused_ struct err *e)
{
    struct fake *f = fake_of(h);
    FAKE_LOCK(f);
    const struct fake_instance *i = fake_find(f, id);

    if (i)
        fake_show(a, i, out);
    else
        *out = (struct compute_state){ .id = *id };
    return 0;
}

static int fake_destroy(struct compute *h, const struct uuid *id, int64_t revision,
                        _unused_ int64_t grace, struct err *e)
{
    struct fake *f = fake_of(h);
    FAKE_LOCK(f);
    struct fake_instance *i = fake_find(f, id);

    if (!i)
        return 0;
    if (revision < i->state.revision)
        return err_set(e, ERR_INVALID_STATE, "the host has already done a newer order");
    map_del(f->instances, id->s, strlen(id->s));
    fake_instance_free(i);
    pthread_cond_broadcast(&f->wake);
    return 0;
}

static int fake_list(struct compute *h, struct arena *a, struct compute_state **out, size_t *n,
                     _unused_ struct err *e)
{
    struct fake *f = fake_of(h);
    FAKE_LOCK(f);
    struct compute_state *all = arena_new_n(a, struct compute_state, map_count(f->instances));
    size_t at = 0, key_len, count = 0;
    const void *key;
    void *value;

    while (map_next(f->instances, &at, &key, &key_len, &value))
        fake_show(a, value, &all[count++]);
    *out = all;
    *n = count;
    return 0;
}

static int fake_known(struct fake *f, const struct uuid *id, struct fake_instance **out,
                      struct err *e)
{
    *out = fake_find(f, id);
    if (!*out)
        return err_set(e, ERR_NOT_FOUND, "the host has no such instance");
    return 0;
}

static int fake_logs(struct compute *h, const struct uuid *id, const struct compute_log_opts *o,
                     compute_line_fn *fn, void *ctx, struct err *e)
{
    static const char *const lines[] = { "simulated instance started", "ready" };
    struct fake *f = fake_of(h);
    struct fake_instance *i;
    int64_t at;

    {
        FAKE_LOCK(f);
        TRY(fake_known(f, id, &i, e));
        at = i->state.started_at;
    }
    int64_t skip = o->tail >= 0 && o->tail < 2 ? 2 - o->tail : 0;
    struct compute_line l = { .stream = 1, .time = at, .after.file = { 1, 1 } };
    for (int64_t k = o->from.file[0] ? o->from.at[0] : skip; k < 2; k++) {
        l.text = str_of(lines[k]);
        l.after.at[0] = l.after.at[1] = k + 1;
        if (at >= o->since && fn(ctx, &l) < 0)
            return 0;
    }
    l = (struct compute_line){ .kind = COMPUTE_LINE_IDLE,
                               .after = { .file = { 1, 1 }, .at = { 2, 2 } } };
    if (o->follow)
        (void)fn(ctx, &l);
    return 0;
}

static int fake_stats(struct compute *h, const struct uuid *id, struct compute_stats *out,
                      struct err *e)
{
    struct fake *f = fake_of(h);
    FAKE_LOCK(f);
    struct fake_instance *i;

    TRY(fake_known(f, id, &i, e));
    *out = (struct compute_stats){ 0 };
    if (i->state.status == COMPUTE_RUNNING) {
        out->cpu_usec = clock_wall(clock_system()) - i->state.started_at;
        out->memory_bytes = 1 << 20;
        out->pids = 1;
    }
    return 0;
}

/* Answers with the command's words, as echo would. */
static int fake_exec(struct compute *h, struct arena *a, const struct uuid *id,
                     const struct compute_exec *x, struct compute_exec_result *out, struct err *e)
{
    struct fake *f = fake_of(h);
    FAKE_LOCK(f);
    struct fake_instance *i;
    struct buf b = BUF(KIB(64));

    TRY(fake_known(f, id, &i, e));
    if (i->state.status != COMPUTE_RUNNING)
        return err_set(e, ERR_INVALID_STATE, "the instance is not running");
    _cleanup_(json_freep) struct json_value *cmd = json_parse(str_of(x->cmd), e);
    if (!cmd)
        return -1;
    for (size_t k = 0; k < json_len(cmd); k++) {
        const char *word = json_str_of(json_at(cmd, k), NULL);
        buf_puts(&b, k ? " " : "");
        buf_puts(&b, word ? word : "");
    }
    buf_putc(&b, '\n');
    *out = (struct compute_exec_result){ .err = STR(""), .exit_code = i->sick };
    out->out = (struct str){ arena_dup(a, buf_cstr(&b), b.n), b.n };
    buf_free(&b);
    return 0;
}

static int fake_probe(struct compute *h, struct arena *a, const struct uuid *id,
                      const struct compute_probe *p, const char **fault, struct err *e)
{
    struct fake *f = fake_of(h);
    FAKE_LOCK(f);
    struct fake_instance *i;

    TRY(fake_known(f, id, &i, e));
    if (i->state.status != COMPUTE_RUNNING)
        return err_set(e, ERR_INVALID_STATE, "the instance is not running");
    *fault = i->sick || fake_simulates(i->env, "sick")
                 ? arena_printf(a, "port %lld refuses connections", (long long)p->port)
                 : NULL;
    return 0;
}

static int fake_watch(struct compute *h, int64_t timeout, struct uuid *id, _unused_ struct err *e)
{
    struct fake *f = fake_of(h);
    FAKE_LOCK(f);
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + timeout % 1000000 * 1000;
    until.tv_sec += timeout / 1000000 + ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    while (f->count == 0)
        if (pthread_cond_timedwait(&f->wake, lock_, &until) == ETIMEDOUT)
            return 0;
    *id = f->events[f->first];
    f->first = (f->first + 1) % FAKE_EVENTS;
    f->count--;
    return COMPUTE_CHANGED;
}

static void fake_free(struct compute *h)
{
    struct fake *f = fake_of(h);
    size_t at = 0, key_len;
    const void *key;
    void *value;

    while (map_next(f->instances, &at, &key, &key_len, &value))
        fake_instance_free(value);
    map_free(f->instances);
    pthread_cond_destroy(&f->wake);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

static const struct compute_class fake_class = {
    .name = "fake",
    .ensure = fake_ensure,
    .inspect = fake_inspect,
    .destroy = fake_destroy,
    .list = fake_list,
    .logs = fake_logs,
    .stats = fake_stats,
    .exec = fake_exec,
    .probe = fake_probe,
    .watch = fake_watch,
    .free = fake_free,
};

struct compute *compute_fake(void)
{
    struct fake *f = calloc(1, sizeof(*f));
    pthread_condattr_t attr;

    if (!f)
        abort();
    f->base.class = &fake_class;
    f->instances = map_new();
    f->next_port = 30000;
    f->next_pid = 1000;
    pthread_mutex_init(&f->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&f->wake, &attr);
    pthread_condattr_destroy(&attr);
    return &f->base;
}

void compute_fake_exit(struct compute *h, const struct uuid *id, int exit_code)
{
    struct fake *f = fake_of(h);
    FAKE_LOCK(f);
    struct fake_instance *i = fake_find(f, id);

    if (!i || (i->state.status != COMPUTE_RUNNING && i->state.status != COMPUTE_PAUSED))
        return;
    fake_end(i, COMPUTE_EXITED, exit_code);
    if (f->count < FAKE_EVENTS)
        f->events[(f->first + f->count++) % FAKE_EVENTS] = *id;
    pthread_cond_broadcast(&f->wake);
}

void compute_fake_order(struct compute *h, struct arena *a, const struct uuid *id,
                        struct compute_spec *out)
{
    struct fake *f = fake_of(h);
    FAKE_LOCK(f);
    const struct fake_instance *i = fake_find(f, id);

    *out = i ? i->spec : (struct compute_spec){ 0 };
    out->image = arena_strdup(a, out->image);
    out->env = arena_strdup(a, out->env);
    out->cmd = arena_strdup(a, out->cmd);
    out->files = arena_strdup(a, out->files);
    out->data = arena_strdup(a, out->data);
    out->ip = arena_strdup(a, out->ip);
    out->name = arena_strdup(a, out->name);
    out->vpc_cidr = out->subnet_cidr = out->gateway = out->dns = out->ports = NULL;
    out->entrypoint = out->user_data = NULL;
}

void compute_fake_sick(struct compute *h, const struct uuid *id, bool sick)
{
    struct fake *f = fake_of(h);
    FAKE_LOCK(f);
    struct fake_instance *i = fake_find(f, id);

    if (i)
        i->sick = sick;
}
