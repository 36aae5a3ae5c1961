/* SPDX-License-Identifier: Apache-2.0 */
/* Takes one instance one step towards what its row wants, by orders to its host.
 *
 * A visit looks at how things are, so it may come twice, late or after a crash.  The order of a row
 * that stays is compute_ensure; of one that was deleted compute_destroy, and then the row goes and
 * leaves a grave.  An id without a row is destroyed only where a grave proves that it was deleted:
 * a store restored from an old backup must not destroy what it has never heard of. */
#include "codec/id.h"
#include "services/compute/compute_private.h"

enum {
    IMAGE_WAIT_MS = 250,
    SOON_SECONDS = 10, /* a command that ends sooner after its start has failed at once */
    MOST_FAILURES = 5, /* such ends in a row before it is an error */
    MOST_BACKOFF_SECONDS = 60,
    GRACE_SECONDS = 10,
    GRAVE_DAYS = 7,
    ERROR_AGAIN_SECONDS = 30,
    MOST_SILENCES = 5, /* about half a minute: the agent begins after the api */
    NO_WAIT = -1,
};

/* Both records have the same fields. */
static uint64_t moved_fields(void)
{
    return FIELD_SET(instance, status, status_reason, started_at, exit_code, restart_count, boot,
                     failures, deadline_at, ports, want);
}

static int instance_moved(struct visit *v, struct call *c, void *arg, struct err *e)
{
    if (is_unit(v))
        TRY(unit_told(c, &v->id, e));
    return call_update(c, v->loop->record, v->row, arg, moved_fields(), e);
}

/* Writes what changed, if anything did. '*ran' is false when the row was changed meanwhile: come
 * again. */
static int instance_save(struct visit *v, struct instance *now, bool *ran, struct err *e)
{
    const struct instance *old = v->row;

    *ran = true;
    if (old->status == now->status && old->boot == now->boot && old->failures == now->failures &&
        old->started_at == now->started_at && old->deadline_at == now->deadline_at &&
        old->exit_code == now->exit_code && old->want == now->want &&
        same_text(old->status_reason, now->status_reason) && same_text(old->ports, now->ports))
        return 0;
    return visit_write(v, instance_moved, now, ran, e);
}

/* ---- gone */

struct grave {
    struct visit *v;
    enum mode mode;
    int64_t revision;
    bool found, destroyed;
};

static int grave_read(void *ctx, const struct col *cols, size_t n _unused_, struct err *e _unused_)
{
    struct grave *g = ctx;

    g->found = true;
    g->revision = cols[0].i;
    g->destroyed = cols[1].i != 0;
    g->mode = (enum mode)enum_from_str(mode_names, cols[2].s);
    return 0;
}

static const char sql_grave[] =
    "SELECT last_revision, destroyed, mode FROM instance_graves WHERE id = $1";
static const char sql_destroyed[] = "UPDATE instance_graves SET destroyed = TRUE WHERE id = $1";
static const char sql_old_graves[] =
    "DELETE FROM instance_graves WHERE deleted_at < $1 AND destroyed";

static int grave_close(struct call *c, void *arg, struct err *e)
{
    const struct grave *g = arg;

    TRY(network_address_release(c, &g->v->id, e));
    TRY(db_exec(c->db, sql_old_graves, ARGS(A(c->now - DAYS(GRAVE_DAYS))), e));
    call_signal(c, instance_log_topic(c->arena, &g->v->id));
    return db_exec(c->db, sql_destroyed, ARGS(A(&g->v->id)), e);
}

static const char sql_other[] = "SELECT (SELECT count(*) FROM instances WHERE id = $1) +"
                                " (SELECT count(*) FROM unit_instances WHERE id = $1)";

/* Without a grave it is of the other loop, whose row it has, or nobody's. */
static int ungraved_visit(struct visit *v, struct err *e)
{
    int64_t rows;

    TRY(db_int(v->db, sql_other, ARGS(A(&v->id)), 0, &rows, e));
    if (!rows)
        log_event(LOG_WARN, "unknown_instance_left_alone", L_STR("instance", v->id.s));
    return visit_forget(v);
}

