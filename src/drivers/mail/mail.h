/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Mail that leaves the platform: through an SMTP server, or into a folder where none is configured.
 */

#include "base/driver.h"

struct mail_message {
    const char *to, *subject, *text; /* plain UTF-8 */
    const char *id;                  /* ends the Message-ID, and names the file in a folder */
};

struct mail_settings {
    const char *smtp_url, *smtp_user, *smtp_password_file, *from;
};
extern const struct settings mail_settings;
extern const struct driver_class mail_driver;
#define app_mail(app) ((struct mail *)app_driver((app), &mail_driver, MODE_LIVE))

struct mail;
struct mail_class {
    const char *name;
    /* Hands the message over; when it returns 0 it is on disk, or the server has taken it. */
    int (*send)(struct mail *m, const struct mail_message *msg, struct err *e);
    void (*free)(struct mail *m);
};
struct mail {
    const struct mail_class *class;
};

/* 'url' is smtp://host:port or smtps://…; 'user' NULL: no log-in. Strings are copied. */
struct mail *mail_smtp(const char *url, const char *user, const char *password, const char *from);
/* One file a message, "<id>.eml", in 'dir' (0700, made where missing). */
struct mail *mail_folder(const char *dir, const char *from);

int mail_send(struct mail *m, const struct mail_message *msg, struct err *e) _must_check_;
void mail_free(struct mail *m);
DEFINE_CLEANUP(struct mail *, mail_free)
