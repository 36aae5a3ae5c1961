/* SPDX-License-Identifier: Apache-2.0 */
/* A host tells of exits as they happen.  When contact was lost, and at the start, something may
 * have happened unheard: then every instance the host has is looked at once. */
#include "roles/hosts.h"

#include <pthread.h>
#include <stdatomic.h>

#include "drivers/compute/compute.h"
#include "os/thread.h"
#include "services/compute/compute.h"

enum { WAIT_MS = 500, RETRY_MS = 200 };

struct hosts {
    struct app *app;
    struct compute *live;
    pthread_t thread;
    atomic_bool stopping;
};

static bool look_at_all(struct hosts *h)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(64));
    struct compute_state *all = NULL;
    size_t n = 0;
    struct err e;

    if (compute_list(h->live, &a, &all, &n, &e) < 0)
        return false;
    for (size_t i = 0; i < n; i++)
        compute_changed(h->app, &all[i].id);
    return true;
}

static void *listen_on(void *arg)
{
    struct hosts *h = arg;
    bool contact = false;

    while (!atomic_load(&h->stopping)) {
        struct uuid id;
        struct err e;

        if (!contact && !(contact = look_at_all(h))) {
            usleep(RETRY_MS * 1000);
            continue;
        }
        int rc = compute_watch(h->live, MILLIS(WAIT_MS), &id, &e);
        if (rc == COMPUTE_CHANGED)
            compute_changed(h->app, &id);
        if (rc > 0)
            instance_printed(h->app, &id);
        contact = rc >= 0;
    }
    return NULL;
}

struct hosts *hosts_new(struct app *app)
{
    struct hosts *h = calloc(1, sizeof(*h));

    if (!h)
        abort();
    h->app = app;
    h->live = app_compute(app, MODE_LIVE);
    h->thread = thread_start("hosts", listen_on, h);
    return h;
}

void hosts_free(struct hosts *h)
{
    if (!h)
        return;
    atomic_store(&h->stopping, true);
    pthread_join(h->thread, NULL);
    free(h);
}
