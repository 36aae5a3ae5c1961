/* SPDX-License-Identifier: Apache-2.0 */
/* Which passwords and addresses are accepted.  The policy "strong" refuses what a guesser tries
 * first: the list of the most common ones, repetitions, runs, and what is known of the person. */
#include "services/identity/identity_private.h"

enum { DIFFERENT = 5 };

/* Stems of the most common passwords of public leaks; digits and signs at the end do not make them
 * better. */
static const char *const common[] = {
    "password",      "passwort", "passw0rd", "p@ssword",  "p@ssw0rd", "qwerty",   "qwertyuiop",
    "azerty",        "qwertz",   "letmein",  "welcome",   "iloveyou", "monkey",   "dragon",
    "football",      "baseball", "sunshine", "princess",  "superman", "trustno1", "admin",
    "administrator", "master",   "hello",    "charlie",   "shadow",   "michael",  "changeme",
    "secret",        "whatever", "starwars", "freedom",   "access",   "login",    "default",
    "computer",      "internet", "samsung",  "google",    "zaq12wsx", "1q2w3e4r", "1qaz2wsx",
    "q1w2e3r4",      "abc123",   "asdfgh",   "asdfghjkl", "zxcvbn",   "zxcvbnm",  "test",
    "guest",         "root",     "toor",     "cloud",     "brume",    "summer",   "winter",
};

static void to_lower(const char *s, char *out, size_t size)
{
    size_t i = 0;

    for (; s[i] && i + 1 < size; i++)
        out[i] = s[i] >= 'A' && s[i] <= 'Z' ? (char)(s[i] + 32) : s[i];
    out[i] = '\0';
}

static bool is_common(const char *lower)
{
    for (size_t i = 0; i < ARRAY_LEN(common); i++) {
        size_t n = strlen(common[i]);

        if (strncmp(lower, common[i], n) == 0 &&
            lower[n + strspn(lower + n, "0123456789!?.@#$%*+-_")] == '\0')
            return true;
    }
    return false;
}

/* Every byte is its neighbour's successor, predecessor or the same: 12345678, hgfedcba, aaaaaaaa.
 */
static bool is_run(const char *s)
{
    for (size_t i = 1; s[i]; i++)
        if (s[i] - s[i - 1] > 1 || s[i] - s[i - 1] < -1)
            return false;
    return true;
}

static size_t different(const char *s)
{
    bool seen[256] = { false };
    size_t n = 0;

    for (; *s; s++) {
        n += !seen[(unsigned char)*s];
        seen[(unsigned char)*s] = true;
    }
    return n;
}

static bool has_part(const char *lower, const char *part, size_t n)
{
    char want[256];

    if (n < 4 || n >= sizeof(want))
        return false;
    char copy[256];
    memcpy(copy, part, n);
    copy[n] = '\0';
    to_lower(copy, want, sizeof(want));
    return strstr(lower, want) != NULL;
}

const char *password_fault(struct app *app, const char *password, const char *email,
                           const char *name)
{
    char lower[PASSWORD_MAX + 1];
    size_t n = strlen(password);

    if (n < PASSWORD_MIN || n > PASSWORD_MAX)
        return "must be 8 to 128 bytes long";
    if (!identity_strong_passwords(app))
        return NULL;
    to_lower(password, lower, sizeof(lower));
    if (is_common(lower))
        return "is one of the passwords that are guessed first";
    if (is_run(password) || different(password) < DIFFERENT)
        return "is too easy to guess: too few different characters, or all in a row";
    if (has_part(lower, email, strcspn(email, "@")) || has_part(lower, name, strlen(name)))
        return "must not contain your name or address";
    return NULL;
}

/* A label of a domain name (RFC 1035, RFC 1123). */
static bool label_ok(const char *s, size_t n)
{
    if (n == 0 || n > 63 || s[0] == '-' || s[n - 1] == '-')
        return false;
    for (size_t i = 0; i < n; i++)
        if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789-", s[i]))
            return false;
    return true;
}

/* addr-spec of RFC 5321 without quoted strings, comments and address literals. */
static const char *check_email(struct arena *a, const char **v)
{
    static const char wrong[] = "must be an e-mail address";
    char *s = arena_strdup(a, *v);

    to_lower(*v, s, strlen(*v) + 1);
    const char *at = strchr(s, '@');
    size_t local = at ? (size_t)(at - s) : 0;
    if (!at || local == 0 || local > 64 || s[0] == '.' || s[local - 1] == '.' || strstr(s, ".."))
        return wrong;
    if (strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789.!#$%&'*+/=?^_`{|}~-") != local)
        return wrong;
    for (const char *label = at + 1;; label += strcspn(label, ".") + 1) {
        size_t n = strcspn(label, ".");

        if (!label_ok(label, n))
            return wrong;
        if (label[n] == '\0')
            break;
    }
    *v = s;
    return NULL;
}

#define ATEXT "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
#define LABEL "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
const struct form form_email = {
    .check = check_email,
    .pattern = "^" ATEXT "+([.]" ATEXT "+)*@" LABEL "([.]" LABEL ")*$",
    .format = "email",
    .example = "ada@example.com",
};