/* The row is gone, so the grave says whether the host was a real one. */
static int gone_visit(struct visit *v, struct err *e)
{
    struct grave g = { .v = v };

    TRY(db_each(v->db, sql_grave, ARGS(A(&v->id)), grave_read, &g, e));
    if (!g.found)
        return ungraved_visit(v, e);
    int ending =
        compute_destroy(app_compute(v->app, g.mode), &v->id, g.revision, SECONDS(GRACE_SECONDS), e);
    TRY(ending);
    if (ending)
        return visit_again(v, SECONDS(1)); /* or earlier, when the host says that it has ended */
    if (!g.destroyed)
        TRY(app_write(v->app, grave_close, &g, e));
    return visit_forget(v);
}

/* ---- going: the row says that it was deleted, until the host has ended it */

static const char sql_bury[] =
    "INSERT INTO instance_graves (id, tenant_id, mode, project_id, vpc_id, last_revision, body,"
    " deleted_at, destroyed) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, TRUE)";

static int bury(struct call *c, const struct instance *i, const struct uuid *tenant,
                const char *body, struct err *e)
{
    TRY(db_exec(c->db, sql_old_graves, ARGS(A(c->now - DAYS(GRAVE_DAYS))), e));
    return db_exec(c->db, sql_bury,
                   ARGS(A(&i->id), A(tenant), A(enum_to_str(mode_names, (int)i->mode)),
                        A(&i->project_id), A(&i->vpc_id), A(i->revision), A(body), A(c->now)),
                   e);
}

/* The grave shows what it was, and proves to hosts that may still have something of it that it is
 * gone. */
static int instance_bury(struct call *c, struct instance *i, struct err *e)
{
    struct buf text = BUF(MIB(16));
    struct json_out o = JSON_OUT(&text);

    i->status = INSTANCE_TERMINATED;
    i->revision++;
    i->updated_at = c->now;
    i->user_data = NULL; /* a secret does not outlive its instance */
    json_dump_row(&o, &instance_record, i);
    bool whole = json_done(&o) == 0;
    const char *body = whole ? arena_dup(c->arena, text.p, text.n) : NULL;
    buf_free(&text);
    if (!whole)
        return err_cause(e, ERR_INTERNAL, "a grave's body is too large", "internal error");
    return bury(c, i, &i->tenant_id, body, e);
}

/* A unit's proves, and shows nobody anything. */
static int unit_bury(struct call *c, struct instance *i, struct err *e)
{
    i->revision++;
    TRY(unit_told(c, &i->id, e));
    TRY(unit_forget(c, &i->id, e));
    return bury(c, i, &i->id, "", e);
}

/* All that it held is free, and what waited for it to go is looked at. */
static int instance_gone(struct visit *v, struct call *c, void *arg _unused_, struct err *e)
{
    struct instance i = *(const struct instance *)v->row;

    TRY(call_delete(c, v->loop->record, &i, e));
    if (!uuid_is_nil(&i.image_id))
        TRY(image_left(c, &i.image_id,
                       e)); /* before the quotas: a launch locks them in this order */
    if (!is_unit(v))
        TRY(quota_take(c, &quota_instances, -1, e));
    TRY(instance_resized(c, &i, 0, 0, e));
    TRY(network_address_release(c, &i.id, e));
    return is_unit(v) ? unit_bury(c, &i, e) : instance_bury(c, v->row, e);
}

/* It is not ended, and its time is over: the row says so, and the host is asked for as long as it
 * takes. */
static int ended_late(struct visit *v, struct instance *now, struct err *e)
{
    bool ran;

    if (now->status == INSTANCE_ERROR || v->now <= now->deadline_at)
        return 0;
    now->status = INSTANCE_ERROR;
    now->status_reason = "it was not terminated in time; its host is still asked to";
    return instance_save(v, now, &ran, e);
}

static int terminating_visit(struct visit *v, struct instance *now, struct err *e)
{
    int ending = compute_destroy(app_compute(v->app, v->mode), &now->id, now->revision,
                                 SECONDS(GRACE_SECONDS), e);
    struct err why = *e;
    bool ran;

    if (ending) {
        TRY(ended_late(v, now, e));
        *e = why;
        return ending < 0 ? -1 : visit_again(v, SECONDS(1));
    }
    TRY(visit_write(v, instance_gone, NULL, &ran, e));
    return ran ? visit_forget(v) : visit_again(v, 0);
}

/* ---- there */

