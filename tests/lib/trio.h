/* Up to three stores on real disks, with sessions over the loopback, in one process and on one loop; in a
 * folder that outlives the process. For tests that kill the process, or in which calls fail. */
#pragma once

#include "io/loop_uv.h"
#include "kvstore/kvstore.h"

enum { TRIO_MAX = 3, TRIO_PATIENCE_MS = 20000 };

typedef struct Trio Trio;

typedef struct TrioHost {
        Trio *trio;
        unsigned number;
        char address[64];
        char *raft_path, *tree_path;
        Disk *disk;
        Peers *peers;
        KvStore *store;
        unsigned resets;
        int failed;
        char failure[256];
} TrioHost;

struct Trio {
        UvLoop *uv;
        Loop *loop;
        Network *network; /* NULL: each is alone */
        const char *path; /* borrowed */
        unsigned boot;    /* number of the machines' boot */
        unsigned checkpoint_entries;
        uint64_t log_file_size;
        TrioHost hosts[TRIO_MAX];
};

/* 'path': the folder of them all. */
void trio_new(Trio *t, const char *path, bool with_network);
void trio_free(Trio *t); /* closes whoever is open */

/* Runs the loop until it is true; false: it was not within the patience. */
bool trio_until(Trio *t, bool (*is_true)(void *userdata), void *userdata);
bool trio_until_for(Trio *t, uint64_t patience_ms, bool (*is_true)(void *userdata), void *userdata);

int trio_open(Trio *t, unsigned number, bool join, Error *err); /* what kv_open() says */
void trio_close(Trio *t, unsigned number);
/* Host 'number' joins the cluster that host 'leader' leads, and votes if asked to. */
void trio_let_in(Trio *t, unsigned leader, unsigned number, bool votes);
bool trio_is_led(void *host);

/* KV_UNKNOWN also when kv_propose() failed. */
KvStatus trio_put(TrioHost *h, const char *key, const char *value);
KvStatus trio_sync(TrioHost *h);
/* Puts keys until the file that is the last one of the log now is removed: checkpoints are made beside the
 * writes, and on a busy machine later than them. */
void trio_cut_log(TrioHost *h, void (*put_many)(TrioHost *h, const char *prefix, unsigned n));
/* What is at 'key', or "-"; in 'value'. */
const char *trio_get(TrioHost *h, const char *key, char value[static 512]);
