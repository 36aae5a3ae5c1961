/* SPDX-License-Identifier: Apache-2.0 */
/* What each order does: members of its JSON to arguments of a driver, the result to frames. */
#include <time.h>

#include "codec/id.h"
#include "drivers/compute/server_impl.h"

enum {
    ROWS_A_FRAME = 200,
    BYTES_A_FRAME = FRAME_MAX / 2,
    PIECE_OF_LINES = 32 << 10,
};

static int need_id(struct job *j, const char *member, struct uuid *out, struct err *e)
{
    const char *s = json_str_of(json_get(j->order, member), NULL);

    if (!s || !uuid_parse(str_of(s), out))
        return err_set(e, ERR_INVALID, "the order has no '%s'", member);
    return 0;
}

static const char *text(struct job *j, struct arena *a, const char *member)
{
    return json_get_str(a, j->order, member, NULL);
}

static int need_text(struct job *j, struct arena *a, const char *member, const char **out,
                     struct err *e)
{
    *out = text(j, a, member);
    return *out ? 0 : err_set(e, ERR_INVALID, "the order has no '%s'", member);
}

static int answer_row(struct job *j, const struct record *r, const void *row, struct err *e)
{
    struct buf b = BUF(FRAME_MAX);
    struct json_out o = JSON_OUT(&b);

    json_dump_row(&o, r, row);
    int done = json_done(&o) < 0 ? err_set(e, ERR_TOO_LARGE, "the answer is too large")
                                 : stream_json(j->stream, &b, e);
    buf_free(&b);
    return done;
}

/* Arrays of rows, as many frames as it takes. */
static int answer_rows(struct job *j, const struct record *r, const void *rows, size_t n,
                       struct err *e)
{
    for (size_t i = 0; i < n;) {
        struct buf b = BUF(FRAME_MAX);
        struct json_out o = JSON_OUT(&b);

        json_open(&o, '[');
        for (size_t end = MIN(n, i + ROWS_A_FRAME); i < end && b.n < BYTES_A_FRAME; i++)
            json_dump_row(&o, r, (const char *)rows + i * r->size);
        json_close(&o);
        int done = json_done(&o) < 0 ? err_set(e, ERR_TOO_LARGE, "the answer is too large")
                                     : stream_json(j->stream, &b, e);
        buf_free(&b);
        TRY(done);
    }
    return 0;
}

/* ---- instances ---- */

static int run_ensure(struct job *j, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(32));
    struct compute_spec s = { 0 };
    struct compute_state st;
    const struct json_value *spec = json_get(j->order, "spec");

    if (!spec)
        return err_set(e, ERR_INVALID, "the order has no 'spec'");
    TRY(json_load_row(&a, &compute_spec_record, spec, &s, e));
    TRY(compute_ensure(j->server->compute, &a, &s, &st, e));
    return answer_row(j, &compute_state_record, &st, e);
}

static int run_inspect(struct job *j, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(8));
    struct compute_state st;
    struct uuid id;

    TRY(need_id(j, "id", &id, e));
    TRY(compute_inspect(j->server->compute, &a, &id, &st, e));
    return answer_row(j, &compute_state_record, &st, e);
}

static int run_destroy(struct job *j, struct err *e)
{
    struct compute_state st = { .status = COMPUTE_ABSENT };

    TRY(need_id(j, "id", &st.id, e));
    int ending = compute_destroy(j->server->compute, &st.id, json_get_int(j->order, "revision", 0),
                                 json_get_int(j->order, "grace", 0), e);
    TRY(ending);
    if (ending)
        st.status = COMPUTE_STOPPING;
    return answer_row(j, &compute_state_record, &st, e);
}

static int run_list(struct job *j, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(64));
    struct compute_state *all;
    size_t n;

    TRY(compute_list(j->server->compute, &a, &all, &n, e));
    return answer_rows(j, &compute_state_record, all, n, e);
}

static int run_stats(struct job *j, struct err *e)
{
    struct compute_stats st;
    struct uuid id;

    TRY(need_id(j, "id", &id, e));
    TRY(compute_stats_of(j->server->compute, &id, &st, e));
    return answer_row(j, &compute_stats_record, &st, e);
}

/* ---- streams ---- */

/* Lines gather until there is a piece, or nothing more to read for now. */
struct lines {
    struct job *job;
    struct buf b;
    int sent; /* -1: the other side wants no more, or cannot be reached */
    struct err *e;
};

static int send_lines(struct lines *x)
{
    if (x->sent == 0 && x->b.n)
        x->sent = stream_bytes(x->job->stream, buf_str(&x->b), -1, x->e);
    buf_clear(&x->b);
    return x->sent;
}

static int add_line(void *ctx, const struct compute_line *line)
{
    struct lines *x = ctx;
    bool idle = line->kind == COMPUTE_LINE_IDLE;

    if (server_closing(x->job->server))
        x->sent = err_set(x->e, ERR_ENGINE_UNAVAILABLE, "the agent is stopping");
    if (x->sent < 0)
        return -1;
    line_encode(line, &x->b);
    return idle || x->b.n >= PIECE_OF_LINES ? send_lines(x) : 0;
}