static void image_failed(struct visit *v, struct instance *now, const struct image *image)
{
    now->status = INSTANCE_ERROR;
    now->status_reason =
        arena_printf(v->arena, "image '%s': %s", image->name,
                     image->status_reason ? image->status_reason : "it could not be made");
    now->deadline_at = 0;
}

/* The image is not there yet: the instance waits, unless it is not to run any more. */
static void image_awaited(struct visit *v, struct instance *now, const struct image *image)
{
    if (now->want == COMPUTE_WANT_STOPPED) {
        now->status = INSTANCE_STOPPED;
        now->status_reason = NULL;
        now->deadline_at = 0;
        return;
    }
    now->status_reason = arena_printf(v->arena, "waiting for image '%s' (%lld %%%s%s)", image->name,
                                      (long long)image->progress, image->status_reason ? ": " : "",
                                      image->status_reason ? image->status_reason : "");
}

/* A host name has 63 bytes, an instance's name may have 64; a unit's may go on behind a dot. */
static const char *host_name(struct arena *a, const char *name)
{
    return arena_dup(a, name, MIN(strcspn(name, "."), (size_t)63));
}

static int spec_fill(struct visit *v, const struct instance *i, const struct image *image,
                     struct compute_spec *s, struct err *e)
{
    *s = (struct compute_spec){
        .id = i->id,
        .revision = i->revision,
        .want = i->want,
        .boot = i->boot,
        .name = host_name(v->arena, i->name),
        .image = image->digest,
        .entrypoint = i->entrypoint,
        .cmd = i->cmd,
        .env = i->env,
        .user_data = i->user_data,
        .cpu_milli = i->cpu_limit,
        .memory_mb = i->memory_limit,
        .disk_mb = i->disk_limit * 1024,
        .pids = 1024,
        .network_mbps = i->network_limit,
        .vpc_id = i->vpc_id,
        .vpc_cidr = i->vpc_cidr,
        .subnet_cidr = i->subnet_cidr,
        .ip = i->private_ip,
        .gateway = i->gateway_ip,
        .dns = i->dns_ip,
        .ports = ports_for_host(v->arena, i->ports),
    };
    return is_unit(v) ? unit_spec_fill(v, s, e) : 0;
}

static const char *ended_how(struct arena *a, const struct compute_state *s)
{
    if (s->oom_killed)
        return "its command used more memory than the instance type has, and was killed";
    if (s->exit_code < 0)
        return "its command ended; how is not known";
    if (s->exit_code >= 128)
        return arena_printf(a, "its command was killed by signal %lld",
                            (long long)s->exit_code - 128);
    return arena_printf(a, "its command ended with code %lld", (long long)s->exit_code);
}

/* Its command has ended by itself: the restart policy decides.  Returns the wait before the next
 * visit, 0 for none. */
static int64_t ended(struct visit *v, struct instance *now, const struct compute_state *s)
{
    const char *how = ended_how(v->arena, s);
    bool failed = s->exit_code != 0 || s->oom_killed;
    bool soon = s->finished_at - s->started_at < SECONDS(SOON_SECONDS);

    now->exit_code = s->exit_code;
    if (now->status == INSTANCE_RESTARTING && v->now < now->deadline_at)
        return now->deadline_at - v->now;
    if (now->status == INSTANCE_RESTARTING && now->deadline_at) {
        now->boot++;
        now->restart_count++;
        now->deadline_at = 0;
        now->status_reason = arena_printf(v->arena, "being started again: %s", how);
        return 0;
    }
    now->failures = soon ? now->failures + 1 : 1;
    if (now->restart_policy == RESTART_NEVER ||
        (now->restart_policy == RESTART_ON_FAILURE && !failed)) {
        now->status = failed ? INSTANCE_ERROR : INSTANCE_STOPPED;
        now->want = COMPUTE_WANT_STOPPED;
        now->status_reason = how;
        return NO_WAIT;
    }
    if (now->failures >= MOST_FAILURES) {
        now->status = INSTANCE_ERROR;
        now->status_reason =
            arena_printf(v->arena, "%s, %d times in a row; see its logs", how, MOST_FAILURES);
        return NO_WAIT;
    }
    int64_t wait = MIN(SECONDS(1) << (now->failures - 1), SECONDS(MOST_BACKOFF_SECONDS));
    now->status = INSTANCE_RESTARTING;
    now->deadline_at = v->now + wait;
    now->status_reason = arena_printf(v->arena, "%s; it is started again in %lld s", how,
                                      (long long)(wait / SECONDS(1)));
    return wait;
}

