#include "units/hash.h"

#include <gnutls/crypto.h>

#include "base/parse.h"

static int hash_of(const UnitFile *file, bool (*skip)(const char *section), char ret[UNIT_HASH_SIZE]) {
        _cleanup_text_ Text t = {};
        unsigned char digest[20];

        unit_file_print(file, &t, skip);
        TRY(t.error);
        if (gnutls_hash_fast(GNUTLS_DIG_SHA1, t.chars ? t.chars : "", t.size, digest) < 0)
                return -EOPNOTSUPP;

        hex_print(digest, sizeof(digest), ret);
        return 0;
}

int unit_file_hash(const UnitFile *file, char ret[UNIT_HASH_SIZE]) {
        return hash_of(file, NULL, ret);
}

int unit_file_systemd_hash(const UnitFile *file, char ret[UNIT_HASH_SIZE]) {
        return hash_of(file, unit_file_section_is_ours, ret);
}

int bytes_sha256(const void *bytes, size_t size, char ret[SHA256_SIZE]) {
        unsigned char digest[32];

        if (gnutls_hash_fast(GNUTLS_DIG_SHA256, bytes, size, digest) < 0)
                return -EOPNOTSUPP;

        hex_print(digest, sizeof(digest), ret);
        return 0;
}
