/* SPDX-License-Identifier: Apache-2.0 */
/* An instance's log is its shim's folder.  Hides how who follows hears that there is more: the
 * folder is watched from each look on until something is written, once. */
#include <sys/epoll.h>
#include <sys/inotify.h>

#include "drivers/compute/logbook.h"
#include "drivers/compute/oci_impl.h"

/* Before the look, so that nothing comes in between unheard of.  Where it cannot be watched, who
 * follows looks again by himself. */
static void watch(struct oci *o, const char *dir, const struct uuid *id)
{
    OCI_LOCK(o);
    int wd = inotify_add_watch(o->printed, dir, IN_MODIFY | IN_CREATE | IN_ONESHOT);
    struct uuid *whose = wd < 0 ? NULL : map_get(o->followed, &wd, sizeof(wd));

    if (wd < 0 || whose)
        return;
    whose = malloc(sizeof(*whose));
    if (!whose)
        abort();
    *whose = *id;
    map_set(o->followed, &wd, sizeof(wd), whose);
}

void oci_printed(struct oci *o)
{
    _Alignas(struct inotify_event) char text[4096];
    ssize_t n = read(o->printed, text, sizeof(text));
    OCI_LOCK(o);

    for (ssize_t at = 0; at < n;) {
        struct inotify_event ev;
        memcpy(&ev, text + at, sizeof(ev));
        struct uuid *whose = map_del(o->followed, &ev.wd, sizeof(ev.wd));
        if (whose)
            oci_push_event(o, whose, COMPUTE_PRINTED);
        free(whose);
        at += (ssize_t)(sizeof(ev) + ev.len);
    }
    pthread_cond_broadcast(&o->changed);
}

int oci_logs(struct compute *h, const struct uuid *id, const struct compute_log_opts *opts,
             compute_line_fn *fn, void *ctx, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(KIB(16));
    struct oci *o = oci_of(h);
    const char *dir = oci_path(o, &a, id, "log");
    bool known;

    {
        OCI_LOCK(o);
        known = map_get(o->instances, id->s, strlen(id->s)) != NULL;
    }
    if (!known)
        return err_set(e, ERR_NOT_FOUND, "the host has no such instance");
    if (opts->follow)
        watch(o, dir, id);
    return logbook_read(dir, opts, fn, ctx, e);
}

int oci_logs_begin(struct oci *o, struct err *e)
{
    struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &o->printed };

    o->followed = map_new();
    o->printed = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (o->printed < 0 || epoll_ctl(o->epoll, EPOLL_CTL_ADD, o->printed, &ev) < 0)
        return err_sys(e, errno, "inotify");
    return 0;
}

void oci_logs_end(struct oci *o)
{
    size_t at = 0, n;
    const void *key;
    void *value;

    while (o->followed && map_next(o->followed, &at, &key, &n, &value))
        free(value);
    map_free(o->followed);
    if (o->printed >= 0)
        close(o->printed);
}
