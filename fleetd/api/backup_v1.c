/* GET /fleet/v1/cluster/backup: a backup of the tree of this host, while it runs.
 *
 * A ReadIndex check comes first: then the copy has all that was acknowledged before the request. Without a
 * leader the backup is of what this host has, and says so. The copy is a checkpoint, which stays open while
 * it is sent, also after the next one has replaced it. A worker with a low priority reads it in pieces, one
 * at a time: the next one when the connection has accepted the previous one. The checksum is computed again,
 * so that a piece that a disk has corrupted is noticed here. */
#include <fcntl.h>

#include "base/backup_file.h"
#include "base/bytes.h"
#include "base/file.h"
#include "base/file_checksum.h"
#include "base/log.h"
#include "fleetd/api/handlers.h"

enum { PIECE = 128 * 1024 }; /* bytes */

typedef struct Backup {
        Request *request; /* NULL: the client has left; a worker ends alone */
        KvCopyRequest copy;
        bool copying, working, described;
        int fd;
        uint64_t size, sent; /* bytes of the copy, without its checksum; those that were read */
        uint32_t crc;
        BackupDescription description;
        Work work;
        Shared *piece; /* read, and not accepted by the connection yet */
        int error;     /* of the worker */
} Backup;

static void backup_free(Backup *b) {
        backup_description_done(&b->description);
        closep(&b->fd);
        shared_unref(b->piece);
        free(b);
}

static void backup_on_end(Request *request) {
        Backup *b = request->state;

        if (b->copying)
                kv_copy_cancel(request->api->host->store, &b->copy);
        request->api->backing_up = false;
        b->request = NULL;
        if (!b->working)
                backup_free(b);
}

/* -- Sending -- */

/* Read the next piece of the copy. */
static int piece_of_copy(Backup *b) {
        size_t n = (size_t) MIN((uint64_t) PIECE, b->size - b->sent);
        _cleanup_free_ uint8_t *bytes = malloc(n);

        if (!bytes)
                return -ENOMEM;
        TRY(pread_all(b->fd, bytes, n, b->sent));
        b->crc = crc32c(b->crc, bytes, n);
        b->sent += n;
        b->piece = shared_new(bytes, n);
        return b->piece ? 0 : -ENOMEM;
}

/* Make the description and the checksum of all, once the copy has its own one. */
static int piece_of_description(Backup *b) {
        _cleanup_free_ void *bytes = NULL;
        uint8_t page[FILE_CHECKSUM_SIZE];
        _cleanup_writer_ Writer w = {};
        uint64_t size;
        uint32_t crc;
        size_t n;

        TRY(file_checksum_read(b->fd, &size, &crc));
        if (size != b->size || crc != b->crc)
                return -EUCLEAN;
        TRY(backup_description_write(&b->description, &bytes, &n));
        TRY(file_checksum_page(size + n, crc32c(crc, bytes, n), page));
        write_raw(&w, bytes, n);
        write_raw(&w, page, sizeof(page));
        b->piece = w.error < 0 ? NULL : shared_new(w.bytes, w.size);
        b->described = true;
        return b->piece ? 0 : -ENOMEM;
}

static void backup_work(void *userdata) {
        Backup *b = userdata;

        b->error = b->sent < b->size ? piece_of_copy(b) : piece_of_description(b);
}

static void backup_on_piece(void *userdata);

static void backup_read_next(Backup *b) {
        b->work = WORK(backup_work, backup_on_piece, b);
        b->work.nice = WORK_NICE_PATIENT;
        if (loop_work(b->request->api->loop, &b->work) < 0)
                request_cut(b->request, "out of memory");
        else
                b->working = true;
}

/* Send the piece, or leave it until the connection has drained. */
static void backup_send(Backup *b) {
        int r = http_chunk_shared(b->request->http, b->piece);

        if (r == -ENOBUFS)
                return;
        shared_unref(TAKE_PTR(b->piece));
        if (r < 0)
                request_cut(b->request, strerror(-r));
        else if (b->described)
                request_end(b->request);
        else
                backup_read_next(b);
}

static void backup_on_piece(void *userdata) {
        Backup *b = userdata;

        b->working = false;
        if (!b->request) {
                backup_free(b);
                return;
        }
        if (b->error == 0) {
                backup_send(b);
                return;
        }
        log_warning(((LogFields) { .error = b->error }), "Failed to read the checkpoint for a backup: %s",
                    strerror(-b->error));
        request_cut(b->request, "the checkpoint cannot be read");
}

static void backup_on_drain(Request *request) {
        Backup *b = request->state;

        if (b->piece && !b->working)
                backup_send(b);
}

/* -- The copy -- */

static int describe(Backup *b, const KvCopy *copy) {
        const Api *api = b->request->api;
        _cleanup_free_ ClusterMachine **machines = NULL;
        BackupDescription *d = &b->description;
        size_t n = 0;
        int r = 0;

        d->cluster_id = copy->cluster_id;
        d->lineage = copy->lineage;
        d->index = copy->index;
        d->raft_index = copy->raft_index;
        d->cluster_ms = copy->cluster_ms;
        d->level = copy->level;
        d->wall_ms = loop_wall_ms(api->loop);
        machines = cluster_machines_sorted(registry_cluster(api->host->registry), &n);
        if (!machines)
                return -ENOMEM;
        for (size_t i = 0; i < n && r == 0; i++)
                if (cluster_machine_hostname(machines[i]) && !cluster_machine_is_removed(machines[i]))
                        r = backup_description_add_host(d, cluster_machine_name(machines[i]));
        return r;
}

static int backup_open(Backup *b, const KvCopy *copy) {
        if (copy->size <= FILE_CHECKSUM_SIZE)
                return -EUCLEAN;
        b->size = copy->size - FILE_CHECKSUM_SIZE;
        b->fd = fcntl(copy->fd, F_DUPFD_CLOEXEC, 3);
        if (b->fd < 0)
                return -errno;
        TRY(describe(b, copy));
        return file_checksum_read(b->fd, &(uint64_t) { 0 }, &(uint32_t) { 0 });
}

static void backup_on_copy(void *userdata, int result, const KvCopy *copy, const char *reason) {
        Backup *b = userdata;
        int r;

        b->copying = false;
        if (result < 0) {
                request_error(b->request, 503, "%s", reason);
                return;
        }
        r = backup_open(b, copy);
        if (r == -ENODATA) { /* of an older version; the next one has a checksum */
                request_error(b->request, 503,
                              "the last checkpoint has no checksum yet: write a key, and try again");
                return;
        }
        if (r < 0) {
                request_error(b->request, 503, "Failed to open the checkpoint: %s", strerror(-r));
                return;
        }
        request_begin(b->request, "application/octet-stream", NULL);
        backup_read_next(b);
}

static void backup_on_synced(Request *request, KvStatus status) {
        Backup *b = request->state;

        b->description.unconfirmed = status != KV_OK;
        b->copying = true;
        b->copy = (KvCopyRequest) { .done = backup_on_copy, .userdata = b };
        kv_copy(request->api->host->store, &b->copy);
}

unsigned backup_handle(Request *request, Error *err) {
        Backup *b;

        if (request->api->backing_up)
                return error_set(err, 503,
                                 "this host makes another backup: try again later, or on another host");
        b = NEW0(Backup, 1);
        if (!b)
                return error_set(err, 500, "out of memory");
        *b = (Backup) { .request = request, .fd = -1 };
        request->state = b;
        request->on_end = backup_on_end;
        request->on_drain = backup_on_drain;
        request->api->backing_up = true;
        request_sync(request, backup_on_synced);
        return 0;
}
