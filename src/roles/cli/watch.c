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
    "repairing",  "scaling",      "upgrading", "restoring", "importing", "absent",
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

/* A line whenever the status is another one. */
static void watch_status(struct cli *c, struct arena *a, const struct json_value *v, char *last,
                         size_t n)
{
    const char *status = json_get_str(a, v, "status", NULL);
    const char *why = json_get_str(a, v, "status_reason", NULL);
    time_t now = time(NULL);
    char at[16] = "";
    struct tm tm;

    if (!status || !strncmp(status, last, n - 1))
        return;
    if (localtime_r(&now, &tm))
        strftime(at, sizeof(at), "%H:%M:%S", &tm);
    fprintf(c->out, "%s %s%s%s%s%s\n", at, last, *last ? " → " : "",
            output_clean(a, status, strlen(status), 30), why ? ": " : "",
            why ? output_clean(a, why, strlen(why), 200) : "");
    fflush(c->out);
    snprintf(last, n, "%s", status);
}

static void watch_screen(struct cli *c, const struct command *k, struct arena *a,
                         const struct json_value *v)
{
    struct buf b = BUF(MIB(64));

    if (c->out_tty)
        buf_puts(&b, "\033[H\033[2J");
    output_value(a, k->route->out, v, c->common.format, clock_wall(clock_system()), &b);
    fwrite(b.p, 1, b.n, c->out);
    fflush(c->out);
    buf_free(&b);
}

int cli_watch(struct cli *c, const struct command *k, const char *path)
{
    struct sigaction act = { .sa_handler = on_interrupt }, old;
    char last[64] = "";
    int rc = CLI_OK;

    interrupted = 0;
    sigaction(SIGINT, &act, &old);
    while (!interrupted && rc == CLI_OK) {
        struct arena a = ARENA(MIB(160));
        struct cli_answer x;

        rc = cli_ask(c, &a, GET, path, (struct str){ 0 }, NULL, &x);
        if (interrupted) {
            rc = CLI_OK;
        } else if (rc == CLI_OK && x.status == 404 && *last) {
            fputs("It is gone.\n", c->out);
            interrupted = 1;
        } else if (rc == CLI_OK && (x.status != 200 || !x.json)) {
            rc = cli_refused(c, k, &x);
        } else if (rc == CLI_OK && json_type_of(x.json) == JSON_OBJ && json_get(x.json, "status") &&
                   !output_list(x.json)) {
            watch_status(c, &a, x.json, last, sizeof(last));
        } else if (rc == CLI_OK) {
            watch_screen(c, k, &a, x.json);
        }
        cli_answer_done(&x);
        arena_free(&a);
        if (rc == CLI_OK && !interrupted)
            pause_ms(1000);
    }
    sigaction(SIGINT, &old, NULL);
    return rc;
}