static int run_logs(struct job *j, struct err *e)
{
    struct compute_log_opts o = { .tail = json_get_int(j->order, "tail", -1),
                                  .since = json_get_int(j->order, "since", 0),
                                  .follow = json_get_bool(j->order, "follow", false) };
    const struct json_value *from = json_get(j->order, "from");
    struct err lost;
    struct lines x = { .job = j, .b = BUF(LINE_TEXT_MAX + PIECE_OF_LINES + KIB(1)), .e = &lost };
    struct uuid id;

    TRY(need_id(j, "id", &id, e));
    for (size_t k = 0; from && k < 2; k++) {
        o.from.file[k] = json_int_of(json_at(from, 2 * k));
        o.from.at[k] = json_int_of(json_at(from, 2 * k + 1));
    }
    int r = compute_logs(j->server->compute, &id, &o, add_line, &x, e);
    if (send_lines(&x) < 0 && r == 0) {
        *e = lost;
        r = -1;
    }
    buf_free(&x.b);
    return r;
}

struct incoming {
    struct stream *stream;
    struct message *m; /* partly used */
    size_t used;
    bool end;
};

/* The next bytes that the orderer sends: 0 at its END. */
static ssize_t read_stream(void *ctx, void *p, size_t n, struct err *e)
{
    struct incoming *in = ctx;

    while (!in->end && (!in->m || in->used == in->m->n)) {
        free(in->m);
        in->m = NULL;
        in->used = 0;
        if (stream_next(in->stream, SECONDS(120), &in->m) != 1)
            return err_set(e, ERR_ENGINE_UNAVAILABLE, "the upload broke off");
        in->end = in->m->kind == FRAME_END;
        if (in->m->kind == FRAME_JSON)
            return err_set(e, ERR_INVALID, "an upload holds what is no bytes");
    }
    if (in->end)
        return 0;
    size_t part = MIN(n, in->m->n - in->used);
    memcpy(p, in->m->p + in->used, part);
    in->used += part;
    return (ssize_t)part;
}

static int send_output(struct job *j, char kind, struct str s, struct err *e)
{
    char part[KIB(32)];

    part[0] = kind;
    while (s.n) {
        size_t n = MIN(s.n, sizeof(part) - 1);
        memcpy(part + 1, s.p, n);
        TRY(stream_bytes(j->stream, (struct str){ part, n + 1 }, SECONDS(60), e));
        s.p += n;
        s.n -= n;
    }
    return 0;
}

static bool is_cancelled(void *stream)
{
    return stream_cancelled(stream);
}

static int exec_in(struct job *j, struct arena *a, struct str input, struct err *e)
{
    struct compute_exec x = { .env = text(j, a, "env"), .cwd = text(j, a, "cwd"), .input = input };
    struct compute_exec_result r = { 0 };
    struct buf b = BUF(KIB(4));
    struct json_out o = JSON_OUT(&b);
    struct uuid id;

    TRY(need_id(j, "id", &id, e));
    TRY(need_text(j, a, "cmd", &x.cmd, e));
    x.timeout = json_get_int(j->order, "timeout", 0);
    x.kill_background = json_get_bool(j->order, "kill_background", false);
    x.gone = is_cancelled;
    x.gone_ctx = j->stream;
    TRY(compute_exec_in(j->server->compute, a, &id, &x, &r, e));
    TRY(send_output(j, 1, r.out, e));
    TRY(send_output(j, 2, r.err, e));
    json_open(&o, '{');
    json_kint(&o, "exit_code", r.exit_code);
    json_kbool(&o, "timed_out", r.timed_out);
    json_kbool(&o, "out_cut", r.out_cut);
    json_kbool(&o, "err_cut", r.err_cut);
    if (r.cwd_fault)
        json_kstr(&o, "cwd_fault", r.cwd_fault);
    json_close(&o);
    int done = stream_json(j->stream, &b, e);
    buf_free(&b);
    return done;
}

static int run_exec(struct job *j, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(32));
    struct incoming in = { .stream = j->stream };
    struct buf input = BUF(MIB(16));
    ssize_t n = 1;

    while (n > 0) {
        char *room = buf_room(&input, KIB(32));
        if (!room) {
            free(in.m);
            buf_free(&input);
            return err_set(e, ERR_TOO_LARGE, "the command's input is over 16 MiB");
        }
        n = read_stream(&in, room, KIB(32), e);
        buf_grew(&input, n > 0 ? (size_t)n : 0);
    }
    free(in.m);
    int r = n < 0 ? -1 : exec_in(j, &a, buf_str(&input), e);
    buf_free(&input);
    return r;
}

