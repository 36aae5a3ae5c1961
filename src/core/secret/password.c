/* SPDX-License-Identifier: Apache-2.0 */
/* Passwords: argon2id, and never so many at once that a storm of log-ins takes every core.  The
 * limit is of the process, as the cores are. */
#include <pthread.h>
#include <sodium.h>

#include "core/config/config.h"
#include "core/service.h"

static struct {
    pthread_mutex_t lock;
    pthread_cond_t free;
    int busy;
} gate = { .lock = PTHREAD_MUTEX_INITIALIZER, .free = PTHREAD_COND_INITIALIZER };

static void gate_enter(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int most = cores > 3 ? (int)(cores / 2) : 1;

    pthread_mutex_lock(&gate.lock);
    while (gate.busy >= most)
        pthread_cond_wait(&gate.free, &gate.lock);
    gate.busy++;
    pthread_mutex_unlock(&gate.lock);
}

static void gate_leave(void)
{
    pthread_mutex_lock(&gate.lock);
    gate.busy--;
    pthread_cond_signal(&gate.free);
    pthread_mutex_unlock(&gate.lock);
}

const char *app_password_hash(struct app *app, struct arena *a, const char *password)
{
    const struct config *cf = app_config(app);
    char *out = arena_alloc(a, crypto_pwhash_STRBYTES);

    gate_enter();
    int rc =
        crypto_pwhash_str(out, password, strlen(password), (unsigned long long)cf->argon2_passes,
                          (size_t)cf->argon2_memory_kib * 1024);
    gate_leave();
    return rc == 0 ? out : NULL;
}

bool app_password_verify(struct app *app, const char *hash, const char *password)
{
    const struct config *cf = app_config(app);
    char unused[crypto_pwhash_STRBYTES];
    bool ok = false;

    gate_enter();
    if (hash)
        ok = crypto_pwhash_str_verify(hash, password, strlen(password)) == 0;
    else if (crypto_pwhash_str(unused, password, strlen(password),
                               (unsigned long long)cf->argon2_passes,
                               (size_t)cf->argon2_memory_kib * 1024) != 0)
        ok = false;
    gate_leave();
    return ok;
}
