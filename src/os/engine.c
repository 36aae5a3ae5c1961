/* SPDX-License-Identifier: Apache-2.0 */
/* Hides the dynamic linker.  A library stays open until the process ends, for others may have
 * pointers into it. */
#include "os/engine.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>

static int fill(const char *file, const char *const *names, void *table, struct err *e)
{
    void *lib = dlopen(file, RTLD_NOW | RTLD_LOCAL);

    if (!lib)
        return err_cause(e, ERR_ENGINE_UNAVAILABLE, dlerror(), "this machine lacks %s", file);
    for (size_t i = 0; names[i]; i++) {
        void *f = dlsym(lib, names[i]);
        if (!f)
            return err_set(e, ERR_ENGINE_UNAVAILABLE, "%s of this machine has no %s", file,
                           names[i]);
        memcpy((char *)table + i * sizeof(f), &f, sizeof(f));
    }
    return 0;
}

int engine_open(const char *file, const char *const *names, void *table, _Atomic int *opened,
                struct err *e)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    int r = 0;

    if (atomic_load_explicit(opened, memory_order_acquire))
        return 0;
    pthread_mutex_lock(&lock);
    if (!atomic_load(opened) && (r = fill(file, names, table, e)) == 0)
        atomic_store(opened, 1);
    pthread_mutex_unlock(&lock);
    return r;
}
