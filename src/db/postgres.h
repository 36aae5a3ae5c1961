/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* For the files of db/ that know PostgreSQL. */

/* libpq is opened with the first store that needs it: pq_open(). */
#include <libpq-fe.h>

#include "db/driver.h"
#include "os/engine.h"

/* clang-format off */
#define PQ_FUNCTIONS(F) \
    F(PQclear) F(PQcmdStatus) F(PQcmdTuples) F(PQconnectdbParams) F(PQerrorMessage) F(PQexec) \
    F(PQexecPrepared) F(PQfinish) F(PQftype) F(PQgetisnull) F(PQgetlength) F(PQgetvalue) \
    F(PQnfields) F(PQntuples) F(PQparameterStatus) F(PQprepare) F(PQresultErrorField) \
    F(PQresultStatus) F(PQserverVersion) F(PQsetNoticeReceiver) F(PQstatus) F(PQtransactionStatus)
/* clang-format on */
ENGINE_DECLARE(pq, PQ_FUNCTIONS);

#ifndef PQ_ENGINE
#    define PQclear             pq_engine.PQclear
#    define PQcmdStatus         pq_engine.PQcmdStatus
#    define PQcmdTuples         pq_engine.PQcmdTuples
#    define PQconnectdbParams   pq_engine.PQconnectdbParams
#    define PQerrorMessage      pq_engine.PQerrorMessage
#    define PQexec              pq_engine.PQexec
#    define PQexecPrepared      pq_engine.PQexecPrepared
#    define PQfinish            pq_engine.PQfinish
#    define PQftype             pq_engine.PQftype
#    define PQgetisnull         pq_engine.PQgetisnull
#    define PQgetlength         pq_engine.PQgetlength
#    define PQgetvalue          pq_engine.PQgetvalue
#    define PQnfields           pq_engine.PQnfields
#    define PQntuples           pq_engine.PQntuples
#    define PQparameterStatus   pq_engine.PQparameterStatus
#    define PQprepare           pq_engine.PQprepare
#    define PQresultErrorField  pq_engine.PQresultErrorField
#    define PQresultStatus      pq_engine.PQresultStatus
#    define PQserverVersion     pq_engine.PQserverVersion
#    define PQsetNoticeReceiver pq_engine.PQsetNoticeReceiver
#    define PQstatus            pq_engine.PQstatus
#    define PQtransactionStatus pq_engine.PQtransactionStatus
#endif

PGconn *pg_handle(struct db *db);
/* Connects anew; what was prepared is forgotten. */
int pg_connect(struct db *db, struct err *e);
/* Whether the connection is gone. */
bool pg_lost(struct db *db);
