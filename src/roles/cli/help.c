/* SPDX-License-Identifier: Apache-2.0 */
/* Help, all of it read from the tables: a route's line, a field's sentence. */

#include "roles/cli/cli.h"

#include <ctype.h>

const struct cli_builtin cli_builtins[] = {
    { "serve", "Runs the cloud on this machine." },
    { "login", "Gets a key for an account and keeps it in a profile." },
    { "config", "Shows the server's configuration, or manages the client's profiles." },
    { "doctor", "Checks whether this machine can run brume, and says what to do." },
    { "backup", "Writes a consistent copy of the running store to a file." },
    { "restore", "Puts such a copy in the store's place." },
    { "completion", "Prints the completion script for bash, zsh or fish." },
    { "version", "Prints the version." },
    { "help", "Prints this." },
    { NULL, NULL },
};

static const char common_help[] = "Flags everywhere:\n"
                                  "  -o, --output table|json|yaml|id\n"
                                  "      --profile NAME, --url URL, --tenant ID, --ca FILE\n"
                                  "  -h, --help\n";

static const char *upper_first(struct arena *a, const char *s)
{
    char *out = arena_strdup(a, s);

    *out = (char)toupper((unsigned char)*out);
    return out;
}

/* "  word   text", in two columns. */
static void lines(const char *const *cells, size_t rows, FILE *to)
{
    struct buf b = BUF(MIB(1));

    output_table(cells, rows, 2, &b);
    for (const char *p = buf_cstr(&b); *p;) {
        size_t n = strcspn(p, "\n");

        fprintf(to, "  %.*s\n", (int)n, p);
        p += n + (p[n] == '\n');
    }
    buf_free(&b);
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
        bool seen = false;

        for (size_t j = 0; j < n && !seen; j++)
            seen = !strcmp(cells[2 * j], k->word[0]);
        if (seen)
            continue;
        cells[2 * n] = k->word[0];
        cells[2 * n++ + 1] = k->service->doc ? k->service->doc : "";
    }
    if (n) {
        fputs("\nResources (`brume <resource> --help` lists the verbs):\n", to);
        lines(cells, n, to);
    }
    fprintf(to, "\n%s", common_help);
    fputs("\nExit codes: 0 done, 1 the API refused, 2 wrong command line, 3 nobody answers.\n", to);
}

static const char *usage_of(struct arena *a, const struct command *k)
{
    struct buf b = BUF(4096);
    const char *out;

    for (size_t i = 0; i < k->n_words; i++)
        buf_printf(&b, "%s%s", i ? " " : "", k->word[i]);
    for (size_t i = 0; i < k->n_params; i++)
        buf_printf(&b, " %s", k->param[i]);
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

        if (!command_word_is(k, 0, word))
            continue;
        cells[2 * n] = usage_of(c->arena, k);
        cells[2 * n++ + 1] = k->route->doc ? k->route->doc : "";
    }
    lines(cells, n, to);
    fputs("\n`brume <command> --help` shows a command's flags.\n", to);
}

static const char *type_word(struct arena *a, const struct field *f)
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
        return "ID|NAME";
    case F_LIST:
        return "TEXT…";
    case F_MAP:
        return "KEY=VALUE…";
    case F_JSON:
        return "JSON";
    case F_STR:
        return field_is_secret(f) ? "-|@FILE" : "TEXT";
    case F_ENUM:
        break;
    }
    for (const struct enum_name *n = f->names; n && n->name; n++)
        buf_printf(&b, "%s%s", b.n ? "|" : "", n->name);
    out = arena_strdup(a, buf_cstr(&b));
    buf_free(&b);
    return out;
}

static size_t add_flag(struct arena *a, const struct field *f, bool required, const char **cells,
                       size_t n)
{
    const char *type = type_word(a, f);

    cells[2 * n] = arena_printf(a, "--%s%s%s", flag_name(a, f), *type ? " " : "", type);
    cells[2 * n + 1] = arena_printf(a, "%s%s", f->doc ? upper_first(a, f->doc) : "",
                                    required ? " (required)" : "");
    return n + 1;
}

void cli_help_command(struct cli *c, const struct command *k, FILE *to)
{
    const struct route *r = k->route;
    const char *cells[2 * 256];
    size_t n = 0;

    fprintf(to, "brume %s%s\n", usage_of(c->arena, k),
            r->in || r->query || r->list ? " [flags]" : "");
    if (r->doc)
        fprintf(to, "%s\n", r->doc);
    for (size_t i = 0; r->in && i < r->in->n_fields && n < 200; i++)
        if (flags_takes(k, &r->in->fields[i]))
            n = add_flag(c->arena, &r->in->fields[i],
                         r->in->fields[i].flags & FF_REQUIRED && r->method == POST, cells, n);
    for (size_t i = 0; r->query && i < r->query->n_fields && n < 200; i++)
        n = add_flag(c->arena, &r->query->fields[i], false, cells, n);
    for (size_t i = 0; r->list && r->out && i < r->out->n_fields && n < 200; i++)
        if (r->out->fields[i].flags & FF_FILTER)
            n = add_flag(c->arena, &r->out->fields[i], false, cells, n);
    for (size_t i = 0; r->list && i < cli_paging_record.n_fields; i++)
        n = add_flag(c->arena, &cli_paging_record.fields[i], false, cells, n);
    if (n) {
        fputs("\nFlags:\n", to);
        lines(cells, n, to);
    }
    if (r->body == BODY_RAW)
        fputs("  --data @FILE|-        the file that is sent\n", to);
    else if (r->in || r->body == BODY_FREE)
        fputs("  --data JSON|@FILE|-   the whole body at once; other flags go over it\n", to);
    if (route_lists(r))
        fputs("  --all                 every page\n", to);
    if (r->method == GET)
        fputs("  -w, --watch           again each second\n", to);
    else
        fputs("  --wait                until its status stands still\n", to);
    fprintf(to, "\n%s", common_help);
}
