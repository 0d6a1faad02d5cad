/* Hosts without a replica in simulations: a cluster with one, and its users' keys. For programs with
 * tokens.c. */
#pragma once

#include "tests/sim/tokens.h"

/* End the scenario. */
void over(void);
/* Whether the host has exactly the keys of its slice, as the leader's tree has them. */
bool slice_is_equal(SimMachine *m);
/* 'userdata': a bool. */
void on_asked(void *userdata, KvStatus status, const char *message, uint64_t index);
/* Submit and start a unit that only one machine may have; NULL: destroy it. */
void request_unit(SimMachine *at, const char *name, const SimMachine *on);
/* Found a cluster of 'members', attach a host with a token as requested, and return it. */
SimMachine *attached_by(unsigned members, const TokenRequest *request);
/* The same with five members. */
SimMachine *attached(void);

typedef struct KeyWrite {
        bool done;
        KvStatus status;
        uint64_t index;
} KeyWrite;

/* 'userdata': a KeyWrite. */
void on_written(void *userdata, const KvResult *result);
KeyWrite try_write(SimMachine *m, const char *key, const char *value);
/* Write a key, and return the index of the write. */
uint64_t write_key(SimMachine *m, const char *key, const char *value);

typedef struct KeyRead {
        KvGet get;
        bool done;
        int result;
        char value[64];
} KeyRead;

/* The key is borrowed until it is done. */
void begin_read(SimMachine *m, const char *key, KeyRead *ret);
void expect_key(SimMachine *m, const char *key, const char *value);

enum { SEEN_MAX = 64, WINDOW_WRITES = 1100 /* the window keeps 1000 events */ };

typedef struct KeyWatch {
        KvWatch *watch;
        uint64_t seen[SEEN_MAX];
        size_t n;
} KeyWatch;

/* 'userdata': a KeyWatch. */
void on_key_event(void *userdata, KvWatchEvent *event);
/* Watch a directory from an index on; 0: now. No event may be missed. */
void watch_keys(SimMachine *m, const char *key, uint64_t since, KeyWatch *ret);
/* Return the machine of the replica that has sent the slice of the host, or NULL. */
SimMachine *replica_of(SimMachine *m);
