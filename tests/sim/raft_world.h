/* A cluster of raft cores in one process and virtual time: per server a log and a state on a disk that loses
 * what is not durable, a network that delays, loses and cuts, and the checks of what must always hold. One
 * seed decides everything. */
#pragma once

#include "base/clock.h"
#include "kvstore/raft/core.h"
#include "kvstore/raft/entries.h"

enum { RAFT_FAULTS_MAX = 32 };
enum {
        SLOTS = 5,
        ID_STEP = 8
}; /* a slot's ids: slot + 1, slot + 1 + ID_STEP, ...: a wiped server gets a new one */

/* The tree's stand-in: a chain of hashes over everything applied. */
typedef struct SimState {
        uint64_t index, term, chain;
        uint64_t configuration_index;
        void *configuration; /* owned */
        size_t configuration_size;
} SimState;

/* A write to the log that is not durable yet, in order. */
typedef struct LogWrite {
        enum { LOG_APPEND, LOG_RESET, LOG_CUT } kind;
        uint64_t generation, first; /* of an append; for reset and cut: the index */
        RaftEntry *entries;         /* owned, data too */
        size_t n;
} LogWrite;

typedef struct ServerStorage { /* what survives */
        uint64_t term, vote;
        RaftEntries log;
        SimState checkpoint;          /* durable */
        uint64_t previous_checkpoint; /* its predecessor's index: the log is kept from there */
        SimState state;               /* live: survives the process, not the machine */
} ServerStorage;

typedef enum InstallStage { INSTALL_NONE, INSTALL_RENAMING, INSTALL_DROPPING } InstallStage;

typedef struct World World;

typedef struct Server {
        World *world;
        unsigned slot;
        uint64_t id; /* 0: fresh, not part of anything */
        char address[16];
        bool up, used; /* used: has been given an id and a disk */
        uint64_t incarnation;
        RaftCore *core;
        ServerStorage storage;

        LogWrite *writes;
        size_t n_writes, writes_capacity;
        bool writing;
        uint64_t disk_ms; /* latency */
        uint64_t stalled_until_ms;

        InstallStage install;
        SimState incoming;
        bool install_keeps;

        bool applying;      /* another slice is due */
        bool checkpointing; /* a copy is being made ... */
        SimState copy;
        bool unreported; /* ... or is durable and not accepted by the core yet */
        unsigned trailing;

        bool sending_state[SLOTS]; /* one transfer at a time */
        bool led;
        uint64_t led_term;
        uint64_t removed_ms; /* when it was seen to be removed; 0: it was not */

        /* For the owner: a follower that answers and makes no progress. */
        uint64_t seen_match[SLOTS], seen_match_ms[SLOTS];
} Server;

typedef enum EventKind {
        EVENT_MESSAGE,
        EVENT_DISK,
        EVENT_INSTALL,
        EVENT_CHECKPOINT,
        EVENT_APPLY,
        EVENT_RESTART,
        EVENT_FAULT,
        EVENT_CLIENT
} EventKind;

typedef struct Event {
        uint64_t at_ms, serial;
        EventKind kind;
        unsigned slot;
        uint64_t incarnation; /* of the slot, when the event was made */
        unsigned from;        /* message: slot, ... */
        uint64_t from_id, from_incarnation;
        uint8_t *bytes; /* owned */
        size_t size;
        SimState *bulk; /* owned */
} Event;

typedef struct Committed {
        uint64_t term, seen_term; /* of the entry; of the server that was the first to know */
        uint64_t chain;           /* after applying it; 0: not known yet */
        bool known, change;
} Committed;

typedef struct TermLeader {
        uint64_t id, incarnation;
} TermLeader;

typedef enum SimMode { MODE_FIXED, MODE_CHANGES, MODE_GROW, _MODE_MAX } SimMode;
typedef enum SimBug {
        BUG_NONE,
        BUG_ACK_BEFORE_SYNC,
        BUG_LOSE_VOTE,
        BUG_KEEP_CONFLICTS,
        BUG_CUT_TOO_EARLY,
        BUG_INSTALL_KEEPS_LOG,
        _BUG_MAX
} SimBug;

typedef struct SimOptions {
        RaftRulesOff off;
        SimBug bug;
        unsigned faults;
        bool trace;
} SimOptions;

struct World {
        SimOptions options;
        SimMode mode;
        uint64_t seed;
        Random random;
        uint64_t now_ms;
        Server servers[SLOTS];

        Event *heap;
        size_t n_heap, heap_capacity;
        uint64_t serial;

        bool cut[SLOTS][SLOTS]; /* from, to */
        uint64_t delay_max_ms;
        unsigned loss_percent;
        bool reorder;
        uint64_t arrival[SLOTS][SLOTS]; /* of the last message: keeps the order */

        unsigned faults;
        bool healing;
        uint64_t payload;

        Committed *committed; /* by index */
        size_t n_committed, committed_capacity;
        TermLeader *leaders; /* by term */
        size_t n_leaders, leaders_capacity;

        uint64_t fault_counts[RAFT_FAULTS_MAX]; /* by raft_fault_name()'s numbers */
        char failure[256];                      /* the first check that failed, "" */
        uint64_t hash;
        struct {
                uint64_t events, leaders, crashes, installs, changes, entries, restarts;
        } count;
};

/* -- raft_world.c -- */
World *world_new(uint64_t seed, SimMode mode, const SimOptions *options);
World *world_free(World *w);
/* Runs the next event or tick; false when something failed. */
bool world_step(World *w);
void world_push(World *w, Event event);
uint64_t world_random(World *w, uint64_t below);
void world_trace(World *w, const Server *s, const char *format, ...) _printf_(3, 4);

Server *world_leader(World *w); /* a server that leads, of the highest term; NULL */
void server_crash(Server *s, bool machine, uint64_t restart_after_ms);
void server_wipe(Server *s); /* fresh, down, under a new id */
void server_boot(Server *s);
void server_checkpoint(Server *s);
void server_result(Server *s, int r, const char *what); /* what an input returned */
RaftStateInfo state_info(const SimState *state);
unsigned slot_of(uint64_t id);

/* For raft_ops.c. */
extern const RaftCoreOps raft_world_ops;
void *raft_copy_bytes(const void *bytes, size_t size);
SimState raft_state_copy(const SimState *state);
uint64_t raft_mix(uint64_t h, uint64_t v);
void event_done(Event *event);
void server_push(Server *s, EventKind kind, uint64_t in_ms);
void server_queue_write(Server *s, LogWrite write);

/* -- raft_faults.c -- */
void world_fault(World *w);
const char *raft_fault_name(unsigned i); /* NULL: there are no more kinds */
void world_count(World *w, const char *fault);
void world_client(World *w);
bool world_heal(
        World *w); /* all faults end; true if the cluster got back to work and every member caught up */

/* -- raft_checks.c -- */
void check_failed(World *w, const char *format, ...) _printf_(2, 3);
void check_after_event(Server *s);
void check_append(Server *s, uint64_t first, const RaftEntry *entries, size_t n);
void check_apply(Server *s, uint64_t index, const RaftEntry *e, uint64_t chain);
void check_state(Server *s, const SimState *state);
void check_acknowledgement(Server *s, const RaftMessage *m, uint64_t to);
