/* SPDX-License-Identifier: Apache-2.0 */
/* What is done with an instance that runs: its output, its figures, commands in it. */
#include "services/compute/compute_private.h"

enum { TAIL_DEFAULT = 1000 };

struct instance_logs_args {
    int64_t tail; /* -1: not given */
    int64_t since;
    bool follow, timestamps;
};
/* clang-format off */
static const struct field instance_logs_fields[] = {
    FIELD_INT (struct instance_logs_args, tail,       FF_CREATE, .min = 0, .max = 1000000, .dflt = -1, .alias = "limit", .doc = "Last lines; left out: 1000, or with since all."),
    FIELD_TIME(struct instance_logs_args, since,      FF_CREATE, .doc = "Only lines that ended since then."),
    FIELD_BOOL(struct instance_logs_args, follow,     FF_CREATE, .doc = "Go on with what is printed from now on."),
    FIELD_BOOL(struct instance_logs_args, timestamps, FF_CREATE, .doc = "Begin each line with its time."),
};
/* clang-format on */
const struct record instance_logs_query = RECORD(instance_logs_args, NULL, instance_logs_fields);

struct instance_exec {
    const char *cmd, *env, *cwd, *input;
    int64_t timeout;
};
/* clang-format off */
static const struct field instance_exec_fields[] = {
    FIELD_LIST(struct instance_exec, cmd,     FF_CREATE | FF_REQUIRED, .min = 1, .max = 100, .alias = "command", .doc = "Command and arguments."),
    FIELD_MAP (struct instance_exec, env,     FF_CREATE, .max = 100, .doc = "Environment beside the instance's."),
    FIELD_STR (struct instance_exec, cwd,     FF_CREATE, .min = 1, .max = 4096, .doc = "Folder to run in."),
    FIELD_STR (struct instance_exec, input,   FF_CREATE, .max = 262144, .doc = "Its standard input."),
    FIELD_INT (struct instance_exec, timeout, FF_CREATE, .min = 1, .max = 3600, .dflt = 60, .doc = "Seconds after which it is killed."),
};
/* clang-format on */
const struct record instance_exec_record = RECORD(instance_exec, NULL, instance_exec_fields);

struct instance_exec_result {
    int64_t exit_code;
    const char *stdout_text, *stderr_text;
    bool timed_out, truncated;
};
/* clang-format off */
#define T struct instance_exec_result
static const struct field instance_exec_result_fields[] = {
    FIELD_INT (T, exit_code, 0, .doc = "How it ended; 128 and more: by a signal."),
    { .name = "stdout", .type = F_STR, .flags = 0, .offset = offsetof(T, stdout_text), .max = 1 << 20, .doc = "What it printed." },
    { .name = "stderr", .type = F_STR, .flags = 0, .offset = offsetof(T, stderr_text), .max = 1 << 20, .doc = "What it printed as errors." },
    FIELD_BOOL(T, timed_out, 0, .doc = "It was killed because its time was up."),
    FIELD_BOOL(T, truncated, 0, .doc = "It printed more than is shown."),
};
#undef T
/* clang-format on */
const struct record instance_exec_result_record =
    RECORD(instance_exec_result, NULL, instance_exec_result_fields);

/* What stands in the text where it is not all that was printed. */
#define PART_MARK " [brume: the line is cut here]"
#define GAP_MARK  "[brume: output is missing here]"

struct lines {
    struct call *c;
    bool timestamps, begun;
    bool left; /* the peer, or the server's wish to go on */
    struct err *e;
};

/* The answer begins with the first line, so that a host that cannot be asked is still an error. */
static int lines_begin(struct lines *x)
{
    if (x->begun)
        return 0;
    x->begun = true;
    return stream_begin(x->c, "text/plain; charset=utf-8", x->e);
}