/* What the host says, as the row's status.  Returns the wait before the next visit, NO_WAIT for
 * none. */
static int64_t take_state(struct visit *v, struct instance *now, const struct compute_state *s)
{
    const char *ports = ports_from_host(v->arena, s->ports);

    if (ports)
        now->ports = ports;
    if (s->started_at)
        now->started_at = s->started_at;
    switch (s->status) {
    case COMPUTE_RUNNING:
        now->status = INSTANCE_RUNNING;
        now->status_reason = NULL;
        now->deadline_at = 0;
        return NO_WAIT;
    case COMPUTE_PAUSED:
        now->status = INSTANCE_PAUSED;
        now->status_reason = NULL;
        now->deadline_at = 0;
        return NO_WAIT;
    case COMPUTE_STOPPED:
        if (now->status != INSTANCE_STOPPED)
            now->status_reason = NULL; /* else it says how the command ended */
        now->status = INSTANCE_STOPPED;
        now->deadline_at = 0;
        if (s->finished_at)
            now->exit_code = s->exit_code;
        return NO_WAIT;
    case COMPUTE_EXITED:
        if (now->want == COMPUTE_WANT_RUNNING)
            return ended(v, now, s);
        now->status = INSTANCE_STOPPED;
        now->status_reason = ended_how(v->arena, s);
        now->deadline_at = 0;
        now->exit_code = s->exit_code;
        return NO_WAIT;
    case COMPUTE_FAILED:
        now->status = INSTANCE_ERROR;
        now->status_reason = s->reason ? s->reason : "the host could not start it";
        now->deadline_at = 0;
        return NO_WAIT;
    case COMPUTE_STOPPING:
        return SECONDS(1); /* or earlier, when the host says that it has ended */
    case COMPUTE_ABSENT:
    case COMPUTE_CREATING:
        break;
    }
    return MILLIS(IMAGE_WAIT_MS);
}

/* Ended already, perhaps, since the host was asked: so a young grave counts too. */
static const char sql_ending[] =
    "SELECT (SELECT count(*) FROM instances WHERE deleted_at > 0) +"
    " (SELECT count(*) FROM unit_instances WHERE deleted_at > 0) +"
    " (SELECT count(*) FROM instance_graves WHERE NOT destroyed OR deleted_at > $1)";

/* The host says that something is taken, a port.  While deleted instances are still being ended it
 * may be one of theirs: '*wait' then, and the reason says so. */
static int taken(struct visit *v, struct instance *now, bool *wait, struct err *e)
{
    const char *what = arena_strdup(v->arena, e->msg);
    struct err why = *e;
    int64_t ending;

    TRY(db_int(v->db, sql_ending, ARGS(A(v->now - SECONDS(GRACE_SECONDS))), 0, &ending, e));
    *e = why;
    *wait = ending > 0;
    if (*wait)
        now->status_reason = arena_printf(v->arena, "waiting: %s", what);
    return 0;
}

/* The host refused for good: the reason is the row's.  ERR_INVALID_STATE is no such refusal: the
 * host has seen a newer order than this one. */
static int refused(struct visit *v, struct instance *now, struct err *e)
{
    if (err_retry(e->code) || e->code == ERR_INTERNAL || e->code == ERR_INVALID_STATE)
        return -1;
    now->status = INSTANCE_ERROR;
    now->status_reason = arena_strdup(v->arena, e->msg);
    now->deadline_at = 0;
    return 0;
}

/* 1: it is being ended.  In error nothing runs.  What has never run leaves nothing behind; what has
 * run keeps its files and its logs until it is deleted, whatever a later start came to. */
static int error_on_host(struct visit *v, const struct instance *now, const struct image *image,
                         bool died, struct err *e)
{
    struct compute_spec spec;
    struct compute_state state;

    if (!now->started_at)
        return compute_destroy(app_compute(v->app, v->mode), &now->id, now->revision, 0, e);
    if (died || !image->digest)
        return 0;
    TRY(spec_fill(v, now, image, &spec, e));
    spec.want = COMPUTE_WANT_STOPPED;
    TRY(compute_ensure(app_compute(v->app, v->mode), v->arena, &spec, &state, e));
    return state.status == COMPUTE_STOPPING;
}

