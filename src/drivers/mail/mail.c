/* SPDX-License-Identifier: Apache-2.0 */
/* One message is one text (RFC 5322), made here; where it goes is the class's matter. */
#include "drivers/mail/mail.h"

#include <time.h>

#include "base/buf.h"
#include "os/curl.h"
#include "os/file.h"

struct mail_any {
    struct mail mail;
    char *where; /* URL or folder */
    char *user, *password, *from;
};

int mail_send(struct mail *m, const struct mail_message *msg, struct err *e)
{
    if (strpbrk(msg->to, "\r\n<>") || strpbrk(msg->subject, "\r\n"))
        return err_set(e, ERR_INVALID, "a mail's address or subject has a line break");
    return m->class->send(m, msg, e);
}

void mail_free(struct mail *m)
{
    if (m)
        m->class->free(m);
}

static void any_free(struct mail *m)
{
    struct mail_any *x = (struct mail_any *)(void *)m;

    free(x->where);
    free(x->user);
    free(x->password);
    free(x->from);
    free(x);
}

static char *copy(const char *s)
{
    char *p = s ? strdup(s) : NULL;

    if (s && !p)
        abort();
    return p;
}

static struct mail *any_new(const struct mail_class *class, const char *where, const char *user,
                            const char *password, const char *from)
{
    struct mail_any *x = calloc(1, sizeof(*x));

    if (!x)
        abort();
    *x = (struct mail_any){ .mail.class = class,
                            .where = copy(where),
                            .user = copy(user),
                            .password = copy(password),
                            .from = copy(from) };
    return &x->mail;
}

static void text_make(struct buf *b, const struct mail_any *x, const struct mail_message *msg)
{
    char date[64];
    time_t now = time(NULL);
    struct tm tm;

    gmtime_r(&now, &tm);
    strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S +0000", &tm);
    buf_printf(b, "Date: %s\r\nFrom: <%s>\r\nTo: <%s>\r\nMessage-ID: <%s@brume>\r\n", date, x->from,
               msg->to, msg->id);
    buf_printf(b, "Subject: %s\r\nMIME-Version: 1.0\r\n", msg->subject);
    buf_puts(b,
             "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n");
    for (const char *s = msg->text; *s; s++) {
        if (*s == '\n')
            buf_putc(b, '\r');
        buf_putc(b, *s);
    }
    buf_puts(b, "\r\n");
}

static int folder_send(struct mail *m, const struct mail_message *msg, struct err *e)
{
    struct mail_any *x = (struct mail_any *)(void *)m;
    struct buf b = BUF(MIB(1));
    char path[4096];

    TRY(dir_make(x->where, 0700, e));
    text_make(&b, x, msg);
    snprintf(path, sizeof(path), "%s/%s.eml", x->where, msg->id);
    int rc = file_write_atomic(path, b.p, b.n, 0600, e);
    buf_free(&b);
    return rc;
}

struct upload {
    const char *p;
    size_t n;
};

static size_t upload_read(char *to, size_t size, size_t n, void *ctx)
{
    struct upload *u = ctx;
    size_t some = MIN(size * n, u->n);

    memcpy(to, u->p, some);
    u->p += some;
    u->n -= some;
    return some;
}

static int smtp_send(struct mail *m, const struct mail_message *msg, struct err *e)
{
    struct mail_any *x = (struct mail_any *)(void *)m;
    struct buf b = BUF(MIB(1));

    TRY(curl_start(e));
    CURL *curl = curl_easy_init();

    if (!curl)
        abort();
    text_make(&b, x, msg);
    struct upload u = { b.p, b.n };
    struct curl_slist *to = curl_slist_append(NULL, msg->to);
    curl_easy_setopt(curl, CURLOPT_URL, x->where);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
    curl_easy_setopt(curl, CURLOPT_USE_SSL, (long)CURLUSESSL_TRY);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, 20000L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_MAIL_FROM, x->from);
    curl_easy_setopt(curl, CURLOPT_MAIL_RCPT, to);
    curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(curl, CURLOPT_READFUNCTION, upload_read);
    curl_easy_setopt(curl, CURLOPT_READDATA, &u);
    if (x->user) {
        /* With a password, a server that offers no TLS is refused. */
        curl_easy_setopt(curl, CURLOPT_USE_SSL, (long)CURLUSESSL_ALL);
        curl_easy_setopt(curl, CURLOPT_USERNAME, x->user);
        curl_easy_setopt(curl, CURLOPT_PASSWORD, x->password ? x->password : "");
    }
    CURLcode rc = curl_easy_perform(curl);
    curl_slist_free_all(to);
    curl_easy_cleanup(curl);
    buf_free(&b);
    if (rc != CURLE_OK)
        return err_cause(e, ERR_ENGINE_UNAVAILABLE, curl_easy_strerror(rc),
                         "the mail server did not take the message");
    return 0;
}

static const struct mail_class folder_class = { "folder", folder_send, any_free };
static const struct mail_class smtp_class = { "smtp", smtp_send, any_free };

struct mail *mail_smtp(const char *url, const char *user, const char *password, const char *from)
{
    return any_new(&smtp_class, url, user && user[0] ? user : NULL, password, from);
}

struct mail *mail_folder(const char *dir, const char *from)
{
    return any_new(&folder_class, dir, NULL, NULL, from);
}

/* ---- the class */

/* clang-format off */
#define T struct mail_settings
static const struct setting keys[] = {
    SETTING_STR(T, "mail.smtp_url",           smtp_url,           "",                "smtp://HOST:PORT or smtps://…; empty: mails are written to the state folder.", .reload = true, .password = "mail.smtp_password_file"),
    SETTING_STR(T, "mail.smtp_user",          smtp_user,          "",                "User at the mail server.", .reload = true),
    SETTING_STR(T, "mail.smtp_password_file", smtp_password_file, "",                "File that holds that user's password.", .reload = true),
    SETTING_STR(T, "mail.from",               from,               "brume@localhost", "Sender of mails.", .reload = true),
};
#undef T
/* clang-format on */

static void settings_check(struct setting_check *c, void *values)
{
    const char *url = ((struct mail_settings *)values)->smtp_url;

    if (*url && strncmp(url, "smtp://", 7) != 0 && strncmp(url, "smtps://", 8) != 0)
        setting_wrong(c, "mail.smtp_url", "must begin with smtp:// or smtps://");
}

const struct settings mail_settings = SETTINGS(struct mail_settings, keys, .check = settings_check);

/* The password of the mail server, from its file; "" where there is none. */
static int password_read(const struct driver_opts *o, const char *file, const char **out,
                         struct err *e)
{
    struct str s = STR("");

    if (*file)
        TRY(file_read(o->arena, file, KIB(4), &s, e));
    while (s.n && strchr("\r\n", s.p[s.n - 1]))
        s.n--;
    *out = arena_dup(o->arena, s.p, s.n);
    return 0;
}

static void *open_mail(const struct driver_opts *o, struct err *e)
{
    const struct mail_settings *s = o->settings;
    const char *password;

    if (!*s->smtp_url)
        return mail_folder(arena_printf(o->arena, "%s/mail", o->state_dir), s->from);
    if (password_read(o, s->smtp_password_file, &password, e) < 0)
        return NULL;
    return mail_smtp(s->smtp_url, s->smtp_user, password, s->from);
}

static void close_mail(void *driver)
{
    mail_free(driver);
}

const struct driver_class mail_driver = { .name = "mail",
                                          .settings = &mail_settings,
                                          .open = open_mail,
                                          .close = close_mail,
                                          .reload = true };
