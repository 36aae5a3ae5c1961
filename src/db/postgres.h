/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* For the files of db/ that know PostgreSQL. */

#include <libpq-fe.h>

#include "db/driver.h"

PGconn *pg_handle(struct db *db);
/* Connects anew; what was prepared is forgotten. */
int pg_connect(struct db *db, struct err *e);
/* Whether the connection is gone. */
bool pg_lost(struct db *db);
