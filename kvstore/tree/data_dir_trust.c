/* The marker 'trusted': whether the live tree is complete after a restart. */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/file.h"
#include "kvstore/tree/data_dir_internal.h"

#define SERVED "shown\n" /* the last line; a released format */
#define TIME   "time "
#define DISK   "disk " /* disk_number() */

enum { SYSFS_MAX = 4096 }; /* bytes: each file in sysfs has at most one page */

/* Return the sequence number that the kernel assigned when the disk was attached; it is unique in this boot.
 * 0: 'device' is no disk, or the kernel is older than 5.15.
 *
 * Device and inode do not detect that a disk was removed with unwritten data, attached and mounted again.
 * Neither does the mount ID, which also differs between mount namespaces. */
static uint64_t disk_number(dev_t device) {
        static const char *const names[] = { "", "../" }; /* of a disk, of a partition */
        char path[64];
        uint64_t n;

        for (size_t i = 0; i < ELEMENTS(names); i++) {
                _cleanup_free_ char *text = NULL;

                snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%sdiskseq", major(device), minor(device),
                         names[i]);
                if (read_file_at(AT_FDCWD, path, SYSFS_MAX, &text, NULL) >= 0 &&
                    sscanf(text, "%19" SCNu64, &n) == 1)
                        return n;
        }
        return 0;
}

static int marker_begin(const DataDir *folder, char *ret, size_t size, uint64_t *ret_disk) {
        struct stat st;

        if (fstatat(folder->fd, "live/" DATA, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;

        snprintf(ret, size, "1\nboot %s\nmachine %s\ndevice %" PRIu64 "\ninode %" PRIu64 "\n",
                 folder->boot_id, folder->machine_id, (uint64_t) st.st_dev, (uint64_t) st.st_ino);
        *ret_disk = disk_number(st.st_dev);
        return 0;
}

/* An older version reads the lines up to 'opens' and the last line, and skips the lines between them. */
int data_dir_write_marker(const DataDir *folder, unsigned opens, bool served) {
        uint64_t cluster_ms = folder->cluster_ms;
        char text[MARKER_MAX], time[32] = "", disk[32] = "";
        uint64_t number;
        size_t size;

        TRY(marker_begin(folder, text, sizeof(text), &number));

        size = strlen(text);
        if (cluster_ms > 0)
                snprintf(time, sizeof(time), TIME "%" PRIu64 "\n", cluster_ms);
        if (number > 0)
                snprintf(disk, sizeof(disk), DISK "%" PRIu64 "\n", number);
        snprintf(text + size, sizeof(text) - size, "opens %u\n%s%s%s", opens, time, disk,
                 served ? SERVED : "");
        return write_file_at(folder->fd, "trusted", text, strlen(text), 0600);
}

void data_dir_marker_written(DataDir *folder, unsigned opens, bool served) {
        folder->opens = opens;
        folder->served = served;
}

bool data_dir_is_trusted(const DataDir *folder, unsigned *ret_opens, bool *ret_served) {
        _cleanup_free_ char *found = NULL;
        uint64_t disk, was = 0;
        char wanted[MARKER_MAX];
        const char *line;
        size_t size;

        if (marker_begin(folder, wanted, sizeof(wanted), &disk) < 0 ||
            read_file_at(folder->fd, "trusted", MARKER_MAX, &found, &size) < 0)
                return false;
        if (!starts_with(found, wanted) || sscanf(found + strlen(wanted), "opens %9u", ret_opens) != 1)
                return false;
        line = strstr(found, "\n" DISK);
        if (line && (sscanf(line, "\n" DISK "%19" SCNu64 "\n", &was) != 1 || was != disk))
                return false;
        *ret_served = ends_with(found, "\n" SERVED);

        /* A sync reports errors of the kernel's writeback since the last one. */
        return data_dir_sync_file(folder, "live/" DATA) >= 0;
}

uint64_t data_dir_read_time(const DataDir *folder) {
        _cleanup_free_ char *text = NULL;
        char machine[64];
        const char *line;
        uint64_t ms = 0;

        snprintf(machine, sizeof(machine), "\nmachine %s\n", folder->machine_id);
        if (read_file_at(folder->fd, "trusted", MARKER_MAX, &text, NULL) < 0 || !strstr(text, machine))
                return 0;
        line = strstr(text, "\n" TIME);
        return line && sscanf(line, "\n" TIME "%19" SCNu64 "\n", &ms) == 1 ? ms : 0;
}

void data_dir_distrust(DataDir *folder) {
        folder->distrusted = true;
        (void) unlinkat(folder->fd, "trusted", 0);
}

void data_dir_raise_quota(DataDir *folder, uint64_t quota) {
        folder->quota = MAX(folder->quota, quota);
}

void data_dir_keep_time(DataDir *folder, uint64_t cluster_ms) {
        if (folder->cluster_ms < cluster_ms)
                folder->cluster_ms = cluster_ms;
}

void data_dir_closed(DataDir *folder) {
        if (!folder->distrusted && folder->fd >= 0)
                (void) data_dir_write_marker(folder, 0,
                                             folder->served); /* on failure, the start counts as bad */
}

int data_dir_serve(DataDir *folder) {
        if (folder->served || folder->distrusted)
                return 0;
        TRY(data_dir_write_marker(folder, folder->opens, true));

        data_dir_marker_written(folder, folder->opens, true);
        return 0;
}

bool data_dir_was_served(const DataDir *folder) {
        return folder->served;
}

/* Truncate the file in place, which needs no free space. */
int data_dir_unserve(DataDir *folder) {
        _cleanup_close_ int fd = -1;
        struct stat st;

        if (!folder->served || folder->distrusted)
                return 0;
        fd = openat(folder->fd, "trusted", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (st.st_size < (off_t) strlen(SERVED))
                return -EBADMSG;
        if (ftruncate(fd, st.st_size - (off_t) strlen(SERVED)) < 0 || fsync(fd) < 0)
                return -errno;
        folder->served = false;
        return 0;
}
