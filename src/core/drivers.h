/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The drivers of an app: of each class one that is real and one that is simulated. */

#include "base/driver.h"
#include "core/config/config.h"
#include "core/service/owned.h"

struct drivers;
struct drivers_opts {
    const struct driver_class *const *classes; /* ends with NULL, lowest first */
    const struct config *config;               /* outlives the drivers */
    const char *host;                          /* the socket of this host's agent */
    const char *installation;                  /* 8 hex digits */
};
/* Opens all; with config's compute.fake_drivers live mode is simulated too, where it can be. */
struct drivers *drivers_open(const struct drivers_opts *o, struct err *e);
/* As 'before', but with classes of .reload opened anew by 'config'; outlived by 'before', which has
 * the others. */
struct drivers *drivers_renew(struct drivers *before, const struct config *config, struct err *e);
void drivers_free(struct drivers *d);
DEFINE_CLEANUP(struct drivers *, drivers_free)
/* NULL where the api has none of that class. */
void *drivers_get(const struct drivers *d, const struct driver_class *class, enum mode mode);
/* Every real one that can be asked says that it can work now. */
bool drivers_answer(const struct drivers *d);
