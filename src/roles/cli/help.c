/* SPDX-License-Identifier: Apache-2.0 */
/* Help, all of it read from the tables: a route's line, a field's sentence. */

#include "roles/cli/cli.h"

#include <ctype.h>

const struct cli_builtin cli_builtins[] = {
    { "serve", "[flags]", "Runs the cloud on this machine." },
    { "login", "[--url URL] [--email ADDRESS] [--profile NAME]",
      "Gets a key for an account and keeps it in a profile." },
    { "config", "[profiles|use|get|set|remove]",
      "Shows the server's configuration, or manages the client's profiles." },
    { "doctor", "[flags of serve]",
      "Checks whether this machine can run brume, and says what to do." },
    { "backup", "FILE [flags of serve]",
      "Writes a consistent copy of the running store to a file." },
    { "restore", "FILE [flags of serve]", "Puts such a copy in the store's place." },
    { "completion", "bash|zsh|fish", "Prints the completion script of a shell." },
    { "version", "", "Prints the version." },
    { "help", "[COMMAND]", "Prints this, or a command's help." },
    { NULL, NULL, NULL },
};

static const char *upper_first(struct arena *a, const char *s)
{
    char *out = arena_strdup(a, s);

    *out = (char)toupper((unsigned char)*out);
    return out;
}

enum { FIRST_COLUMN = 30 };

/* "  word   text", in two columns; a long word has a line of its own. */
static void lines(const char *const *cells, size_t rows, FILE *to)
{
    size_t wide = 0;

    for (size_t i = 0; i < rows; i++)
        if (output_width(cells[2 * i]) <= FIRST_COLUMN)
            wide = MAX(wide, output_width(cells[2 * i]));
    for (size_t i = 0; i < rows; i++) {
        const char *word = cells[2 * i], *text = cells[2 * i + 1];
        size_t n = output_width(word);

        if (n > FIRST_COLUMN)
            fprintf(to, "  %s\n  %*s", word, (int)wide, "");
        else
            fprintf(to, "  %s%*s", word, (int)(wide - n), "");
        fprintf(to, "%s%s\n", *text ? "  " : "", text);
    }
}

/* The words that may follow a resource, one after the other: "create, list, get". */
static const char *verbs_of(struct cli *c, const char *resource)
{
    struct buf b = BUF(4096);
    const char *out;

    buf_putc(&b, ' ');
    for (size_t i = 0; i < c->commands.n; i++) {
        const struct command *k = &c->commands.v[i];

        if (k->quiet || strcmp(k->word[0], resource) != 0 || k->n_words < 2 ||
            strstr(buf_cstr(&b), arena_printf(c->arena, " %s,", k->word[1])))
            continue;
        buf_printf(&b, "%s%s,", b.n > 1 ? " " : "", k->word[1]);
    }
    out = b.n > 2 ? arena_dup(c->arena, b.p + 1, b.n - 2) : "";
    buf_free(&b);
    return out;
}

/* The client's own flags of a command, or, NULL, those of all commands. */
static size_t own_flags(struct cli *c, const struct command *k, const char **cells, size_t n)
{
    for (const struct cli_flag *f = cli_flags; f->name; f++) {
        if (k ? f->when == FLAG_ANY || !cli_flag_fits(k, f) : f->when != FLAG_ANY)
            continue;
        if (f->when == FLAG_WAIT && !cli_waits(c, k))
            continue;
        cells[2 * n] = arena_printf(c->arena, "%s%s%s%s%s", f->brief ? f->brief : "",
                                    f->brief ? ", " : "", f->name, *f->type ? " " : "", f->type);
        cells[2 * n++ + 1] = f->doc;
    }
    return n;
}

static void everywhere(struct cli *c, FILE *to)
{
    const char *cells[2 * 32];
    size_t n = own_flags(c, NULL, cells, 0);

    fputs("\nFlags everywhere:\n", to);
    lines(cells, n, to);
    fputs(
        "\nA flag's text may be @FILE, which is read, or - for standard input; @@x is the text @x.\n",
        to);
}

bool cli_help_builtin(const char *name, FILE *to)
{
    for (const struct cli_builtin *b = cli_builtins; b->name; b++) {
        if (strcmp(b->name, name) != 0)
            continue;
        fprintf(to, "brume %s%s%s\n%s\n", b->name, *b->use ? " " : "", b->use, b->doc);
        return true;
    }
    return false;
}

void cli_help(struct cli *c, FILE *to)
{
    const char **cells = arena_alloc(c->arena, sizeof(*cells) * 2 * (c->commands.n + 32));
    size_t n = 0;

    fputs("brume: a cloud in one program.\n\nbrume <resource> <verb> [ID…] [--flags]\n\n", to);
    for (const struct cli_builtin *b = cli_builtins; b->name; b++, n++) {
        cells[2 * n] = b->name;
        cells[2 * n + 1] = b->doc;
    }
    fputs("Commands:\n", to);
    lines(cells, n, to);
    n = 0;
    for (size_t i = 0; i < c->commands.n; i++) {
        const struct command *k = &c->commands.v[i];
        bool seen = k->quiet;

        for (size_t j = 0; j < n && !seen; j++)
            seen = !strcmp(cells[2 * j], k->word[0]);
        if (seen)
            continue;
        cells[2 * n] = k->word[0];
        cells[2 * n++ + 1] = verbs_of(c, k->word[0]);
    }
    if (n) {
        fputs("\nResources (`brume <resource> --help` says what each verb does):\n", to);
        lines(cells, n, to);
    }
    everywhere(c, to);
    fputs("\nExit codes: 0 done, 1 the API refused, 2 wrong command line, 3 nobody answers, 4 not\n"
          "logged in or not allowed, 5 there is no such thing, 6 in conflict with what there is,\n"
          "7 too much at once: try again later. `brume instance exec` ends as its command does,\n"
          "with 124 if that took too long, and never with 0 if its output was cut.\n",
          to);
}

