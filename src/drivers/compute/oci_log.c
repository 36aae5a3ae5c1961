/* SPDX-License-Identifier: Apache-2.0 */
/* An instance's log is its shim's folder; it is followed until the instance is gone. */
#include "drivers/compute/logbook.h"
#include "drivers/compute/oci_impl.h"

struct whose {
    struct oci *o;
    const struct uuid *id;
};

static bool is_known(void *ctx)
{
    const struct whose *w = ctx;
    OCI_LOCK(w->o);

    return map_get(w->o->instances, w->id->s, strlen(w->id->s)) != NULL;
}

int oci_logs(struct compute *h, const struct uuid *id, const struct compute_log_opts *opts,
             compute_line_fn *fn, void *ctx, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(KIB(16));
    struct whose w = { oci_of(h), id };
    struct logbook b = { oci_path(w.o, &a, id, "log"), is_known, &w };

    if (!is_known(&w))
        return err_set(e, ERR_NOT_FOUND, "the host has no such instance");
    return logbook_read(&b, opts, fn, ctx, e);
}
