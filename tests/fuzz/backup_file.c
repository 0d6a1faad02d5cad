/* Any bytes as the end of a backup: a description that is read is written in the same form, and every page of
 * it is covered by its size. */

#include "base/backup_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        _cleanup_backup_description_ BackupDescription d = {}, again = {};
        _cleanup_free_ void *written = NULL;
        size_t total = 0, written_size, read_size = 0;
        int r = backup_description_decode(bytes, size, &d, &total);

        assert(r == 1 || r == 0 || r == -EBADMSG || r == -ENOTSUP || r == -EMSGSIZE);
        assert(r != -EMSGSIZE || (total > size && total <= BACKUP_DESCRIPTION_MAX));
        if (r != 1)
                return 0;
        assert(total <= size && d.n_hosts <= BACKUP_HOSTS_MAX);
        assert(backup_description_write(&d, &written, &written_size) == 0 && written_size <= total);
        assert(backup_description_decode(written, written_size, &again, &read_size) == 1 &&
               read_size == written_size);
        assert(again.index == d.index && again.wall_ms == d.wall_ms && again.n_hosts == d.n_hosts &&
               again.unconfirmed == d.unconfirmed);
        for (size_t i = 0; i < d.n_hosts; i++)
                assert(streq(d.hosts[i], again.hosts[i]));
        return 0;
}