static int run_probe(struct job *j, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    struct compute_probe p = { .path = text(j, &a, "path") };
    const char *kind, *fault = NULL;
    struct buf b = BUF(KIB(4));
    struct json_out o = JSON_OUT(&b);
    struct uuid id;

    TRY(need_id(j, "id", &id, e));
    TRY(need_text(j, &a, "kind", &kind, e));
    int which = enum_from_str(compute_probe_names, kind);
    if (which < 0)
        return err_set(e, ERR_INVALID, "the probe is of no known kind");
    p.kind = (enum compute_probe_kind)which;
    p.port = json_get_int(j->order, "port", 0);
    p.timeout = json_get_int(j->order, "timeout", 0);
    TRY(compute_probe_in(j->server->compute, &a, &id, &p, &fault, e));
    json_open(&o, '{');
    if (fault)
        json_kstr(&o, "fault", fault);
    json_close(&o);
    int done = stream_json(j->stream, &b, e);
    buf_free(&b);
    return done;
}

static int send_event(struct job *j, const struct server_event *ev, struct err *e)
{
    struct buf b = BUF(KIB(1));
    struct json_out o = JSON_OUT(&b);

    json_open(&o, '{');
    json_kstr(&o, "id", ev->id.s);
    json_kbool(&o, "printed", ev->what == COMPUTE_PRINTED);
    json_close(&o);
    int r = stream_json(j->stream, &b, e);
    buf_free(&b);
    return r;
}

static int run_watch(struct job *j, struct err *e)
{
    struct compute_server *s = j->server;
    struct timespec until;

    pthread_mutex_lock(&s->lock);
    uint64_t seen = s->n_events;
    while (!s->closing) {
        if (seen == s->n_events) {
            clock_gettime(CLOCK_MONOTONIC, &until);
            until.tv_sec++;
            pthread_cond_timedwait(&s->cond, &s->lock, &until);
        }
        if (s->n_events - seen > SERVER_EVENTS)
            seen = s->n_events - SERVER_EVENTS;
        bool any = seen < s->n_events;
        struct server_event ev = s->events[seen % SERVER_EVENTS];
        seen += any;
        pthread_mutex_unlock(&s->lock);
        if (stream_cancelled(j->stream) || (any && send_event(j, &ev, e) < 0))
            return 0;
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return 0;
}

/* ---- images ---- */

static int run_image_ensure(struct job *j, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(8));
    struct image_state st = { 0 };
    const char *name;

    TRY(need_text(j, &a, "name", &name, e));
    TRY(image_ensure(j->server->images, &a, name, json_get_str(&a, j->order, "share", NULL),
                     json_get_bool(j->order, "again", false), &st, e));
    return answer_row(j, &image_state_record, &st, e);
}

static int run_image_inspect(struct job *j, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(8));
    struct image_state st = { 0 };
    const char *name;

    TRY(need_text(j, &a, "name", &name, e));
    TRY(image_inspect(j->server->images, &a, name, &st, e));
    return answer_row(j, &image_state_record, &st, e);
}

static int run_image_list(struct job *j, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(64));
    struct image_state *all;
    size_t n;

    TRY(image_list(j->server->images, &a, &all, &n, e));
    return answer_rows(j, &image_state_record, all, n, e);
}

static int run_image_remove(struct job *j, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(8));
    const char *name;

    TRY(need_text(j, &a, "name", &name, e));
    return image_remove(j->server->images, name, e);
}

static int run_image_import(struct job *j, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(8));
    struct incoming in = { .stream = j->stream };
    struct image_state st = { 0 };
    const char *name, *format;

    TRY(need_text(j, &a, "name", &name, e));
    TRY(need_text(j, &a, "format", &format, e));
    bool tar = strcmp(format, "rootfs_tar") == 0;
    if (!tar && strcmp(format, "oci_archive") != 0)
        return err_set(e, ERR_INVALID, "the image is of no known format");
    int r = image_import(j->server->images, &a, name, tar ? IMAGE_ROOTFS_TAR : IMAGE_OCI_ARCHIVE,
                         text(j, &a, "config"), read_stream, &in, &st, e);
    free(in.m);
    return r < 0 ? -1 : answer_row(j, &image_state_record, &st, e);
}

/* clang-format off */
static const struct order_kind kinds[] = {
    { "ensure",        false, run_ensure },
    { "inspect",       false, run_inspect },
    { "destroy",       false, run_destroy },
    { "list",          false, run_list },
    { "stats",         false, run_stats },
    { "logs",          true,  run_logs },
    { "exec",          true,  run_exec },
    { "probe",         true,  run_probe },
    { "watch",         true,  run_watch },
    { "image_ensure",  false, run_image_ensure },
    { "image_inspect", false, run_image_inspect },
    { "image_list",    false, run_image_list },
    { "image_remove",  false, run_image_remove },
    { "image_import",  true,  run_image_import },
};
/* clang-format on */

const struct order_kind *server_order_kind(const char *name)
{
    for (size_t i = 0; name && i < ARRAY_LEN(kinds); i++)
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    return NULL;
}
