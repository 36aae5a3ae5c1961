/* SPDX-License-Identifier: Apache-2.0 */
/* The files of an order as text, and back: one place says how many, how large and how named. */
#include "codec/json.h"
#include "codec/text.h"
#include "drivers/compute/compute.h"

enum { NAME_MAX_BYTES = 64, MAX_ID = 65535 };

static const char *check_name(const char *name)
{
    size_t n = name ? strlen(name) : 0;

    if (!n || n > NAME_MAX_BYTES || name[0] == '.' ||
        name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")])
        return "a file's name must be letters, digits, '.', '_' and '-', with no '.' first";
    return NULL;
}

static int check(const struct compute_file *f, size_t n, struct err *e)
{
    size_t sum = 0;

    if (n > COMPUTE_FILES_MAX)
        return err_set(e, ERR_INVALID, "more than %d files", COMPUTE_FILES_MAX);
    for (size_t i = 0; i < n; i++) {
        const char *wrong = check_name(f[i].name);

        if (wrong)
            return err_set(e, ERR_INVALID, "%s", wrong);
        for (size_t k = 0; k < i; k++)
            if (strcmp(f[k].name, f[i].name) == 0)
                return err_set(e, ERR_INVALID, "file '%s' is there twice", f[i].name);
        if (f[i].content.n > COMPUTE_FILE_BYTES || (sum += f[i].content.n) > COMPUTE_FILES_BYTES)
            return err_set(e, ERR_INVALID, "file '%s' is too large", f[i].name);
        if (f[i].mode < 0 || f[i].mode > 0777 || f[i].uid < 0 || f[i].uid > MAX_ID ||
            f[i].gid < 0 || f[i].gid > MAX_ID)
            return err_set(e, ERR_INVALID, "mode or owner of file '%s' is out of range", f[i].name);
    }
    return 0;
}

const char *compute_files_text(struct arena *a, const struct compute_file *f, size_t n,
                               struct err *e)
{
    _cleanup_(buf_free) struct buf b = BUF(MIB(1));
    struct json_out o = JSON_OUT(&b);

    if (check(f, n, e) < 0)
        return NULL;
    json_open(&o, '[');
    for (size_t i = 0; i < n; i++) {
        json_open(&o, '{');
        json_kstr(&o, "name", f[i].name);
        json_kint(&o, "mode", f[i].mode);
        json_kint(&o, "uid", f[i].uid);
        json_kint(&o, "gid", f[i].gid);
        json_kstr(&o, "content", base64_encode(a, f[i].content.p, f[i].content.n, false));
        json_close(&o);
    }
    json_close(&o);
    return arena_dup(a, b.p, b.n);
}

int compute_files_read(struct arena *a, const char *text, struct compute_file **out, size_t *n,
                       struct err *e)
{
    _cleanup_(json_freep) struct json_value *list = json_parse(str_of(text), e);
    size_t count = list ? json_len(list) : 0;

    if (!list)
        return -1;
    if (json_type_of(list) != JSON_ARR || count > COMPUTE_FILES_MAX)
        return err_set(e, ERR_INVALID, "the files are no list, or too many");
    struct compute_file *f = arena_new_n(a, struct compute_file, count);
    for (size_t i = 0; i < count; i++) {
        const struct json_value *v = json_at(list, i);
        struct str content = { 0 };

        content.p = json_str_of(json_get(v, "content"), &content.n);
        f[i] = (struct compute_file){ .name = json_get_str(a, v, "name", NULL),
                                      .mode = json_get_int(v, "mode", -1),
                                      .uid = json_get_int(v, "uid", -1),
                                      .gid = json_get_int(v, "gid", -1) };
        if (content.p)
            f[i].content.p = base64_decode(a, content, false, &f[i].content.n);
        if (!f[i].content.p)
            return err_set(e, ERR_INVALID, "the content of a file is no base64");
    }
    TRY(check(f, count, e));
    *out = f;
    *n = count;
    return 0;
}
