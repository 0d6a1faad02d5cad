/* A folder of a tree in a scratch folder, for tests: with the machine, boot and
 * disk that the test selects. */
#pragma once

#include <sys/stat.h>

#include "kvstore/tree/data_dir.h"

/* Of the program: needs -Wl,--wrap=read_file_at. fixture_setup() sets all to 0. */
extern uint64_t disk_seq; /* the kernel's number of the disk on which all lies;
                             0: it is no disk */
extern bool on_partition; /* whether that number is in the folder above the
                             device's own */
extern int copy_error;    /* of copy_file_range(): positive errno; 0: it works */

typedef struct Fixture {
        char *scratch, *path;
        unsigned machine, boot;
        DataDir folder;
        Tree *tree;
} Fixture;

int fixture_setup(void **state); /* of cmocka */
int fixture_teardown(void **state);
int fixture_try_open(Fixture *r, Error *err);
void fixture_open(Fixture *r);
void fixture_crash(Fixture *r); /* closes without an end in order */
void fixture_stop(Fixture *r);
struct stat fixture_stat(const Fixture *r, const char *name);
bool fixture_has(const Fixture *r, const char *name);
void fixture_make_file(const Fixture *r, const char *name, const char *text);
void fixture_rename(const Fixture *r, const char *from, const char *to);
void fixture_unlink(const Fixture *r, const char *name);
char *fixture_read(const Fixture *r, const char *name, size_t *ret_size);
void fixture_write(const Fixture *r, const char *name, const void *bytes, size_t size, uint64_t offset);

/* The file 'trusted'; "" when there is none. */
const char *fixture_marker(const Fixture *r);
unsigned fixture_opens(const Fixture *r);
bool fixture_says_shown(const Fixture *r);

/* Sets the key "/a". */
void fixture_put(Fixture *r, uint64_t applied, const char *value);
void fixture_checkpoint(Fixture *r);
void assert_tree_holds(Tree *tree, uint64_t applied, const char *value); /* 'value' NULL: an empty one */
unsigned n_descriptors(void);
