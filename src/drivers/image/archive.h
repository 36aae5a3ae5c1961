/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* libarchive, opened with the first archive: archive_open() before anything else of it. */

#include <archive.h>
#include <archive_entry.h>

#include "os/engine.h"

/* clang-format off */
#define ARCHIVE_FUNCTIONS(F) \
    F(archive_entry_filetype) F(archive_entry_free) F(archive_entry_gid) F(archive_entry_hardlink) \
    F(archive_entry_mtime) F(archive_entry_mtime_nsec) F(archive_entry_new) F(archive_entry_pathname) F(archive_entry_perm) \
    F(archive_entry_set_filetype) F(archive_entry_set_mtime) F(archive_entry_set_pathname) \
    F(archive_entry_set_perm) F(archive_entry_set_size) F(archive_entry_set_symlink) \
    F(archive_entry_size) F(archive_entry_size_is_set) F(archive_entry_symlink) \
    F(archive_entry_uid) F(archive_entry_xattr_next) F(archive_entry_xattr_reset) F(archive_errno) \
    F(archive_error_string) F(archive_read_data) F(archive_read_data_block) F(archive_read_free) \
    F(archive_read_new) F(archive_read_next_header) F(archive_read_open) \
    F(archive_read_support_filter_bzip2) F(archive_read_support_filter_gzip) \
    F(archive_read_support_filter_xz) F(archive_read_support_filter_zstd) \
    F(archive_read_support_format_empty) F(archive_read_support_format_gnutar) \
    F(archive_read_support_format_raw) F(archive_read_support_format_tar) F(archive_set_error) \
    F(archive_write_add_filter_zstd) F(archive_write_close) F(archive_write_data) \
    F(archive_write_free) F(archive_write_header) F(archive_write_new) F(archive_write_open) \
    F(archive_write_open_fd) F(archive_write_set_format_pax_restricted) \
    F(archive_write_set_format_raw)
/* clang-format on */
ENGINE_DECLARE(archive, ARCHIVE_FUNCTIONS);

#ifndef ARCHIVE_ENGINE
#    define archive_entry_filetype             archive_engine.archive_entry_filetype
#    define archive_entry_free                 archive_engine.archive_entry_free
#    define archive_entry_gid                  archive_engine.archive_entry_gid
#    define archive_entry_hardlink             archive_engine.archive_entry_hardlink
#    define archive_entry_mtime                archive_engine.archive_entry_mtime
#    define archive_entry_mtime_nsec           archive_engine.archive_entry_mtime_nsec
#    define archive_entry_new                  archive_engine.archive_entry_new
#    define archive_entry_pathname             archive_engine.archive_entry_pathname
#    define archive_entry_perm                 archive_engine.archive_entry_perm
#    define archive_entry_set_filetype         archive_engine.archive_entry_set_filetype
#    define archive_entry_set_mtime            archive_engine.archive_entry_set_mtime
#    define archive_entry_set_pathname         archive_engine.archive_entry_set_pathname
#    define archive_entry_set_perm             archive_engine.archive_entry_set_perm
#    define archive_entry_set_size             archive_engine.archive_entry_set_size
#    define archive_entry_set_symlink          archive_engine.archive_entry_set_symlink
#    define archive_entry_size                 archive_engine.archive_entry_size
#    define archive_entry_size_is_set          archive_engine.archive_entry_size_is_set
#    define archive_entry_symlink              archive_engine.archive_entry_symlink
#    define archive_entry_uid                  archive_engine.archive_entry_uid
#    define archive_entry_xattr_next           archive_engine.archive_entry_xattr_next
#    define archive_entry_xattr_reset          archive_engine.archive_entry_xattr_reset
#    define archive_errno                      archive_engine.archive_errno
#    define archive_error_string               archive_engine.archive_error_string
#    define archive_read_data                  archive_engine.archive_read_data
#    define archive_read_data_block            archive_engine.archive_read_data_block
#    define archive_read_free                  archive_engine.archive_read_free
#    define archive_read_new                   archive_engine.archive_read_new
#    define archive_read_next_header           archive_engine.archive_read_next_header
#    define archive_read_open                  archive_engine.archive_read_open
#    define archive_read_support_filter_bzip2  archive_engine.archive_read_support_filter_bzip2
#    define archive_read_support_filter_gzip   archive_engine.archive_read_support_filter_gzip
#    define archive_read_support_filter_xz     archive_engine.archive_read_support_filter_xz
#    define archive_read_support_filter_zstd   archive_engine.archive_read_support_filter_zstd
#    define archive_read_support_format_empty  archive_engine.archive_read_support_format_empty
#    define archive_read_support_format_gnutar archive_engine.archive_read_support_format_gnutar
#    define archive_read_support_format_raw    archive_engine.archive_read_support_format_raw
#    define archive_read_support_format_tar    archive_engine.archive_read_support_format_tar
#    define archive_set_error                  archive_engine.archive_set_error
#    define archive_write_add_filter_zstd      archive_engine.archive_write_add_filter_zstd
#    define archive_write_close                archive_engine.archive_write_close
#    define archive_write_data                 archive_engine.archive_write_data
#    define archive_write_free                 archive_engine.archive_write_free
#    define archive_write_header               archive_engine.archive_write_header
#    define archive_write_new                  archive_engine.archive_write_new
#    define archive_write_open                 archive_engine.archive_write_open
#    define archive_write_open_fd              archive_engine.archive_write_open_fd
#    define archive_write_set_format_pax_restricted \
        archive_engine.archive_write_set_format_pax_restricted
#    define archive_write_set_format_raw archive_engine.archive_write_set_format_raw
#endif