static void put_words(struct buf *b, const struct command *k)
{
    for (size_t i = 0; i < k->n_words; i++)
        buf_printf(b, "%s%s", i ? " " : "", k->word[i]);
}

const char *cli_words_of(struct arena *a, const struct command *k)
{
    struct buf b = BUF(1024);

    put_words(&b, k);
    const char *out = arena_strdup(a, buf_cstr(&b));
    buf_free(&b);
    return out;
}

static void put_needed(struct buf *b, struct arena *a, const struct command *k,
                       const struct record *r)
{
    for (size_t i = 0; r && i < r->n_fields; i++)
        if (flags_needs(k, &r->fields[i]) && &r->fields[i] != flags_rest(k))
            buf_printf(b, " --%s …", flag_name(a, &r->fields[i]));
}

const char *cli_usage_of(struct arena *a, const struct command *k, bool flags)
{
    const struct record *r = k->route->in;
    const struct field *rest = flags_rest(k);
    struct buf b = BUF(4096);
    const char *out;

    put_words(&b, k);
    for (size_t i = 0; i < k->n_params; i++)
        buf_printf(&b, " %s", k->param[i]);
    if (flags)
        put_needed(&b, a, k, r);
    if (flags)
        put_needed(&b, a, k, k->route->query);
    if (flags && k->route->body == BODY_RAW)
        buf_puts(&b, " --data @FILE");
    if (flags && (r || k->route->query || k->route->list))
        buf_puts(&b, " [flags]");
    if (flags && rest && flags_needs(k, rest))
        buf_puts(&b, " -- COMMAND [ARGUMENT…]");
    out = arena_strdup(a, buf_cstr(&b));
    buf_free(&b);
    return out;
}

void cli_help_resource(struct cli *c, const char *word, FILE *to)
{
    const char **cells = arena_alloc(c->arena, sizeof(*cells) * 2 * (c->commands.n + 1));
    size_t n = 0;

    for (size_t i = 0; i < c->commands.n; i++) {
        const struct command *k = &c->commands.v[i];

        if (k->quiet || !command_word_is(k, 0, word))
            continue;
        cells[2 * n] = cli_usage_of(c->arena, k, false);
        cells[2 * n++ + 1] = k->route->doc ? k->route->doc : "";
    }
    lines(cells, n, to);
    fputs("\n`brume <command> --help` shows a command's flags.\n", to);
}

static const char *type_word(struct cli *c, const struct field *f)
{
    struct buf b = BUF(4096);
    const char *out;

    switch (f->type) {
    case F_INT:
    case F_MICRO:
        return "N";
    case F_BOOL:
        return "";
    case F_TIME:
        return "TIME";
    case F_UUID:
        return "ID";
    case F_REF:
        return f->ref && commands_list_of(&c->commands, f->ref) ? "ID|NAME" : "ID";
    case F_LIST:
        return "TEXT…";
    case F_MAP:
        return "KEY=VALUE…";
    case F_JSON:
        return f->check_entry ? "TEXT,…" : "JSON";
    case F_ROW:
    case F_ROWS:
        return "JSON";
    case F_STR:
        return field_is_secret(f) ? "-|@FILE" : "TEXT";
    case F_ENUM:
        break;
    }
    for (const struct enum_name *n = f->names; n && n->name; n++)
        buf_printf(&b, "%s%s", b.n ? "|" : "", n->name);
    out = arena_strdup(c->arena, buf_cstr(&b));
    buf_free(&b);
    return out;
}

enum { HELP_FLAGS = 220 };
struct flag_lines {
    struct cli *cli;
    const struct command *command;
    const char *cells[2 * (HELP_FLAGS + 32)];
    size_t n;
};

/* " (60 if not given)", or ""; a default out of the range stands for something else. */
static const char *default_of(struct arena *a, const struct command *k, const struct field *f)
{
    bool in_range = (!f->min && !f->max) || (f->dflt >= f->min && f->dflt <= f->max);

    if (f->type != F_INT || !f->dflt || !in_range || k->route->method == PATCH || k->route->partial)
        return "";
    return arena_printf(a, " (%lld if not given)", (long long)f->dflt);
}

static void add_flag(void *ctx, const struct field *f)
{
    struct flag_lines *x = ctx;
    struct arena *a = x->cli->arena;
    const char *type = type_word(x->cli, f);
    if (x->n == HELP_FLAGS)
        return;
    x->cells[2 * x->n] = arena_printf(a, "--%s%s%s", flag_name(a, f), *type ? " " : "", type);
    x->cells[2 * x->n++ + 1] =
        arena_printf(a, "%s%s%s", f->doc ? upper_first(a, f->doc) : "",
                     default_of(a, x->command, f), flags_needs(x->command, f) ? " (required)" : "");
}

void cli_help_command(struct cli *c, const struct command *k, FILE *to)
{
    struct flag_lines *x = arena_alloc(c->arena, sizeof(*x));

    *x = (struct flag_lines){ .cli = c, .command = k };
    fprintf(to, "brume %s\n", cli_usage_of(c->arena, k, true));
    if (k->route->doc)
        fprintf(to, "%s\n", k->route->doc);
    flags_each(k, add_flag, x);
    x->n = own_flags(c, k, x->cells, x->n);
    if (x->n) {
        fputs("\nFlags:\n", to);
        lines(x->cells, x->n, to);
    }
    everywhere(c, to);
}
