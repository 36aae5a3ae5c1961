/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the files of unpacking know of each other: unpack.c reads an archive and puts its entries,
 * unpack_way.c finds the folders that their names lead to.  Descriptors that they return are the
 * caller's. */

#include <sys/stat.h>

#include "base/map.h"
#include "drivers/image/archive.h"
#include "drivers/image/unpack.h"
#include "os/digest.h"

enum { PATH_BYTES = 4096, BLOCK = 65536 };

struct unpack {
    const struct unpack_opts *o;
    int root;
    struct archive *outer, *inner;
    struct digest *hash;
    struct err source; /* what 'read' said when it failed */
    bool source_failed;
    struct map *copied; /* entries that came from below: whiteouts hide them too */
    bool opaque;
    struct unpack_counts *counts, own;
    const struct unpack_counts *most;
    uint64_t given; /* bytes of the uncompressed archive so far */
    char in[BLOCK], mid[BLOCK];
};

/* An entry of a folder. */
struct place {
    ino_t dir;
    char name[256];
};

/* On the way along a name: 'at' is where it is, in which there is no link. */
struct way {
    char at[PATH_BYTES], rest[2 * PATH_BYTES];
    int links, ups;
    bool hidden; /* nothing of what lies below shows there */
};

/* ---- unpack.c */

/* Adds n to *sum: ERR_INVALID over 'most', saying that the archive 'what' so many. */
int unpack_count(const struct unpack *u, int64_t *sum, int64_t n, int64_t most, const char *what,
                 struct err *e) _must_check_;
int unpack_count_bytes(struct unpack *u, int64_t n, struct err *e) _must_check_;
int unpack_count_entry(struct unpack *u, struct err *e) _must_check_;

/* ---- unpack_way.c */

/* The key of an entry in u->copied: its length. */
size_t place_of(const struct stat *dir, const char *name, struct place *out);
/* What was made in the folder 'dir' since 'before' does not change its time. */
int way_keep_time(int dir, const struct stat *before, struct err *e) _must_check_;
/* 1: it is there, 0: it is not. */
int way_look(int dir, const char *name, struct stat *st, struct err *e) _must_check_;
/* Something of below becomes the layer's own: 1, and *st is what it is; 0 if there is nothing that
 * can. */
int way_copy_up(struct unpack *u, const struct way *w, int dir, const char *name, const char *path,
                bool only_links, struct stat *st, struct err *e) _must_check_;
/* The folder 'path', through links of this layer and of those below, made where it is missing: its
 * descriptor; *w is where that is. */
int way_walk(struct unpack *u, const char *path, struct way *w, struct err *e) _must_check_;
/* As way_walk(); most folders are there. */
int way_folder(struct unpack *u, const char *path, struct err *e) _must_check_;