/* The row says so also while the host does not answer; until it has, 'deadline_at' is set. */
static int error_visit(struct visit *v, struct instance *now, const struct image *image, bool died,
                       struct err *e)
{
    int ending = error_on_host(v, now, image, died, e);
    bool done = ending == 0, ran;
    int64_t again = ending > 0 ? SECONDS(1) : SECONDS(ERROR_AGAIN_SECONDS);

    if (ending < 0)
        log_err(LOG_WARN, "instance_in_error_not_stopped", e);
    now->deadline_at = done ? 0 : now->deadline_at ? now->deadline_at : v->now;
    TRY(instance_save(v, now, &ran, e));
    return ran && done ? visit_settled(v) : visit_again(v, ran ? again : 0);
}

/* Each way from a state to another takes its time, and no more: why it is an error now, or NULL.
 * The deadline of a restart is counted from its last sign of life, for 'deadline_at' says when it
 * begins. */
static const char *too_late(const struct visit *v, const struct instance *i)
{
    static const char *const verbs[] = { [COMPUTE_WANT_RUNNING] = "it was not resumed in time",
                                         [COMPUTE_WANT_STOPPED] = "it was not stopped in time",
                                         [COMPUTE_WANT_PAUSED] = "it was not paused in time" };
    enum compute_want is =
        i->status == INSTANCE_PAUSED ? COMPUTE_WANT_PAUSED : COMPUTE_WANT_RUNNING;

    if (i->status == INSTANCE_RESTARTING)
        return v->now > MAX(i->updated_at, i->deadline_at) + MINUTES(TRANSITION_MINUTES)
                   ? i->want == COMPUTE_WANT_RUNNING ? "it was not started again in time"
                                                     : verbs[i->want]
                   : NULL;
    if (!i->deadline_at || v->now <= i->deadline_at)
        return NULL;
    if (i->status == INSTANCE_PROVISIONING)
        return i->want == COMPUTE_WANT_RUNNING ? "it was not ready in time" : verbs[i->want];
    bool moving = (i->status == INSTANCE_RUNNING || i->status == INSTANCE_PAUSED) && i->want != is;
    return moving ? verbs[i->want] : NULL;
}

/* What was asked for has not come to be: an error, if its time is over.  Asked only after a try,
 * for the time may have passed while nobody could try. */
static bool gives_up(const struct visit *v, struct instance *now)
{
    const char *late = too_late(v, now);

    if (late) {
        now->status = INSTANCE_ERROR;
        now->status_reason = late;
    }
    return late != NULL;
}

static const char sql_image_locked[] = "SELECT @ FROM images WHERE id = $1 /*pg: FOR UPDATE */";

/* The host does not have the image that its row says is ready: it is got anew.  Its digest stays,
 * for instances that were made from it name it. */
static int image_again(struct visit *v _unused_, struct call *c, void *arg, struct err *e)
{
    const struct uuid *id = arg;
    struct image old, now;

    TRY(db_one(c->db, c->arena, &image_record, sql_image_locked, ARGS(A(id)), &old, e));
    if (old.status != IMAGE_ROW_READY)
        return 0;
    now = old;
    now.status = IMAGE_ROW_PENDING;
    TRY(call_update(c, &image_record, &old, &now, FIELD_SET(image, status), e));
    return call_due(c, &image_loop, id, c->now, e);
}

/* The host lacks the image. */
static int image_missing(struct visit *v, struct instance *now, struct image *image, struct err *e)
{
    bool ran;

    if (image->status == IMAGE_ROW_ERROR) {
        image_failed(v, now, image);
        return error_visit(v, now, image, false, e);
    }
    if (uuid_is_nil(&image->id))
        TRY(unit_image_again(v, now, e));
    else
        TRY(visit_write(v, image_again, &image->id, &ran, e));
    return visit_again(v, MILLIS(IMAGE_WAIT_MS));
}

