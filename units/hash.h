/* Hash of a unit's contents: SHA-1 of the canonical text, the same as in fleet. It distinguishes contents; it
 * is no protection against forgery. */
#pragma once

#include "units/unit_file.h"

enum {
        UNIT_HASH_SIZE = 41, /* 40 hex digits and the terminating byte */
        UNIT_HASH_SHORT = 7, /* digits in lists */
        SHA256_SIZE = 65,    /* 64 hex digits and the terminating byte */
};

/* Of the whole file. */
int unit_file_hash(const UnitFile *file, char ret[UNIT_HASH_SIZE]);

/* Without the sections of fleet, which systemd ignores: units with equal hashes run alike. */
int unit_file_systemd_hash(const UnitFile *file, char ret[UNIT_HASH_SIZE]);

/* SHA-256 of any bytes, in lower-case hex digits. 0 or -EOPNOTSUPP. */
int bytes_sha256(const void *bytes, size_t size, char ret[SHA256_SIZE]);
