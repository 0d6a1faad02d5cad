/* Frames that replicas send, recorded with their times; some are lost, corrupted or delayed. For tests of
 * timing. The linker replaces calls of the replica (WIRE_WRAP in tests/sim/local.mk). */
#pragma once

#include "kvstore/kvstore_internal.h"
#include "kvstore/raft/replica_internal.h"
#include "tests/sim/scenarios.h"

enum {
        PUT_MAX = 50 * 1024,
        COPY_MS = 300,
        SLACK_MS = 20, /* of what happens at once: some messages, a write and their events, in a world that
                          draws at most 5 ms for each */
        ACK_WHOLE = 1,
        ACK_REFUSED = 2, /* transfer.c's; those behind are refusals, too */
};

static const uint64_t NEVER = UINT64_MAX;

typedef enum What { CHUNK, ACK, CLOSING, ROOM, REOPEN } What;

typedef struct Seen {
        What what;
        uint64_t at_ms, number, offset;
        unsigned ack;
} Seen;

typedef struct Wire {
        Stores *all;
        Seen items[20000];
        size_t n;

        bool refuse_chunks;    /* as a full queue does */
        uint64_t vanish_from;  /* chunks from this offset on do not arrive */
        uint64_t lose, damage; /* the chunk at this offset, once; NEVER: none */
        uint64_t acks_late_ms;
        bool lose_closing;
        Host *copies; /* begins a checkpoint of its own with the closing message, which takes COPY_MS */
        uint64_t room, total; /* what folders' disks say; total 0: what they have */

        uint8_t *last; /* chunk */
        size_t last_size;
} Wire;

extern Wire wire;

void wire_begin(Stores *all); /* nothing is written down yet, nothing is lost */
void wire_done(void);
unsigned wire_count(What what, uint64_t from_ms, uint64_t until_ms);
unsigned wire_acks(unsigned least);
unsigned wire_numbers(void);                          /* transfers that were begun */
uint64_t wire_wait(Stores *all, What what);           /* the time at which it is seen first */
bool wire_repeat_chunk(Host *leader, const Host *to); /* the last one; false: there is no session */

/* -- Running -- */

void expect(Stores *all, const char *name, uint64_t value, uint64_t least, uint64_t most);
KvState state_of(const Host *h);
bool is_whole(Stores *all, unsigned n_voters); /* all know the leader, and have all */
void begin_put(Host *h, const char *key);      /* ignores the answer */
void put(Stores *all, Host *h, const char *key,
         size_t size);                 /* at most PUT_MAX bytes; returns when it is answered */
uint64_t checkpoint_of(const Host *h); /* its index; 0: there is none */
void make_checkpoint(Stores *all, Host *h);
Host *three_voters(Stores *all, uint64_t for_ms); /* their leader, after so long */

#define UNTIL(all, name, expression) \
        WORLD_UNTIL((all)->world, PATIENCE_MS, name, expression, (stores_turn(all), run_ms(all, LOOK_MS)))

/* The same, to the millisecond; nothing is done meanwhile. */
#define WAIT(all, name, expression) \
        WORLD_UNTIL((all)->world, 2 * PATIENCE_MS, name, expression, run_ms(all, 1))
