#include "base/backup_file.h"

#include <sys/stat.h>

#include "base/bytes.h"
#include "base/file.h"
#include "base/file_checksum.h"

enum {
        PAGE = 4096,
        MAGIC_SIZE = 8,
        TAIL_SIZE = sizeof(uint32_t) + MAGIC_SIZE, /* the size of the description, and the magic */
};

static const char magic[MAGIC_SIZE] = "fltdback";

void backup_description_done(BackupDescription *d) {
        strings_free(d->hosts, d->n_hosts);
        *d = (BackupDescription) {};
}

int backup_description_add_host(BackupDescription *d, const char *name) {
        char **hosts;

        if (d->n_hosts == BACKUP_HOSTS_MAX)
                return 0;
        hosts = reallocarray(d->hosts, d->n_hosts + 1, sizeof(*hosts));
        if (!hosts)
                return -ENOMEM;
        d->hosts = hosts;
        hosts[d->n_hosts] = strndup(name, BACKUP_HOST_MAX);
        if (!hosts[d->n_hosts])
                return -ENOMEM;
        d->n_hosts++;
        return 0;
}

/* -- Bytes -- */

int backup_description_write(const BackupDescription *d, void **ret, size_t *ret_size) {
        const uint8_t zeroes[64] = {};
        _cleanup_writer_ Writer body = {}, w = {};
        size_t size;

        write_u64(&body, d->cluster_id);
        write_u64(&body, d->lineage);
        write_u64(&body, d->index);
        write_u64(&body, d->raft_index);
        write_u64(&body, d->cluster_ms);
        write_u64(&body, d->wall_ms);
        write_u64(&body, d->level);
        write_u8(&body, d->unconfirmed);
        write_varint(&body, d->n_hosts);
        for (size_t i = 0; i < d->n_hosts; i++)
                write_string(&body, d->hosts[i]);

        size = MAGIC_SIZE + sizeof(uint32_t) + body.size + TAIL_SIZE;
        size = (size + PAGE - 1) / PAGE * PAGE;
        write_raw(&w, magic, sizeof(magic));
        write_u32(&w, BACKUP_VERSION);
        write_raw(&w, body.bytes, body.size);
        while (w.error == 0 && w.size < size - TAIL_SIZE)
                write_raw(&w, zeroes, MIN(size - TAIL_SIZE - w.size, sizeof(zeroes)));
        write_u32(&w, size);
        write_raw(&w, magic, sizeof(magic));
        if (body.error < 0 || w.error < 0)
                return -ENOMEM;
        *ret = writer_take(&w, ret_size);
        return *ret ? 0 : -ENOMEM;
}

static int read_hosts(Reader *r, BackupDescription *d) {
        uint64_t n = read_varint(r);

        if (n > BACKUP_HOSTS_MAX)
                return -EBADMSG;
        for (uint64_t i = 0; i < n; i++) {
                _cleanup_free_ char *name = read_string(r, BACKUP_HOST_MAX);

                if (!name)
                        return r->failed ? -EBADMSG : -ENOMEM;
                TRY(backup_description_add_host(d, name));
        }
        return r->failed ? -EBADMSG : 0;
}

/* Decode what follows the first magic. */
static int decode_body(Reader *r, BackupDescription *d) {
        uint32_t version = read_u32(r);

        if (r->failed || version == 0)
                return -EBADMSG;
        if (version > BACKUP_VERSION)
                return -ENOTSUP;
        d->cluster_id = read_u64(r);
        d->lineage = read_u64(r);
        d->index = read_u64(r);
        d->raft_index = read_u64(r);
        d->cluster_ms = read_u64(r);
        d->wall_ms = read_u64(r);
        d->level = read_u64(r);
        d->unconfirmed = read_u8(r) & 1;
        return read_hosts(r, d);
}

int backup_description_decode(const void *bytes, size_t size, BackupDescription *ret, size_t *ret_size) {
        _cleanup_backup_description_ BackupDescription d = {};
        Reader tail, head;
        const void *begin;
        uint32_t total;

        if (size < PAGE)
                return 0;
        tail = reader_over((const uint8_t *) bytes + size - TAIL_SIZE, TAIL_SIZE);
        total = read_u32(&tail);
        if (memcmp(tail.bytes, magic, sizeof(magic)) != 0)
                return 0;
        if (total < PAGE || total % PAGE != 0 || total > BACKUP_DESCRIPTION_MAX)
                return -EBADMSG;
        *ret_size = total;
        if (total > size)
                return -EMSGSIZE;

        head = reader_over((const uint8_t *) bytes + size - total, total - TAIL_SIZE);
        begin = read_raw(&head, sizeof(magic));
        if (memcmp(begin, magic, sizeof(magic)) != 0)
                return -EBADMSG;
        TRY(decode_body(&head, &d));
        *ret = d;
        d = (BackupDescription) {};
        return 1;
}

/* -- Files -- */

int backup_description_read(int fd, BackupDescription *ret) {
        _cleanup_free_ uint8_t *bytes = NULL;
        size_t size = PAGE;
        struct stat st;
        int r;

        if (fstat(fd, &st) < 0)
                return -errno;
        do { /* the last page has the size of all */
                free(TAKE_PTR(bytes));
                if ((uint64_t) st.st_size < (uint64_t) size + FILE_CHECKSUM_SIZE)
                        return size == PAGE ? 0 : -EBADMSG;
                bytes = malloc(size);
                if (!bytes)
                        return -ENOMEM;
                r = pread_all(fd, bytes, size, (uint64_t) st.st_size - FILE_CHECKSUM_SIZE - size);
                if (r >= 0)
                        r = backup_description_decode(bytes, size, ret, &size);
        } while (r == -EMSGSIZE);
        return r;
}

int backup_file_check(int fd, const char *file, BackupDescription *ret, Error *err) {
        int r;

        r = file_checksum_check(fd, NULL);
        if (r == 0)
                return error_set(err, -EINVAL,
                                 "%s is not a backup, or truncated: it does not end with its checksum; use "
                                 "another copy",
                                 file);
        if (r == -EUCLEAN)
                return error_set(err, r, "%s is corrupt: checksum mismatch; use another copy", file);
        if (r < 0)
                return error_set(err, r, "Failed to read %s: %s", file, strerror(-r));
        r = backup_description_read(fd, ret);
        if (r == -ENOTSUP)
                return error_set(err, r, "%s was written by a newer fleetd; upgrade this host", file);
        if (r < 0)
                return error_set(err, r, "Failed to read the description in %s: %s", file, strerror(-r));
        return r;
}

/* Continue the checksum at the end of the copy, so that the copy is not read again. */
int backup_file_describe(int fd, const BackupDescription *d) {
        _cleanup_free_ void *bytes = NULL;
        uint8_t page[FILE_CHECKSUM_SIZE];
        uint64_t size;
        size_t added;
        uint32_t crc;
        int r;

        TRY(file_checksum_read(fd, &size, &crc));
        TRY(backup_description_write(d, &bytes, &added));
        TRY(pwrite_all(fd, bytes, added, size));
        r = file_checksum_page(size + added, crc32c(crc, bytes, added), page);
        return r < 0 ? r : pwrite_all(fd, page, sizeof(page), size + added);
}
