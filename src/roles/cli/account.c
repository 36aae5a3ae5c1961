/* SPDX-License-Identifier: Apache-2.0 */
/* Who the client is: `brume login` and the profiles.  Keys go from the server's answer to the
 * profile file and never to the screen. */

#include "roles/cli/cli.h"

#include <limits.h>

#include "base/clock.h"
#include "os/file.h"

static const char *next(int argc, const char *const *argv, int *at)
{
    return *at + 1 < argc ? argv[++*at] : NULL;
}

static int load(struct cli *c, struct profiles *all)
{
    const char *home = cli_env(c, "HOME");
    struct err e;

    if (!home)
        return cli_usage(c, "HOME is not set: there is no place for profiles");
    c->profile_file = profiles_path(c->arena, home);
    if (profiles_load(c->arena, c->profile_file, all, &e) < 0)
        return cli_usage(c, "%s", e.msg);
    return CLI_OK;
}

static int save(struct cli *c, const struct profiles *all)
{
    struct err e;

    if (profiles_save(all, c->profile_file, &e) < 0) {
        fprintf(c->err, "brume: cannot write %s: %s\n", c->profile_file,
                e.cause[0] ? e.cause : e.msg);
        return CLI_API;
    }
    return CLI_OK;
}

/* A line of input, asked for where somebody is there to ask. */
static int prompt(struct cli *c, const char *question, struct str *out)
{
    char line[256];

    if (isatty(STDIN_FILENO)) {
        fprintf(c->err, "%s: ", question);
        fflush(c->err);
    }
    if (!fgets(line, sizeof(line), stdin))
        return cli_usage(c, "%s is missing", question);
    line[strcspn(line, "\r\n")] = '\0';
    *out = str_of(arena_strdup(c->arena, line));
    return CLI_OK;
}

static int log_in(struct cli *c, const char *email, struct str password, const char **key)
{
    struct buf body = BUF(8192);
    struct json_out o = JSON_OUT(&body);
    struct cli_answer x;
    int rc;

    json_open(&o, '{');
    json_kstr(&o, "email", email);
    json_key(&o, "password");
    json_strn(&o, password.p, password.n);
    json_close(&o);
    c->who.api_key = NULL;
    if (json_done(&o) < 0) {
        buf_free(&body);
        return cli_usage(c, "the password is too long");
    }
    rc = cli_ask(c, c->arena, POST, "/auth/login", buf_str(&body), NULL, &x);
    explicit_bzero(body.p, body.n);
    buf_free(&body);
    if (rc != CLI_OK)
        return rc;
    *key = x.json && json_type_of(x.json) == JSON_OBJ
               ? json_get_str(c->arena, x.json, "api_key", NULL)
               : NULL;
    if (x.status == 401)
        fprintf(c->err,
                "brume: the address or the password is wrong. `brume auth forgot-password --email "
                "%s` mails a token that sets a new one.\n",
                email);
    if (x.status == 401)
        rc = CLI_DENIED;
    else if (x.status >= 300 || !*key)
        rc = cli_refused(c, NULL, &x);
    cli_answer_done(&x);
    return rc;
}

static int login_flags(struct cli *c, int argc, const char *const *argv, const char **email)
{
    struct err e;

    for (int at = 0; at < argc;) {
        int rc;

        if (!strcmp(argv[at], "--email")) {
            *email = next(argc, argv, &at);
            if (!*email)
                return cli_usage(c, "--email needs a value");
            at++;
        } else if (!strncmp(argv[at], "--email=", 8)) {
            *email = argv[at++] + 8;
        } else if (!strncmp(argv[at], "--password", 10)) {
            return cli_usage(c, "a password on the command line can be read by others: it is "
                                "asked for, or read from standard input");
        } else if ((rc = flags_common(&c->common, argc, argv, &at, &e)) <= 0) {
            return cli_usage(c, rc < 0 ? "%s" : "unknown argument %s", rc < 0 ? e.msg : argv[at]);
        }
    }
    return CLI_OK;
}

