/* SPDX-License-Identifier: Apache-2.0 */
/* What is done with an instance that runs: its figures, commands in it. */
#include "codec/text.h"
#include "services/compute/compute_private.h"

/* How bytes stand in JSON. */
enum encoding { ENCODING_UTF8, ENCODING_BASE64 };
static const struct enum_name encodings[] = {
    { ENCODING_UTF8, "utf-8" },
    { ENCODING_BASE64, "base64" },
    { 0 },
};

static const char *check_folder(struct arena *a _unused_, const char **v)
{
    return (*v)[0] == '/' ? NULL : "must begin with '/'";
}

static const struct form form_folder = {
    .check = check_folder,
    .pattern = "^/(.|\n)*$",
    .example = "/srv",
};

struct instance_exec {
    const char *cmd, *env, *cwd, *input;
    enum encoding input_encoding, output_encoding;
    bool kill_background;
    int64_t timeout;
};
/* clang-format off */
static const struct field instance_exec_fields[] = {
    FIELD_LIST(struct instance_exec, cmd,     FF_CREATE | FF_REQUIRED, .min = 1, .max = 100, .alias = "command", .doc = "Command and arguments.", .example = "[\"nginx\",\"-v\"]"),
    FIELD_MAP (struct instance_exec, env,     FF_CREATE, .max = 100, .check_entry = check_env, .doc = "Environment beside the instance's."),
    FIELD_STR (struct instance_exec, cwd,     FF_CREATE, .min = 1, .max = 4096, .form = &form_folder, .doc = "Folder to run in."),
    FIELD_STR (struct instance_exec, input,   FF_CREATE, .max = 350000, .doc = "Its standard input."),
    FIELD_ENUM(struct instance_exec, input_encoding, enum encoding, FF_CREATE, .names = encodings, .doc = "How input is written: base64 for any bytes."),
    FIELD_ENUM(struct instance_exec, output_encoding, enum encoding, FF_CREATE, .names = encodings, .doc = "How output is wanted; utf-8: as text where it is text, else as base64."),
    FIELD_INT (struct instance_exec, timeout, FF_CREATE, .min = 1, .max = 3600, .dflt = 60, .doc = "Seconds after which it is killed, with all that it started."),
    FIELD_BOOL(struct instance_exec, kill_background, FF_CREATE, .doc = "At its end kill what it left running; else that lives on."),
};
/* clang-format on */
const struct record instance_exec_record = RECORD(instance_exec, NULL, instance_exec_fields);

struct instance_exec_result {
    int64_t exit_code;
    const char *stdout_text, *stderr_text;
    enum encoding stdout_encoding, stderr_encoding;
    bool timed_out, truncated;
};
/* clang-format off */
#define T struct instance_exec_result
static const struct field instance_exec_result_fields[] = {
    FIELD_INT (T, exit_code, 0, .doc = "How it ended; 128 and more: by a signal."),
    { .name = "stdout", .type = F_STR, .flags = FF_ALWAYS, .offset = offsetof(T, stdout_text), .max = 1400000, .doc = "What it printed." },
    { .name = "stderr", .type = F_STR, .flags = FF_ALWAYS, .offset = offsetof(T, stderr_text), .max = 1400000, .doc = "What it printed as errors." },
    FIELD_ENUM(T, stdout_encoding, enum encoding, 0, .names = encodings, .doc = "How stdout is written here; base64 where it is not text."),
    FIELD_ENUM(T, stderr_encoding, enum encoding, 0, .names = encodings, .doc = "How stderr is written here."),
    FIELD_BOOL(T, timed_out, 0, .doc = "It was killed because its time was up."),
    FIELD_BOOL(T, truncated, 0, .doc = "It printed more than is shown: 1 MiB each of stdout and stderr."),
};
#undef T
/* clang-format on */
const struct record instance_exec_result_record =
    RECORD(instance_exec_result, NULL, instance_exec_result_fields);

int instance_stats(struct call *c, struct err *e)
{
    struct instance i;
    struct compute_stats s = { 0 };

    TRY(instance_there(c, &i, e));
    TRY(compute_stats_of(app_compute(c->app, i.mode), &i.id, &s, e));
    return reply_row(c, &compute_stats_record, &s);
}

/* Where output was cut, the last character may be too. */
static struct str without_half(struct str s)
{
    size_t tail = 0, whole = 0;

    while (tail < 3 && tail + 1 < s.n && ((uint8_t)s.p[s.n - 1 - tail] & 0xc0) == 0x80)
        tail++;
    if (tail < s.n) {
        uint8_t first = (uint8_t)s.p[s.n - 1 - tail];
        whole = first < 0xc2 || first > 0xf4 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    }
    if (whole > tail + 1)
        s.n -= tail + 1;
    return s;
}

static const char *show_bytes(struct call *c, struct str s, bool cut, enum encoding wanted,
                              enum encoding *as)
{
    struct str text = cut ? without_half(s) : s;

    *as = wanted;
    if (wanted == ENCODING_UTF8 && utf8_valid(text) && (!text.n || !memchr(text.p, '\0', text.n)))
        return arena_dup(c->arena, text.p, text.n);
    *as = ENCODING_BASE64;
    return base64_encode(c->arena, s.p, s.n, false);
}

/* As it was meant; no text of its own where it is no base64. */
static struct str input_of(struct arena *a, const struct instance_exec *in)
{
    struct str text = str_of(in->input);

    if (in->input_encoding == ENCODING_BASE64 && text.n)
        text.p = base64_decode(a, text, false, &text.n);
    return text;
}

void instance_exec_check(struct call *c)
{
    const struct instance_exec *in = c->in;

    if (in->input && !input_of(c->arena, in).p)
        fault_add(c, "input", "malformed", "must be base64");
}

static bool nobody_waits(void *call)
{
    return call_gone(call);
}

int instance_exec(struct call *c, struct err *e)
{
    const struct instance_exec *in = c->in;
    struct instance i;
    struct compute_exec x = { .cmd = in->cmd,
                              .input = input_of(c->arena, in),
                              .env = in->env,
                              .cwd = in->cwd,
                              .timeout = SECONDS(in->timeout),
                              .kill_background = in->kill_background,
                              .gone = nobody_waits,
                              .gone_ctx = c };
    struct compute_exec_result r;

    TRY(instance_there(c, &i, e));
    if (i.status != INSTANCE_RUNNING)
        return err_set(e, ERR_INVALID_STATE, "instance '%s' is not running", i.name);
    TRY(call_claim(c, e));
    TRY(compute_exec_in(app_compute(c->app, i.mode), c->arena, &i.id, &x, &r, e));
    if (r.cwd_fault) {
        fault_add(c, "cwd", "not_found", "%s: %s", in->cwd ? in->cwd : "the image's folder",
                  r.cwd_fault);
        return call_faults(c, e);
    }
    struct instance_exec_result out = { .exit_code = r.exit_code,
                                        .timed_out = r.timed_out,
                                        .truncated = r.out_cut || r.err_cut };
    out.stdout_text = show_bytes(c, r.out, r.out_cut, in->output_encoding, &out.stdout_encoding);
    out.stderr_text = show_bytes(c, r.err, r.err_cut, in->output_encoding, &out.stderr_encoding);
    return reply_row(c, &instance_exec_result_record, &out);
}

int instance_console(struct call *c, struct err *e)
{
    struct instance i;

    TRY(instance_there(c, &i, e));
    return err_set(
        e, ERR_NOT_IMPLEMENTED,
        "a container has no VNC console: use exec and logs; virtual machines are not built yet");
}
