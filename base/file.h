/* Files, relative to the descriptor of a folder: bounded complete reads, atomic writes. */
#pragma once

#include <sys/types.h>

#include "base/memory.h"

/* Read a regular file of at most 'max' bytes. The caller frees *ret, which a zero byte terminates. Errors:
 *   -ELOOP    the last component is a symbolic link
 *   -EINVAL   a folder or device
 *   -EFBIG    larger than 'max' */
int read_file_at(int dir_fd, const char *name, size_t max, char **ret, size_t *ret_size);

/* List the names of a folder, sorted. With 'suffix', only those that end in it and are not hidden. The caller
 * frees *ret by strings_free(). -ENOENT: no such folder; -E2BIG: more than 'max' names. */
int list_folder_at(int dir_fd, const char *folder, const char *suffix, size_t max, char ***ret,
                   size_t *ret_n);
void strings_free(char **strings, size_t n); /* the strings and their array */

typedef struct FolderFile {
        char *name, *text; /* owned; the text is terminated */
        size_t size;
        int error; /* negative errno of read_file_at(); text is NULL then */
} FolderFile;

/* Read the files of a folder whose names end in 'suffix' and are not hidden, as read_file_at() does. *ret is
 * sorted by name. -ENOENT: no such folder; -E2BIG: more than 'max_files'. */
int read_folder_at(int dir_fd, const char *folder, const char *suffix, size_t max_files, size_t max_size,
                   FolderFile **ret, size_t *ret_n);
void folder_files_free(FolderFile *files, size_t n);

/* Identifies the content of a file without reading it: a change alters one of these, unless two changes
 * follow within the resolution of the file system's clock. All 0: unknown. */
typedef struct FileStamp {
        uint64_t device, inode, size;
        int64_t modified_ns, changed_ns;
} FileStamp;

/* Return the stamp of a file, which may be a symbolic link. 0 or a negative errno. */
int file_stamp_at(int dir_fd, const char *name, FileStamp *ret);

/* Return whether the content of the file 'name' equals these bytes, so that writing it is unnecessary. */
bool file_holds_at(int dir_fd, const char *name, const void *bytes, size_t size);

/* Return the name of the hidden file that write_file_at() renames to 'name'. It is short, so that 'name' can
 * have the full length that the file system permits. It is constant, so that the next write replaces what a
 * crash left. */
enum { FILE_TEMPORARY_SIZE = 24 };
void file_temporary_name(const char *name, char ret[static FILE_TEMPORARY_SIZE]);

/* Replace 'name': write to a hidden temporary file, fsync, rename, fsync the folder. After a crash the file
 * has either the old or the new content. */
int write_file_at(int dir_fd, const char *name, const void *bytes, size_t size, mode_t mode);

/* The two steps of write_file_at(). stage_file_at() writes and syncs the hidden file; commit_file_at()
 * renames it, which needs no free space. */
int stage_file_at(int dir_fd, const char *name, const void *bytes, size_t size, mode_t mode);
int commit_file_at(int dir_fd, const char *name);

int fsync_dir(int dir_fd);

/* Open /dev/null, read-only, for each closed descriptor of 0 to 2. No file that is opened later then becomes
 * standard input or output; reads return the end of file, and writes fail with EBADF as on a closed
 * descriptor. */
void open_standard_descriptors(void);

/* Create the folder and its missing parents durably, with 'mode', and open it. Return the descriptor or a
 * negative errno. */
int open_dir(const char *path, mode_t mode);

/* Open a folder again, as open_dir() does, if it was removed or replaced since *fd was opened. Return 1 if
 * *fd is a new descriptor, 0 if the folder is the same, or a negative errno; *fd is unchanged then. */
int reopen_dir(const char *path, mode_t mode, int *fd);

/* Write or read all bytes; a single system call may transfer fewer. */
int write_all(int fd, const void *bytes, size_t size);
int pwrite_all(int fd, const void *bytes, size_t size, uint64_t offset);
int pread_all(int fd, void *bytes, size_t size, uint64_t offset); /* -ENODATA: the file is shorter */

/* Return the bytes of a file system: available to this process, and in total. */
int space_at(int fd, uint64_t *ret_free, uint64_t *ret_total);

/* Remove a folder with its content, or a file. Success if it does not exist. */
int remove_tree_at(int dir_fd, const char *name);