int cli_login(struct cli *c, int argc, const char *const *argv)
{
    static const struct field secret = { .name = "password", .flags = FF_SECRET };
    const char *email = NULL, *name, *wanted, *key = NULL;
    struct profiles all = { 0 };
    struct str typed = { 0 }, password = { 0 };
    struct profile *p;
    struct err e;
    int rc;

    if ((rc = login_flags(c, argc, argv, &email)) != CLI_OK)
        return rc;
    if (c->common.help) {
        fputs("brume login [--url URL] [--email ADDRESS] [--profile NAME]\n\n"
              "Gets a key for that address and keeps it in a profile, which becomes the current\n"
              "one.  The password is asked for, or read from standard input.\n",
              c->out);
        return CLI_OK;
    }
    wanted = c->common.profile;
    if (wanted && !profile_name_ok(wanted))
        return cli_usage(c, "a profile's name has letters, digits, '-', '_' and '.' only");
    if ((rc = load(c, &all)) != CLI_OK)
        return rc;
    if (wanted && !profiles_find(&all, wanted))
        c->common.profile = NULL; /* it is about to be made */
    if ((rc = cli_who(c)) != CLI_OK)
        return rc;
    if (email)
        typed = str_of(email);
    else if ((rc = prompt(c, "E-mail", &typed)) != CLI_OK)
        return rc;
    if (value_read(c->arena, &secret, STR("-"), &password, &e) < 0)
        return cli_usage(c, "%s", e.msg);
    while (password.n && strchr("\r\n", password.p[password.n - 1]))
        password.n--;
    rc = log_in(c, arena_dup(c->arena, typed.p, typed.n), password, &key);
    if (rc != CLI_OK)
        return rc;
    name = wanted ? wanted : c->who.name ? c->who.name : "default";
    p = profiles_add(c->arena, &all, name);
    p->url = c->who.url;
    p->api_key = key;
    p->ca = c->who.ca;
    p->tenant = NULL;
    all.current = name;
    if ((rc = save(c, &all)) == CLI_OK)
        fprintf(c->out, "Logged in to %s; the key is in profile \"%s\" (%s).\n", c->who.url, name,
                c->profile_file);
    return rc;
}

/* ---- profiles */

static int list_profiles(struct cli *c, const struct profiles *all)
{
    const char **cells = arena_alloc(c->arena, sizeof(*cells) * 4 * (all->n + 1));
    struct buf b = BUF(MIB(1));

    cells[0] = "CURRENT";
    cells[1] = "NAME";
    cells[2] = "URL";
    cells[3] = "TENANT";
    for (size_t i = 0; i < all->n; i++) {
        const struct profile *p = &all->v[i];
        const char **row = cells + 4 * (i + 1);

        row[0] = all->current && !strcmp(all->current, p->name) ? "*" : "";
        row[1] = p->name;
        row[2] = p->url ? p->url : "-";
        row[3] = p->tenant ? p->tenant : "-";
    }
    output_table(cells, all->n + 1, 4, &b);
    fwrite(b.p, 1, b.n, c->out);
    buf_free(&b);
    return CLI_OK;
}

static int use_profile(struct cli *c, struct profiles *all, const char *name)
{
    if (!profiles_find(all, name))
        return cli_usage(c, "there is no profile \"%s\"; `brume config profiles` lists them", name);
    all->current = name;
    return save(c, all);
}

static int remove_profile(struct cli *c, struct profiles *all, const char *name)
{
    if (!profiles_find(all, name))
        return cli_usage(c, "there is no profile \"%s\"", name);
    profiles_remove(all, name);
    return save(c, all);
}

/* The member of that name that may be shown or set by hand: never the key. */
static const char **setting(struct profile *p, const char *name)
{
    if (!strcmp(name, "url"))
        return &p->url;
    if (!strcmp(name, "tenant"))
        return &p->tenant;
    if (!strcmp(name, "ca"))
        return &p->ca;
    return NULL;
}

/* The value in the form in which it is kept, or NULL after a word about it. */
static const char *checked(struct cli *c, const char *name, const char *value)
{
    char whole[PATH_MAX];
    const char *out = value;
    struct str pem;
    struct err e;

    if (!strcmp(name, "url")) {
        out = profile_url(c->arena, value);
        if (!out)
            cli_usage(c, "\"%s\" is no address: give http://HOST:PORT, https://HOST or unix:/PATH",
                      value);
    } else if (!strcmp(name, "ca")) {
        out = realpath(value, whole) ? arena_strdup(c->arena, whole) : NULL;
        if (!out)
            cli_usage(c, "%s: %s", value, strerror(errno));
        else if (file_read(c->arena, out, MIB(4), &pem, &e) < 0 ||
                 !memmem(pem.p, pem.n, "-----BEGIN ", 11)) {
            cli_usage(c, "%s is no readable file of certificates in PEM", value);
            out = NULL;
        }
    }
    return out;
}

