/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Whether the columns of the records are those of the migrated database. */

#include "base/base.h"

struct app;

/* Compares every record of a mounted route or of a loop with its table: each field has its column,
 * of its type; what is sorted by, or never absent, is NOT NULL; what a client may leave out or
 * clear is not; and a table asks for no column that its record does not fill.  Names the first that
 * is wrong. */
int columns_check(struct app *app, struct err *e) _must_check_;
