/* SPDX-License-Identifier: Apache-2.0 */
/* Looks at something again and again: --wait until it stands still, --watch until interrupted.
 * Which states still move is known here only; a status it has never heard of counts as standing
 * still. */

#include "roles/cli/cli.h"

#include <signal.h>
#include <time.h>

#include "base/clock.h"

enum { WAIT_MAX_SECONDS = 3600, POLL_FIRST_MS = 100, POLL_MAX_MS = 1000 };

static const char *const moving[] = {
    "pending",    "provisioning", "creating",  "building",  "queued",    "starting",  "stopping",
    "restarting", "resizing",     "updating",  "modifying", "deleting",  "deploying", "promoting",
    "repairing",  "scaling",      "upgrading", "restoring", "importing", "absent",    "terminating",
};
static const char *const broken[] = { "error", "failed" };

/* A verb whose end has a name of its own: until then the old status may stand. */
static const struct {
    const char *verb, *status;
} ends[] = {
    { "start", "running" },  { "stop", "stopped" },    { "pause", "paused" },
    { "resume", "running" }, { "restart", "running" },
};

static const char *end_of(const struct command *k)
{
    for (size_t i = 0; k->route->method == POST && i < ARRAY_LEN(ends); i++)
        if (!strcmp(k->word[k->n_words - 1], ends[i].verb))
            return ends[i].status;
    return NULL;
}

static bool among(const char *status, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (str_is_nocase(str_of(status), words[i]))
            return true;
    return false;
}

static void pause_ms(int ms)
{
    struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000 };

    nanosleep(&t, NULL);
}

const struct command *cli_getter(const struct cli *c, const struct command *k, bool *made)
{
    const char *path = k->route->path, *slash = strrchr(path, '/');
    size_t n = strlen(path);

    *made = false;
    for (size_t i = 0; i < c->commands.n; i++) {
        const struct route *r = c->commands.v[i].route;
        bool below;

        if (r->method != GET || route_lists(r))
            continue;
        if (!strcmp(r->path, path) && path[n - 1] == '}')
            return &c->commands.v[i];
        below = !strncmp(r->path, path, n) && !strncmp(r->path + n, "/{", 2) &&
                !strchr(r->path + n + 2, '/');
        if (below && k->route->method == POST) {
            *made = true;
            return &c->commands.v[i];
        }
        if (slash > path && slash[-1] == '}' && slash[1] != '{' &&
            strlen(r->path) == (size_t)(slash - path) &&
            !strncmp(r->path, path, (size_t)(slash - path)))
            return &c->commands.v[i];
    }
    return NULL;
}

/* ---- --wait */

bool cli_waits(const struct cli *c, const struct command *k)
{
    bool made;
    const struct command *getter = k->route->method == GET ? NULL : cli_getter(c, k, &made);
    const struct field *status =
        getter && getter->route->out ? record_field(getter->route->out, "status") : NULL;

    for (const struct enum_name *n = status ? status->names : NULL; n && n->name; n++)
        if (among(n->name, moving, ARRAY_LEN(moving)))
            return true;
    return status && !status->names;
}

struct wait {
    struct cli *cli;
    const struct command *getter;
    const char *path, *what;
    const char *end; /* the status to wait for, or NULL: any that stands still */
    bool gone, shown;
    int64_t start;
};

static void wait_line(struct wait *w, const struct json_value *v, struct arena *a)
{
    int64_t s = (clock_mono(clock_system()) - w->start) / SECONDS(1);
    const char *step = json_get_str(a, v, "step", NULL);
    int64_t percent = json_get_int(v, "progress", -1);
    const char *status = json_get_str(a, v, "status", "working");

    if (!w->cli->err_tty || s < 1)
        return;
    fprintf(w->cli->err, "\r\033[K%s: %s", w->what, output_clean(a, status, strlen(status), 20));
    if (step)
        fprintf(w->cli->err, ", %s", output_clean(a, step, strlen(step), 40));
    if (percent >= 0)
        fprintf(w->cli->err, ", %d %%", (int)percent);
    fprintf(w->cli->err, " … %d s", (int)s);
    fflush(w->cli->err);
    w->shown = true;
}