static int change(struct cli *c, struct profiles *all, bool set, const char *name,
                  const char *value)
{
    const char *which = c->common.profile ? c->common.profile : all->current;
    struct profile dummy = { 0 }, *p;
    const char **at;

    if (!strcmp(name, "api_key"))
        return cli_usage(c,
                         "a key is not shown, and not taken from the command line: `brume "
                         "login`, or edit %s",
                         c->profile_file);
    if (!setting(&dummy, name))
        return cli_usage(c, "a profile has url, tenant and ca");
    if (set && *value && !(value = checked(c, name, value)))
        return CLI_USAGE;
    if (!which)
        which = "default";
    if (!profile_name_ok(which))
        return cli_usage(c, "a profile's name has letters, digits, '-', '_' and '.' only");
    p = set ? profiles_add(c->arena, all, which) : profiles_find(all, which);
    if (!p)
        return cli_usage(c, "there is no profile \"%s\"", which);
    at = setting(p, name);
    if (!set) {
        fprintf(c->out, "%s\n", *at ? *at : "");
        return CLI_OK;
    }
    *at = *value ? value : NULL;
    if (!all->current)
        all->current = which;
    return save(c, all);
}

/* clang-format off */
static const struct {
    const char *word, *use, *doc;
} config_verbs[] = {
    { "",         "",          "the server's configuration" },
    { "profiles", "",          "the client's profiles" },
    { "use",      "NAME",      "makes a profile the current one" },
    { "get",      "KEY",       "url, tenant or ca of a profile" },
    { "set",      "KEY VALUE", "changes it; \"\" clears it" },
    { "remove",   "NAME",      "forgets a profile" },
};
/* clang-format on */

static void config_help(struct cli *c)
{
    for (size_t i = 0; i < ARRAY_LEN(config_verbs); i++) {
        const char *use = arena_printf(c->arena, "%s%s%s", config_verbs[i].word,
                                       *config_verbs[i].use ? " " : "", config_verbs[i].use);

        fprintf(c->out, "brume config %-16s  %s\n", use, config_verbs[i].doc);
    }
}

static int config_misused(struct cli *c, const char *word)
{
    for (size_t i = 0; *word && i < ARRAY_LEN(config_verbs); i++)
        if (strcmp(config_verbs[i].word, word) == 0)
            return cli_usage(c, "Usage: brume config %s%s%s", word, *config_verbs[i].use ? " " : "",
                             config_verbs[i].use);
    return cli_usage(c, "%s%s%s. `brume config --help` lists what there is.",
                     *word ? "\"config\" has no verb \"" : "a word is missing", word,
                     *word ? "\"" : "");
}

int cli_config(struct cli *c, int argc, const char *const *argv)
{
    const char *word[3] = { "", NULL, NULL };
    struct profiles all = { 0 };
    struct err e;
    size_t n = 0;
    int rc;

    for (int at = 0; at < argc;) {
        if (argv[at][0] != '-' || !argv[at][1]) {
            if (n == ARRAY_LEN(word))
                return cli_usage(c, "\"%s\" is one word too many", argv[at]);
            word[n++] = argv[at++];
        } else if ((rc = flags_common(&c->common, argc, argv, &at, &e)) <= 0) {
            return cli_usage(c, rc < 0 ? "%s" : "unknown flag %s", rc < 0 ? e.msg : argv[at]);
        }
    }
    if (c->common.help) {
        config_help(c);
        return CLI_OK;
    }
    if ((rc = load(c, &all)) != CLI_OK)
        return rc;
    if (!strcmp(word[0], "profiles") && n == 1)
        return list_profiles(c, &all);
    if (!strcmp(word[0], "use") && n == 2)
        return use_profile(c, &all, word[1]);
    if (!strcmp(word[0], "remove") && n == 2)
        return remove_profile(c, &all, word[1]);
    if (!strcmp(word[0], "get") && n == 2)
        return change(c, &all, false, word[1], NULL);
    if (!strcmp(word[0], "set") && n == 3)
        return change(c, &all, true, word[1], word[2]);
    return config_misused(c, word[0]);
}
