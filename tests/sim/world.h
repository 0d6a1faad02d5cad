/* Virtual time: one queue of events for all hosts, one seed for all randomness.
 *
 * Each host has a Loop whose backend is this queue. An event belongs to the world, or to a host and its
 * incarnation: a crash ends the incarnation and drops its events. Events of equal time run in the order in
 * which they were scheduled. */
#pragma once

#include "io/loop.h"
#include "tests/lib/memory_disk.h"

typedef struct World World;
typedef struct WorldLoop WorldLoop;

enum { WORLD_START_MS = 1000000 };

World *world_new(uint64_t seed, bool trace);
World *world_free(World *w);

uint64_t world_seed(const World *w);
uint64_t world_now_ms(const World *w);
uint64_t world_draw(World *w, uint64_t n); /* 0 .. n-1 */
bool world_chance(World *w, unsigned percent);
uint64_t world_hash(const World *w); /* over all events: two runs of a seed have the same */

/* Call 'run' 'delay_ms' from now. With a 'loop', only if its incarnation still lives then; while the loop is
 * paused, the event waits. Abort if out of memory. */
void world_at(World *w, uint64_t delay_ms, WorldLoop *loop, void (*run)(void *userdata), void *userdata);

/* The same with a 'userdata' of this event alone: 'run' frees it, and so does the end of the loop. */
void world_at_own(World *w, uint64_t delay_ms, WorldLoop *loop, void (*run)(void *userdata), void *userdata);

/* Run events until 'until_ms', or until none is left. */
void world_run(World *w, uint64_t until_ms);

/* End the run: print the reason and the line that replays it, exit 1. */
void world_failed(World *w, const char *checker, const char *format, ...)
        __attribute__((format(printf, 3, 4), noreturn));
/* Do 'turn' until the expression is true; the run fails if it is not within 'ms'. */
#define WORLD_UNTIL(w, ms, name, expression, turn)                                           \
        do {                                                                                 \
                uint64_t until_ms_ = world_now_ms(w) + (ms);                                 \
                while (!(expression)) {                                                      \
                        if (world_now_ms(w) > until_ms_)                                     \
                                world_failed(w, name, "not within %d s", (int) (ms) / 1000); \
                        turn;                                                                \
                }                                                                            \
        } while (false)
void world_set_replay(World *w, const char *replay); /* the command line that is printed; borrowed */
void world_trace(World *w, const char *who, const char *format, ...) __attribute__((format(printf, 3, 4)));
uint64_t world_wakes(const World *w);     /* wake-ups of loops; several at one time count once */
void world_mix(World *w, uint64_t value); /* into the hash */
/* Where a real implementation would allocate for the daemon, call 'is_short'; if it returns true, fail with
 * -ENOMEM. NULL: there is always memory. */
void world_set_short(World *w, bool (*is_short)(void));
bool world_is_short(const World *w);

/* Count bytes of files that a blocking call read. An event of a loop may read little by itself, outside of a
 * worker. */
void world_read(uint64_t bytes);

/* Return the disk of a Raft log, with this world's randomness; its reads are counted. */
MemoryDisk *world_disk_new(World *w);

/* -- Loops -- */

WorldLoop *world_loop_new(World *w, const char *name);
WorldLoop *world_loop_free(WorldLoop *l);
Loop *world_loop(WorldLoop *l);
const WorldLoop *world_running_loop(const World *w); /* the loop of the event that runs; NULL: the world's */
/* Drop the work in flight and the events: no 'done' is called. 'tear': execute some of the work first, as
 * before a power cut. */
void world_loop_drop_work(WorldLoop *l, bool tear);
bool world_loop_is_working(const WorldLoop *l);       /* work is in flight */
bool world_is_at_work(void);                          /* now, in a worker of a loop */
void world_loop_pause(WorldLoop *l, uint64_t for_ms); /* hold its events, then run them at once; 0: resume */
void world_loop_set_work_ms(WorldLoop *l, uint64_t least_ms, uint64_t most_ms); /* duration of work */
void world_loop_set_drift(WorldLoop *l, int ppm); /* from now on its monotonic clock runs that much faster */
/* The same as a pause, of the whole host: its monotonic clock stands still, loop_boot_ms() does not. */
void world_loop_suspend(WorldLoop *l, uint64_t for_ms);
/* Return the world's time when loop_boot_ms() is 'boot_ms', if the drift of the loop stays as it is. */
uint64_t world_loop_when_ms(const WorldLoop *l, uint64_t boot_ms);
void world_loop_set_wall_offset(WorldLoop *l, int64_t ms); /* of its wall clock, against the world's time */
