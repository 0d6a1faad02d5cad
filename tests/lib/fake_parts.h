/* A real replica whose parts are played: core, log, folder, tree, transfers, comparison and sessions. Each
 * call that has an effect is written down; what can be asked is what the test says, and each call can fail.
 * With tests/lib/fake_replica.h, whose loop and time it uses, and $(FAKE_PARTS), which leads the calls here.
 */
#pragma once

#include "kvstore/raft/replica_internal.h"
#include "tests/lib/fake_replica.h"

enum {
        PART_TREES = 8,
        PART_ENTRY = 100, /* bytes that each entry takes in memory */
};

/* A lost log, a checkpoint under way and the like are fields of the replica; this is what lies below it. */
typedef struct FakeParts {
        Replica *p;
        ReplicaOptions options;
        PeerHandshake self, handshake; /* ours; that of each session */

        RaftState state;
        RaftServerRole role;
        int core_error;
        bool behind, installing, misfit;
        uint64_t leader, term, first, last, stored, timeout_ms, cost, held, touched;
        uint64_t match[8];              /* by id; UINT64_MAX: unknown */
        size_t entry_bytes, more_bytes; /* of each entry, PART_ENTRY; and further memory of the log */

        bool busy, differs, undecided, wanted; /* transfers; comparison; a chunk counts */
        Checkpoint *received, *whole;
        bool no_session;

        RaftLogMeta meta;
        uint64_t log_last, oldest_ms, log_first;
        size_t log_entries;
        const char *torn;
        bool log_closes_later;
        void (*log_closed)(void *userdata);

        TreeMeta trees[PART_TREES];
        uint64_t file_size, configuration_size;
        unsigned n_trees, n_txns; /* opened so far; open now */
        uint64_t space[2], total[2];
        bool corrupt; /* the checkpoint, when the tree is rebuilt */

        struct {
                const char *name;
                int error;
                unsigned skip; /* calls before */
        } fails[4];
        bool no_message; /* a call that fails sets none */
        Work *works[4];
        size_t n_works;
} FakeParts;

extern FakeParts parts;

/* A member of three with its log: open and started, a follower in term 5 of leader 2, applied up to 10 of 20.
 */
void parts_begin(void);
void parts_begin_closed(void); /* not opened yet */
void parts_start(void);        /* open and start it, and clear the journal */
void parts_end(void);

/* Let the next call of that name fail, after 'skip' successful ones. */
void parts_fail_after(const char *name, int error, unsigned skip);
void parts_fail(const char *name, int error);
void parts_work(void); /* complete the oldest work off the loop */
void parts_say(const char *format, ...) _printf_(1, 2);
/* Print the state of the replica: all fields that differ from an idle replica. */
void parts_look(void);

typedef struct Said {
        unsigned line; /* of the test */
        const char *text;
} Said;
#define SAID(text) \
        { __LINE__, text }

/* What was said since the last time, without running anything. */
void parts_expect(Said expected);
#define expect(text) parts_expect((Said) SAID(text))
/* And what the replica is. */
#define expect_state(text) (parts_look(), parts_expect((Said) SAID(text)))
void parts_forget(void);