static int wait_over(struct wait *w, const struct json_value *v, int rc)
{
    struct arena a = ARENA(MIB(64));
    struct buf b = BUF(MIB(64));

    if (w->shown)
        fputs("\r\033[K", w->cli->err);
    if (v) {
        output_value(&a, w->getter->route->out, v, w->cli->common.format,
                     clock_wall(clock_system()), &b);
        fwrite(b.p, 1, b.n, w->cli->out);
    } else if (rc == CLI_OK && w->cli->common.format == FORMAT_TABLE) {
        fprintf(w->cli->out, "%s is gone.\n", w->what);
    }
    buf_free(&b);
    arena_free(&a);
    return rc;
}

/* One look: true when the wait is over, with '*rc' set. */
static bool wait_look(struct wait *w, int *rc)
{
    struct arena a = ARENA(MIB(80));
    struct cli_answer x;
    const char *status, *reason;
    bool over = true;

    *rc = cli_ask(w->cli, &a, GET, w->path, (struct str){ 0 }, NULL, &x);
    if (*rc != CLI_OK) {
        wait_over(w, NULL, *rc);
        arena_free(&a);
        return true;
    }
    if (x.status == 404 && w->gone) {
        *rc = wait_over(w, NULL, CLI_OK);
    } else if (x.status != 200 || !x.json || json_type_of(x.json) != JSON_OBJ) {
        wait_over(w, NULL, CLI_API);
        *rc = cli_refused(w->cli, w->getter, &x);
    } else {
        status = json_get_str(&a, x.json, "status", "");
        reason = json_get_str(&a, x.json, "status_reason", NULL);
        if (among(status, broken, ARRAY_LEN(broken))) {
            *rc = wait_over(w, x.json, CLI_API);
            fprintf(w->cli->err, "brume: %s is in %s: %s\n", w->what, status,
                    reason ? reason : "no reason was given");
        } else if (w->gone  ? !strcmp(status, "terminated")
                   : w->end ? str_is_nocase(str_of(status), w->end)
                            : !among(status, moving, ARRAY_LEN(moving))) {
            *rc = wait_over(w, w->gone ? NULL : x.json, CLI_OK);
        } else {
            wait_line(w, x.json, &a);
            over = false;
        }
    }
    cli_answer_done(&x);
    arena_free(&a);
    return over;
}

int cli_wait(struct cli *c, const struct command *k, const struct flags *f,
             const struct json_value *answer, bool gone)
{
    bool made;
    const char *values[COMMAND_PARAMS];
    struct wait w = {
        .cli = c, .gone = gone, .end = end_of(k), .start = clock_mono(clock_system())
    };
    size_t n = 0;
    int rc, ms = POLL_FIRST_MS;

    w.getter = cli_getter(c, k, &made);
    if (!w.getter)
        return cli_usage(c, "--wait: there is nothing to look at after this command");
    for (; n < f->n_values && n < w.getter->n_params; n++)
        values[n] = f->value[n];
    if (made && n < COMMAND_PARAMS && answer && json_type_of(answer) == JSON_OBJ)
        values[n++] = json_get_str(c->arena, answer, "id", "");
    if (n < w.getter->n_params || !n || !*values[n - 1])
        return cli_usage(c, "--wait: the answer names no object to look at");
    w.path = command_path(c->arena, w.getter, values);
    w.what = made && json_get_str(c->arena, answer, "name", NULL)
                 ? json_get_str(c->arena, answer, "name", NULL)
                 : values[n - 1];
    if (!w.path)
        return cli_usage(c, "the id is too long");
    while (!wait_look(&w, &rc)) {
        if (clock_mono(clock_system()) - w.start > SECONDS(WAIT_MAX_SECONDS)) {
            wait_over(&w, NULL, CLI_API);
            fprintf(c->err, "brume: %s has not come to rest in an hour\n", w.what);
            return CLI_API;
        }
        pause_ms(ms);
        ms = MIN(ms * 2, (int)POLL_MAX_MS);
    }
    return rc;
}

/* ---- --watch */

static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig _unused_)
{
    interrupted = 1;
}

struct watch {
    struct cli *cli;
    const struct command *command;
    struct json_value *before; /* what was shown last; NULL: nothing yet */
};