static int write_time(struct lines *x, int64_t time)
{
    struct buf b = BUF(64);
    struct json_out o = JSON_OUT(&b);

    json_time(&o, time);
    struct str quoted = buf_str(&b); /* its quotes are no part of the line */
    int r = stream_write(x->c, (struct str){ quoted.p + 1, quoted.n - 2 }, x->e);
    buf_free(&b);
    return r < 0 ? -1 : stream_write(x->c, STR(" "), x->e);
}

static int line_out(void *ctx, const struct compute_line *l)
{
    static const struct str ends[] = {
        [COMPUTE_LINE] = { "\n", 1 },
        [COMPUTE_LINE_PART] = { PART_MARK "\n", sizeof(PART_MARK) },
        [COMPUTE_LINE_GAP] = { GAP_MARK "\n", sizeof(GAP_MARK) },
    };
    struct lines *x = ctx;

    if (lines_begin(x) < 0 || stream_gone(x->c)) {
        x->left = true;
        return -1;
    }
    if (l->kind == COMPUTE_LINE_IDLE)
        return 0;
    if ((x->timestamps && l->time && write_time(x, l->time) < 0) ||
        stream_write(x->c, l->text, x->e) < 0 || stream_write(x->c, ends[l->kind], x->e) < 0) {
        x->left = true;
        return -1;
    }
    return 0;
}

int instance_logs(struct call *c, struct err *e)
{
    const struct instance_logs_args *q = c->query;
    struct lines x = { .c = c, .timestamps = q->timestamps, .e = e };
    struct compute_log_opts o = { .tail = q->tail, .since = q->since, .follow = q->follow };
    struct instance i;

    if (o.tail < 0) /* not given: since a time all, else a screenful or two */
        o.tail = q->since ? -1 : TAIL_DEFAULT;
    TRY(call_target(c, &instance_record, &i, e));
    int rc = compute_logs(app_compute(c->app, i.mode), &i.id, &o, line_out, &x, e);
    if (x.left) /* before the end: by a peer that has gone, or a server that stops */
        return err_set(e, ERR_REQUEST_TIMEOUT, "the answer was not given to its end");
    if (rc < 0 && e->code != ERR_NOT_FOUND)
        return -1;
    return lines_begin(&x); /* what no host knows, yet or any more, has printed nothing further */
}

int instance_stats(struct call *c, struct err *e)
{
    struct instance i;
    struct compute_stats s = { 0 };

    TRY(call_target(c, &instance_record, &i, e));
    TRY(compute_stats_of(app_compute(c->app, i.mode), &i.id, &s, e));
    return reply_row(c, &compute_stats_record, &s);
}

int instance_exec(struct call *c, struct err *e)
{
    const struct instance_exec *in = c->in;
    struct instance i;
    struct compute_exec x = { .cmd = in->cmd,
                              .env = in->env,
                              .cwd = in->cwd,
                              .input = str_of(in->input),
                              .timeout = SECONDS(in->timeout) };
    struct compute_exec_result r;

    TRY(call_target(c, &instance_record, &i, e));
    if (i.status != INSTANCE_RUNNING)
        return err_set(e, ERR_INVALID_STATE, "instance '%s' is not running", i.name);
    TRY(call_claim(c, e));
    TRY(compute_exec_in(app_compute(c->app, i.mode), c->arena, &i.id, &x, &r, e));
    struct instance_exec_result out = { .exit_code = r.exit_code,
                                        .stdout_text = arena_dup(c->arena, r.out.p, r.out.n),
                                        .stderr_text = arena_dup(c->arena, r.err.p, r.err.n),
                                        .timed_out = r.timed_out,
                                        .truncated = r.truncated };
    return reply_row(c, &instance_exec_result_record, &out);
}

int instance_console(struct call *c, struct err *e)
{
    struct instance i;

    TRY(call_target(c, &instance_record, &i, e));
    return err_set(
        e, ERR_NOT_IMPLEMENTED,
        "a container has no VNC console: use exec and logs; virtual machines are not built yet");
}
