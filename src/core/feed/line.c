/* SPDX-License-Identifier: Apache-2.0 */
/* Lines by their field table, and what a table cannot say of them. */
#include "core/feed/line.h"

static const struct enum_name kind_names[] = { { FEED_BEGIN, "begin" },
                                               { FEED_ROWS, "rows" },
                                               { FEED_GONE, "gone" },
                                               { FEED_END, "end" },
                                               { 0 } };

/* clang-format off */
#define T struct feed_line
static const struct field line_fields[] = {
    FIELD_ENUM(T, kind,     enum feed_kind, 0, .names = kind_names, .doc = "What it is."),
    FIELD_INT (T, revision, 0, .doc = "Of the feed."),
    FIELD_STR (T, epoch,    0, .doc = "Of the store."),
    FIELD_STR (T, part,     0, .doc = "Whose rows they are."),
    FIELD_JSON(T, rows,     0, .doc = "Rows."),
    FIELD_UUID(T, id,       0, .doc = "The row that has gone."),
};
#undef T
/* clang-format on */
static const struct record line_record = RECORD(feed_line, NULL, line_fields);

void feed_line_write(const struct feed_line *l, struct buf *out)
{
    struct json_out o = JSON_OUT(out);

    json_dump_row(&o, &line_record, l);
}

int feed_line_read(struct arena *a, struct str json, struct feed_line *out, struct err *e)
{
    _cleanup_(json_freep) struct json_value *v = json_parse(json, e);
    struct feed_line l;

    if (!v)
        return -1;
    TRY(json_load_row(a, &line_record, v, &l, e));
    bool whole = true;
    if (l.kind == FEED_BEGIN)
        whole = l.epoch != NULL;
    if (l.kind == FEED_ROWS)
        whole = l.part && l.rows;
    if (l.kind == FEED_GONE)
        whole = l.part && !uuid_is_nil(&l.id);
    if (!whole || l.revision < 0)
        return err_set(e, ERR_INVALID, "a line of the feed makes no sense");
    *out = l;
    return 0;
}
