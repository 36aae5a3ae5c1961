/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The application's parts, for services. */

#include "core/service/owned.h"

struct call;
struct clock;
struct config;
struct driver_class; /* base/driver.h */
struct settings;     /* base/setting.h */
struct store;

struct store *app_store(struct app *app);
struct clock *app_clock(struct app *app);
const struct config *app_config(struct app *app);
/* Wakes whoever is parked on 'topic', where no commit does (call_signal()). */
void app_signal(struct app *app, const char *topic);
/* The values in force of a table of settings, a service's or a class of drivers'; they stay as they
 * are until the end, also when others come into force. */
const void *app_settings(struct app *app, const struct settings *of);
/* The driver of a class, real or simulated as the mode is.  Its header has a word of its own for
 * it: app_mail(app). */
void *app_driver(struct app *app, const struct driver_class *class, enum mode mode);
/* Keyed hash of a secret (HMAC-SHA256 under the installation's pepper), hex, 65 bytes. */
void app_hash_secret(struct app *app, struct str secret, char out[65]);
/* Signed, opaque tokens (cursors, verification links) and sealed values (secrets in rows). */
const char *app_seal(struct app *app, struct arena *a, struct str plain, struct str bound_to);
int app_unseal(struct app *app, struct arena *a, const char *sealed, struct str bound_to,
               struct str *plain, struct err *e) _must_check_;
/* argon2id with the configured cost, as libsodium's text; at most half the cores hash at once.
 * Slow: LONG handlers only.  NULL when there is no memory for it. */
const char *app_password_hash(struct app *app, struct arena *a, const char *password);
/* 'hash' NULL: takes as long as a real one and says no. */
bool app_password_verify(struct app *app, const char *hash, const char *password);
/* Runs 'fn' as a write of the system's own, outside of any request (first run, sweeps); perhaps
 * more than once. c->arena ends with it: what 'fn' hands out it copies. */
int app_write(struct app *app, int (*fn)(struct call *c, void *arg, struct err *e), void *arg,
              struct err *e) _must_check_;

/* One turn of taking away all that a tenant has (or of it a project has) in rows of owned records:
 * each as its own DELETE does it, a bounded number of them.  '*left' is how many are still there,
 * those that go by steps too: a visit calls it until none is.  May be cut short anywhere.  Nothing
 * new may come meanwhile: who calls it has closed the tenant before. */
int tenant_empty(struct app *app, const struct uuid *tenant, int64_t *left,
                 struct err *e) _must_check_;
int project_empty(struct app *app, const struct uuid *tenant, const struct uuid *project,
                  int64_t *left, struct err *e) _must_check_;
