/* A folder of a tree in a scratch folder, for tests: with the machine, boot and
 * disk that the test says. */
#pragma once

#include <sys/stat.h>

#include "kvstore/raft/folder.h"

/* Of the program: needs -Wl,--wrap=read_file_at. room_setup() sets all to 0. */
extern uint64_t disk_seq; /* the kernel's number of the disk on which all lies;
                             0: it is no disk */
extern bool on_partition; /* whether that number is in the folder above the
                             device's own */
extern int copy_error;    /* of copy_file_range(): positive errno; 0: it works */

typedef struct Room {
        char *scratch, *path;
        unsigned machine, boot;
        Folder folder;
        Tree *tree;
} Room;

int room_setup(void **state); /* of cmocka */
int room_teardown(void **state);
int room_try_open(Room *r, Error *err);
void room_open(Room *r);
void room_crash(Room *r); /* closes without an end in order */
void room_stop(Room *r);
struct stat room_stat(const Room *r, const char *name);
bool room_has(const Room *r, const char *name);
void room_make_file(const Room *r, const char *name, const char *text);
void room_rename(const Room *r, const char *from, const char *to);
void room_unlink(const Room *r, const char *name);
char *room_read(const Room *r, const char *name, size_t *ret_size);
void room_write(const Room *r, const char *name, const void *bytes, size_t size, uint64_t offset);

/* The file 'trusted'; "" when there is none. */
const char *room_marker(const Room *r);
unsigned room_opens(const Room *r);
bool room_says_shown(const Room *r);

/* Sets the key "/a". */
void room_put(Room *r, uint64_t applied, const char *value);
void room_checkpoint(Room *r);
void assert_tree_holds(Tree *tree, uint64_t applied, const char *value); /* 'value' NULL: an empty one */
unsigned n_descriptors(void);
