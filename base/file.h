/* Files, by a folder's descriptor: whole reads with a bound, and writes that are there whole or not at all.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Reads a regular file of at most 'max' bytes; symbolic links as the last component are refused (-ELOOP),
 * so are folders and devices (-EINVAL). *ret is terminated and the caller's to free. -EFBIG when larger. */
int read_file_at(int dir_fd, const char *name, size_t max, char **ret, size_t *ret_size);

typedef struct FolderFile {
        char *name, *text; /* owned; the text is terminated */
        size_t size;
        int error; /* below 0: it could not be read, as read_file_at() says; then there is no text */
} FolderFile;

/* Reads the files of a folder whose names end in 'suffix' and are not hidden, sorted by name; each as
 * read_file_at() does. -ENOENT: there is no such folder; -E2BIG: more than 'max_files'. */
int read_folder_at(int dir_fd, const char *folder, const char *suffix, size_t max_files, size_t max_size,
                   FolderFile **ret, size_t *ret_n);
void folder_files_free(FolderFile *files, size_t n);

/* Whether 'name' is a file that holds just these bytes: then it need not be written. */
bool file_holds_at(int dir_fd, const char *name, const void *bytes, size_t size);

/* The hidden file that is renamed to 'name': short, so that a name may have all the bytes that the file
 * system allows, and the same each time, so that what a crash left is replaced. */
enum { FILE_TEMPORARY_SIZE = 24 };
void file_temporary_name(const char *name, char ret[static FILE_TEMPORARY_SIZE]);

/* Replaces 'name': write to a hidden temporary file, fsync, rename, fsync the folder. After a crash either
 * the old or the new content is there. */
int write_file_at(int dir_fd, const char *name, const void *bytes, size_t size, mode_t mode);

/* The two halves of it: stage_file_at() writes and syncs the hidden file; commit_file_at() renames it, which
 * needs no room. */
int stage_file_at(int dir_fd, const char *name, const void *bytes, size_t size, mode_t mode);
int commit_file_at(int dir_fd, const char *name);

int fsync_dir(int dir_fd);

/* Those of descriptors 0 to 2 that are closed become /dev/null, for reading alone: nothing that is opened
 * later is taken for standard input or output, input ends at once, and output fails with EBADF, as on a
 * closed descriptor. */
void open_standard_descriptors(void);

/* Makes the folder and all above it ('mode' for each new one), durably, and opens it; a negative errno or the
 * descriptor. */
int open_dir(const char *path, mode_t mode);

/* A folder may be removed, or another one put in its place, while it is open. Then it is opened again (made
 * as by open_dir() if it has to be):
 * 1. 0: it is as it was; or a negative errno, and *fd stays. */
int reopen_dir(const char *path, mode_t mode, int *fd);

/* Write all of it, whatever a single write() or pwrite() takes. */
int write_all(int fd, const void *bytes, size_t size);
int pwrite_all(int fd, const void *bytes, size_t size, uint64_t offset);
int pread_all(int fd, void *bytes, size_t size, uint64_t offset); /* -ENODATA when the file ends before */

int room_at(int fd, uint64_t *ret_free,
            uint64_t *ret_total); /* bytes of the file system: free for us, and in all */

/* Removes a folder with all below it. -ENOENT is success. */
int remove_tree_at(int dir_fd, const char *name);
