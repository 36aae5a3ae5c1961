/* SPDX-License-Identifier: Apache-2.0 */
/* What an operator may set of signing in, and what holds where nothing is set: by who can reach the
 * API. */
#include "services/identity/identity_private.h"

struct identity_settings {
    const char *registration, *registration_plan, *password_policy; /* as set, "" if not */
};

/* clang-format off */
#define T struct identity_settings
static const struct setting keys[] = {
    SETTING_STR(T, "identity.registration",      registration,      "", "Who may register: open (anyone), invite (who was invited to a tenant) or off (nobody); empty: open on a loopback listener, else invite.", .words = " open invite off ", .reload = true),
    SETTING_STR(T, "identity.registration_plan", registration_plan, "", "Plan of who registers uninvited; empty: platform.default_plan on a loopback listener, else free.", .words = " free starter standard professional enterprise ", .reload = true),
    SETTING_STR(T, "identity.password_policy",   password_policy,   "", "basic (length only) or strong; empty: strong where TLS is on.", .words = " basic strong ", .reload = true),
};
#undef T
/* clang-format on */
const struct settings identity_settings = SETTINGS(struct identity_settings, keys);

static const struct identity_settings *settings_of(struct app *app)
{
    return app_settings(app, &identity_settings);
}

const char *identity_registration(struct app *app)
{
    const char *set = settings_of(app)->registration;

    return *set ? set : config_on_loopback(app_config(app)) ? "open" : "invite";
}

const char *identity_registration_plan(struct app *app)
{
    const char *set = settings_of(app)->registration_plan;

    if (*set)
        return set;
    return config_on_loopback(app_config(app)) ? app_config(app)->default_plan : "free";
}

bool identity_strong_passwords(struct app *app)
{
    const char *set = settings_of(app)->password_policy;

    return *set ? strcmp(set, "strong") == 0 : *app_config(app)->tls_cert != '\0';
}
