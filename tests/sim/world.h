/* Virtual time: one queue of events for all hosts, one seed for all chance.
 *
 * Each host has a Loop whose backend is this queue. An event belongs to a host and to its incarnation (a
 * crash ends it, and with it whatever was still to come), or to the world. Equal times happen in the order of
 * asking. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "io/loop.h"
#include "tests/lib/memory_disk.h"

typedef struct World World;
typedef struct WorldLoop WorldLoop;

enum { WORLD_START_MS = 1000000 };

World *world_new(uint64_t seed, bool trace);
World *world_free(World *w);

uint64_t world_now_ms(const World *w);
uint64_t world_draw(World *w, uint64_t n); /* 0 .. n-1 */
bool world_chance(World *w, unsigned percent);
uint64_t world_hash(const World *w); /* over everything that happened: two runs of a seed have the same */

/* Calls 'run' at 'delay_ms' from now. 'loop' NULL: always; else only if that loop still lives then, and not
 * while it is paused (it is called when the pause ends). Aborts without memory. */
void world_at(World *w, uint64_t delay_ms, WorldLoop *loop, void (*run)(void *userdata), void *userdata);

/* The same, where 'userdata' was allocated for this call alone: 'run' frees it, and so does its loop's end.
 */
void world_at_own(World *w, uint64_t delay_ms, WorldLoop *loop, void (*run)(void *userdata), void *userdata);

/* Runs events until 'until_ms', or until nothing is left. */
void world_run(World *w, uint64_t until_ms);

/* The end of a run: says why, prints the line that replays it, exits 1. */
void world_failed(World *w, const char *checker, const char *format, ...)
        __attribute__((format(printf, 3, 4), noreturn));
void world_set_replay(World *w, const char *replay); /* the command line that is printed */
void world_trace(World *w, const char *who, const char *format, ...) __attribute__((format(printf, 3, 4)));
uint64_t world_wakes(const World *w);     /* how often a loop woke: at one time, once */
void world_mix(World *w, uint64_t value); /* into the hash */
/* Asked wherever a real edge would allocate for the daemon: true, and the edge says -ENOMEM. NULL: there is
 * always memory. */
void world_set_short(World *w, bool (*is_short)(void));
bool world_is_short(const World *w);

/* A call that blocks has read so much of a file. Of what it did not leave to a worker, one event of a loop
 * reads little. */
void world_read(uint64_t bytes);

/* The disk of a Raft log, with this world's randomness; its reads are counted. */
MemoryDisk *world_disk_new(World *w);

/* -- Loops -- */

WorldLoop *world_loop_new(World *w, const char *name);
Loop *world_loop(WorldLoop *l);
/* Work that is in flight is dropped (its 'done' never comes); 'tear' may run some of it first, as a power cut
 * might. */
void world_loop_drop_work(WorldLoop *l, bool tear);
bool world_loop_is_working(const WorldLoop *l);       /* work is in flight */
void world_loop_pause(WorldLoop *l, uint64_t for_ms); /* its events wait, and come all at once; 0: now */
WorldLoop *world_loop_free(WorldLoop *l);
void world_loop_set_work_ms(WorldLoop *l, uint64_t least_ms, uint64_t most_ms); /* how long its disk takes */
const WorldLoop *world_running_loop(const World *w); /* whose event runs; NULL: an event of the world */
void world_loop_set_drift(WorldLoop *l, int ppm); /* from now on its monotonic clock runs that much faster */
void world_loop_set_wall_offset(WorldLoop *l, int64_t ms); /* of its wall clock, against the world's time */
