/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* For the files of db/ that speak to SQLite itself. */

#include <sqlite3.h>

#include "db/driver.h"

sqlite3 *lite_handle(struct db *db);