/* The order did not reach the host, or was not carried out: the reason is 'e'. */
static int not_ensured(struct visit *v, struct instance *now, struct image *image, struct err *e)
{
    bool again = false, ran;

    if (e->code == ERR_NOT_FOUND && image->source != IMAGE_IMPORT)
        return gives_up(v, now) ? error_visit(v, now, image, false, e)
                                : image_missing(v, now, image, e);
    if (e->code == ERR_ALREADY_EXISTS)
        TRY(taken(v, now, &again, e));
    if (again && !gives_up(v, now)) {
        TRY(instance_save(v, now, &ran, e));
        return visit_again(v, MILLIS(IMAGE_WAIT_MS));
    }
    if (!again && refused(v, now, e) < 0 && (v->attempts < MOST_SILENCES || !gives_up(v, now)))
        return -1;
    return error_visit(v, now, image, false, e);
}

static int ensure_visit(struct visit *v, struct instance *now, struct image *image, struct err *e)
{
    struct compute_spec spec;
    struct compute_state state = { 0 };
    int64_t wait = 0;
    bool ran;

    TRY(spec_fill(v, now, image, &spec, e));
    if (compute_ensure(app_compute(v->app, v->mode), v->arena, &spec, &state, e) < 0)
        return not_ensured(v, now, image, e);
    wait = take_state(v, now, &state);
    bool moving = state.status == COMPUTE_ABSENT || state.status == COMPUTE_CREATING ||
                  state.status == COMPUTE_STOPPING;
    if (moving && gives_up(v, now))
        return error_visit(v, now, image, false, e);
    if (now->status == INSTANCE_ERROR)
        return error_visit(v, now, image, state.status == COMPUTE_EXITED, e);
    TRY(instance_save(v, now, &ran, e));
    if (!ran)
        return visit_again(v, 0);
    return wait == NO_WAIT ? visit_settled(v) : visit_again(v, wait);
}

/* It has not run yet, or is to run again: its image must be there, in time. */
static int provisioning_visit(struct visit *v, struct instance *now, struct image *image,
                              struct err *e)
{
    bool ran;

    if (image->status == IMAGE_ROW_READY)
        return ensure_visit(v, now, image, e);
    if (image->status == IMAGE_ROW_ERROR) {
        image_failed(v, now, image);
        return error_visit(v, now, image, false, e);
    }
    image_awaited(v, now, image);
    if (gives_up(v, now))
        return error_visit(v, now, image, false, e);
    TRY(instance_save(v, now, &ran, e));
    if (ran && now->status == INSTANCE_STOPPED)
        return visit_settled(v);
    return visit_again(v, MILLIS(IMAGE_WAIT_MS));
}

static int image_of(struct visit *v, const struct instance *i, struct image *out, struct err *e)
{
    if (uuid_is_nil(&i->image_id))
        return unit_image(v, i, out, e);
    return db_one(v->db, v->arena, &image_record, "SELECT @ FROM images WHERE id = $1",
                  ARGS(A(&i->image_id)), out, e);
}

/* What becomes of the image's row does not matter to an instance that has been made. */
int instance_visit(struct visit *v, struct err *e)
{
    struct instance now;
    struct image image;

    if (!v->row)
        return gone_visit(v, e);
    now = *(struct instance *)v->row;
    if (now.deleted_at)
        return terminating_visit(v, &now, e);
    if (now.status == INSTANCE_ERROR && !now.deadline_at)
        return visit_settled(v);
    if (now.status == INSTANCE_PENDING)
        now.status = INSTANCE_PROVISIONING;
    TRY(image_of(v, &now, &image, e));
    if (now.status == INSTANCE_ERROR)
        return error_visit(v, &now, &image, false, e);
    if (now.status == INSTANCE_PROVISIONING)
        return provisioning_visit(v, &now, &image, e);
    if (!image.digest)
        return visit_settled(v); /* stopped before there was an image: no host knows of it */
    return ensure_visit(v, &now, &image, e);
}

const struct reconciler instance_loop = {
    .name = "instance",
    .record = &instance_record,
    .visit = instance_visit,
    .every = SECONDS(30),
    .budget = SECONDS(20),
    .backoff = { SECONDS(1), SECONDS(60) },
    .sweep =
        "SELECT id FROM instances UNION ALL SELECT id FROM instance_graves WHERE NOT destroyed",
};

void compute_changed(struct app *app, const struct uuid *id)
{
    reconcile_signal(app, &instance_loop, id);
    reconcile_signal(app, &unit_loop, id);
}
