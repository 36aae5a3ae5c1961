/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What an instance printed, as its shim wrote it: a folder of files named by numbers without a gap,
 * the greatest the newest, of records "time stream tag text\n" (Kubernetes' CRI form; the tag's
 * letters behind colons are the shim's, see there).  Files come and go while they are read. */

#include "drivers/compute/compute.h"

struct log_record {
    int stream; /* 1 stdout, 2 stderr */
    int64_t time;
    bool whole;   /* the line ends here */
    bool goes_on; /* the line began in the record before of its stream */
    bool lost;    /* output before this record found no room */
    struct str text;
};
/* 'line' is without its newline; false if it is no record. */
bool log_record_parse(struct str line, struct log_record *out);

/* What compute_logs() promises, of the instance whose folder 'dir' is.  A folder that is not there
 * is one of no files; what is there and cannot be read is an error. */
int logbook_read(const char *dir, const struct compute_log_opts *o, compute_line_fn *fn, void *ctx,
                 struct err *e) _must_check_;