static void watch_whole(struct watch *w, struct arena *a, const struct json_value *v)
{
    struct cli *c = w->cli;
    struct buf b = BUF(MIB(64));

    if (c->out_tty && output_list(v))
        buf_puts(&b, "\033[H\033[2J");
    else if (w->before && c->common.format == FORMAT_YAML)
        buf_puts(&b, "---\n");
    else if (w->before && c->common.format == FORMAT_TABLE)
        buf_putc(&b, '\n');
    output_value(a, w->command->route->out, v, c->common.format, clock_wall(clock_system()), &b);
    fwrite(b.p, 1, b.n, c->out);
    fflush(c->out);
    buf_free(&b);
}

static const char *member_text(struct arena *a, const struct json_value *v, const char *key)
{
    const struct json_value *m = json_get(v, key);
    const char *s = m ? json_str_of(m, NULL) : NULL;

    if (!m || json_type_of(m) == JSON_NULL)
        return "-";
    if (!s)
        s = json_text(a, m);
    return output_clean(a, s, strlen(s), 200);
}

static void watch_member(struct watch *w, struct arena *a, const struct json_value *v,
                         const char *key)
{
    const char *was = member_text(a, w->before, key), *is = member_text(a, v, key);
    time_t now = time(NULL);
    char at[16] = "";
    struct tm tm;

    if (!strcmp(was, is) || !strcmp(key, "updated_at"))
        return;
    if (localtime_r(&now, &tm))
        strftime(at, sizeof(at), "%H:%M:%S", &tm);
    fprintf(w->cli->out, "%s  %s: %s → %s\n", at, output_clean(a, key, strlen(key), 0), was, is);
}

/* A line for each member that is another one than before. */
static void watch_changes(struct watch *w, struct arena *a, const struct json_value *v)
{
    const char *key;

    for (size_t i = 0; i < json_len(v); i++) {
        json_member(v, i, &key);
        watch_member(w, a, v, key);
    }
    for (size_t i = 0; i < json_len(w->before); i++) {
        json_member(w->before, i, &key);
        if (!json_get(v, key))
            watch_member(w, a, v, key);
    }
    fflush(w->cli->out);
}

/* Shows what is new in 'x' and keeps it. */
static void watch_show(struct watch *w, struct arena *a, struct cli_answer *x)
{
    struct cli *c = w->cli;
    bool same = w->before && !strcmp(json_text(a, w->before), json_text(a, x->json));
    bool members = w->before && c->common.format == FORMAT_TABLE &&
                   json_type_of(x->json) == JSON_OBJ && json_type_of(w->before) == JSON_OBJ &&
                   !output_list(x->json);

    if (members)
        watch_changes(w, a, x->json);
    else if (!same || (c->out_tty && output_list(x->json))) /* ages go on */
        watch_whole(w, a, x->json);
    json_free(w->before);
    w->before = x->json;
    x->json = NULL;
}

int cli_watch(struct cli *c, const struct command *k, const char *path)
{
    struct sigaction act = { .sa_handler = on_interrupt }, old;
    struct watch w = { .cli = c, .command = k };
    int rc = CLI_OK;

    interrupted = 0;
    sigaction(SIGINT, &act, &old);
    while (!interrupted && rc == CLI_OK && !ferror(c->out)) {
        struct arena a = ARENA(MIB(256));
        struct cli_answer x = { 0 };

        rc = cli_ask(c, &a, GET, path, (struct str){ 0 }, NULL, &x);
        if (interrupted) {
            rc = CLI_OK;
        } else if (rc == CLI_OK && x.status == 404 && w.before) {
            fputs("It is gone.\n", c->out);
            interrupted = 1;
        } else if (rc == CLI_OK && (x.status != 200 || !x.json)) {
            rc = cli_refused(c, k, &x);
        } else if (rc == CLI_OK) {
            watch_show(&w, &a, &x);
        }
        cli_answer_done(&x);
        arena_free(&a);
        if (rc == CLI_OK && !interrupted && !ferror(c->out))
            pause_ms(1000);
    }
    sigaction(SIGINT, &old, NULL);
    json_free(w.before);
    return rc;
}
