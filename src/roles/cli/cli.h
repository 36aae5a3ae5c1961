/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The client: `brume <resource> <verb> …`, made from the route tables of all services. */

#include "http/client.h"
#include "roles/cli/output.h"
#include "roles/cli/profile.h"

/* What the process ends with; `brume help` prints these. */
enum cli_exit {
    CLI_OK = 0,
    CLI_API = 1,      /* the API answered with an error, a wait ended badly, or output was lost */
    CLI_USAGE = 2,    /* the command line is wrong */
    CLI_CONNECT = 3,  /* nobody answered */
    CLI_DENIED = 4,   /* 401, 403 */
    CLI_MISSING = 5,  /* 404 */
    CLI_CONFLICT = 6, /* 409, 412 */
    CLI_LATER = 7,    /* 429, 503: the same may succeed later */
};

struct cli {
    FILE *out, *err;
    bool out_tty, err_tty;
    const char *const *env; /* as environ */
    const struct service *const *services;
    struct arena *arena;
    struct commands commands;
    struct cli_common common;
    const char *profile_file;
    struct profile who; /* profile, environment and flags together */
    bool found_profile;
};

/* 'argv' is what follows "brume". Returns what the process ends with. */
int cli_main(struct cli *c, int argc, const char *const *argv);
/* True if 'word' begins a command of the client. */
bool cli_knows(struct cli *c, const char *word);

/* ---- asking (call.c) */
struct cli_answer {
    int status;
    struct str body;
    struct json_value *json; /* NULL if it is none; json_free() */
    struct client_response http;
};
static inline void cli_answer_done(struct cli_answer *a)
{
    json_free(a->json);
    a->json = NULL;
}
struct cli_stream {
    int (*on_data)(void *ctx, struct str data);
    void *ctx;
};
/* 'path' begins with '/'. 'body.p' NULL: none. Nobody there: says so, returns CLI_CONNECT; else
 * CLI_OK, whatever the status. */
int cli_ask(struct cli *c, struct arena *a, enum method m, const char *path, struct str body,
            const struct cli_stream *stream, struct cli_answer *out);
/* The same with a file for a body. */
int cli_upload(struct cli *c, struct arena *a, enum method m, const char *path, int fd,
               struct cli_answer *out);
/* Prints the error of an answer and what to do about it, on one line but for many faults; returns
 * the exit code of its status. 'k' may be NULL. */
int cli_refused(struct cli *c, const struct command *k, const struct cli_answer *answer);
/* Says what is wrong with the command line; returns CLI_USAGE. */
int cli_usage(struct cli *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same of a command, with how it is used. */
int cli_misused(struct cli *c, const struct command *k, const struct err *e);
/* "queue get QUEUE": its words and parameters, with 'flags' the flags it needs too. */
const char *cli_words_of(struct arena *a, const struct command *k);
const char *cli_usage_of(struct arena *a, const struct command *k, bool flags);
const char *cli_env(const struct cli *c, const char *name);
/* Reads the profile file, then environment and flags over it: c->who. */
int cli_who(struct cli *c);

/* ---- commands (run.c, watch.c, account.c, help.c, complete.c) */
int cli_run(struct cli *c, const struct command *k, int argc, const char *const *argv);
/* Follows an object until its status stands still (or, 'gone', until it is away). */
int cli_wait(struct cli *c, const struct command *k, const struct flags *f,
             const struct json_value *answer, bool gone);
/* True if what 'k' changes goes through states that --wait can wait for. */
bool cli_waits(const struct cli *c, const struct command *k);
/* Shows a list or an object, then each change, until interrupted. */
int cli_watch(struct cli *c, const struct command *k, const char *path);
/* The command that gets the object which 'k' makes, changes or removes; NULL if there is none.  It
 * takes the first 'n_values' parameters of 'k' and, '*made', the id of the answer. */
const struct command *cli_getter(const struct cli *c, const struct command *k, bool *made);

int cli_login(struct cli *c, int argc, const char *const *argv);
/* `brume config profiles|use|get|set|remove` */
int cli_config(struct cli *c, int argc, const char *const *argv);
int cli_completion(struct cli *c, int argc, const char *const *argv);
/* Candidates for the last word of argv, one a line. */
int cli_complete(struct cli *c, int argc, const char *const *argv);
void cli_help(struct cli *c, FILE *to);
void cli_help_resource(struct cli *c, const char *word, FILE *to);
void cli_help_command(struct cli *c, const struct command *k, FILE *to);
/* Of a command that is in no table; false if there is none of that name. */
bool cli_help_builtin(const char *name, FILE *to);
/* The built-in commands, with a line of help each; ends with { NULL }. */
struct cli_builtin {
    const char *name, *use, *doc;
};
extern const struct cli_builtin cli_builtins[];
