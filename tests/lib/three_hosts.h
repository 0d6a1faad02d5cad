/* Up to three stores on real disks, with sessions over the loopback, in one process and on one loop; in a
 * folder that outlives the process. For tests that kill the process, or in which calls fail. */
#pragma once

#include "io/loop_uv.h"
#include "base/sizes.h"
#include "kvstore/kvstore.h"

enum { TRIO_MAX = 3, TRIO_PATIENCE_MS = 300000 };

typedef struct ThreeHosts ThreeHosts;

typedef struct ThreeHostsHost {
        ThreeHosts *trio;
        unsigned number;
        char address[ADDRESS_SIZE];
        char *raft_path, *tree_path;
        Disk *disk;
        Peers *peers;
        KvStore *store;
        unsigned resets;
        int failed;
        char failure[256];
} ThreeHostsHost;

struct ThreeHosts {
        UvLoop *uv;
        Loop *loop;
        Network *network; /* NULL: each is alone */
        const char *path; /* borrowed */
        unsigned boot;    /* number of the machines' boot */
        unsigned checkpoint_entries;
        uint64_t log_file_size;
        ThreeHostsHost hosts[TRIO_MAX];
};

/* 'path': the folder of them all. */
void three_hosts_new(ThreeHosts *t, const char *path, bool with_network);
void three_hosts_free(ThreeHosts *t); /* close the open hosts */

/* Runs the loop until it is true; false: it was not within the patience. */
bool three_hosts_until(ThreeHosts *t, bool (*is_true)(void *userdata), void *userdata);
bool three_hosts_until_for(ThreeHosts *t, uint64_t patience_ms, bool (*is_true)(void *userdata),
                           void *userdata);

int three_hosts_open(ThreeHosts *t, unsigned number, bool join,
                     Error *err); /* return the result of kv_open() */
void three_hosts_close(ThreeHosts *t, unsigned number);
/* Host 'number' joins the cluster that host 'leader' leads, and votes if asked to. */
void three_hosts_let_in(ThreeHosts *t, unsigned leader, unsigned number, bool votes);
bool three_hosts_is_led(void *host);

/* KV_UNKNOWN also when kv_propose() failed. */
KvStatus three_hosts_put(ThreeHostsHost *h, const char *key, const char *value);
KvStatus three_hosts_sync(ThreeHostsHost *h);
/* Puts keys until the file that is the last one of the log now is removed: checkpoints are made beside the
 * writes, and on a busy machine later than them. */
void three_hosts_cut_log(ThreeHostsHost *h,
                         void (*put_many)(ThreeHostsHost *h, const char *prefix, unsigned n));
/* What is at 'key', or "-"; in 'value'. */
const char *three_hosts_get(ThreeHostsHost *h, const char *key, char value[static 512]);
