/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Classes of drivers.  A class is a folder in drivers/ with a line in drivers.def and a row of this
 * struct, by which all others know it: whoever needs a driver asks for it by its class, as the
 * class's header says ("app_mail(app)").  core/drivers.h opens and closes them. */

#include "base/setting.h"

struct driver_class;
struct driver_opts {
    struct arena *arena;      /* lives longer than the driver */
    const void *settings;     /* values of the class's table, as long; NULL if it has none */
    const char *state_dir;    /* what must not be lost */
    const char *host;         /* the socket of this host's agent */
    const char *installation; /* 8 hex digits */
    /* The driver of a class that stands before this one in drivers.def. */
    void *(*other)(const struct driver_opts *o, const struct driver_class *c);
};

struct driver_class {
    const char *name;
    const struct settings *settings; /* NULL: none */
    /* What live mode works with in the api; NULL: the class is no part of it. */
    void *(*open)(const struct driver_opts *o, struct err *e);
    /* What test mode works with; NULL: the same as live mode. */
    void *(*simulate)(void);
    void (*close)(void *driver);
    /* Whether it can do its work just now, for /health/ready; NULL: nobody asks. */
    bool (*answers)(void *driver);
    bool reload; /* opened anew with the settings that SIGHUP brings */
};
