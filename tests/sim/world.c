#include "tests/sim/world.h"

#include <stdarg.h>

#include "kvstore/command/cost.h"

typedef struct Event {
        uint64_t at_ms, serial;
        WorldLoop *loop;      /* NULL: the world's */
        uint64_t incarnation; /* of the loop, when the event was scheduled */
        void (*run)(void *userdata);
        void *userdata;
        bool owned; /* 'userdata', if the event never runs */
} Event;

enum {
        AT_ONCE_MAX = 100000, /* events of one millisecond: more of them are an endless loop */

        /* Limits of one event of a loop, in the units that a loop counts. */
        EVENT_NODES_MAX = 20 * 1000,
        EVENT_BYTES_MAX = COST_ENTRY_MAX,
        EVENT_READ_MAX = 32 * 1024, /* bytes of files, by calls that block */
};

/* Reads by blocking calls since the event began. Not in World: the calls do not know their world. */
static uint64_t n_read;
static bool at_work;

struct World {
        uint64_t now_ms, serial, seed, hash, incarnations, wakes, n_at_once;
        Random random;
        Event *heap;
        size_t n, capacity;
        LIST_HEAD(, WorldLoop) loops;
        const WorldLoop *running;
        const char *replay;
        bool trace;
        bool (*is_short)(void);
};

/* Work that a worker thread has not finished. */
typedef struct Flight {
        WorldLoop *loop;
        Work *work;
        TAILQ_ENTRY(Flight) of_loop;
} Flight;

struct WorldLoop {
        Loop base;
        World *world;
        char name[32];
        uint64_t incarnation, paused_until_ms, wake_ms, least_ms, most_ms,
                last_work_ms; /* the world's times */
        uint64_t woke_ms;
        uint64_t since_ms, since_own_ms; /* the world's and its own time when its drift was set */
        int ppm;
        uint64_t asleep_ms; /* suspended so long: its clock stood still */
        int64_t wall_offset_ms;
        TAILQ_HEAD(, Flight) flights;
        Event *held; /* due while it was paused, in order */
        size_t n_held, held_capacity;
        LIST_ENTRY(WorldLoop) of_world;
};

static void *must(void *p) {
        if (!p)
                abort();
        return p;
}

void world_mix(World *w, uint64_t value) {
        w->hash = (w->hash ^ value) * 0x100000001b3;
}

World *world_new(uint64_t seed, bool trace) {
        World *w = must(NEW0(World, 1));

        *w = (World) { .now_ms = WORLD_START_MS, .seed = seed, .hash = 0xcbf29ce484222325, .trace = trace };
        random_seed(&w->random, seed);
        return w;
}

static void drop(const Event *e) {
        if (e->owned)
                free(e->userdata);
}

World *world_free(World *w) {
        assert(LIST_EMPTY(&w->loops));
        for (size_t i = 0; i < w->n; i++)
                drop(&w->heap[i]);
        free(w->heap);
        free(w);
        return NULL;
}

uint64_t world_now_ms(const World *w) {
        return w->now_ms;
}

uint64_t world_draw(World *w, uint64_t n) {
        return n == 0 ? 0 : random_below(&w->random, n);
}

bool world_chance(World *w, unsigned percent) {
        return world_draw(w, 100) < percent;
}

uint64_t world_seed(const World *w) {
        return w->seed;
}

uint64_t world_hash(const World *w) {
        return w->hash;
}

uint64_t world_wakes(const World *w) {
        return w->wakes;
}

void world_set_short(World *w, bool (*is_short)(void)) {
        w->is_short = is_short;
}

bool world_is_short(const World *w) {
        return w->is_short && w->is_short();
}

void world_set_replay(World *w, const char *replay) {
        w->replay = replay;
}

/* Two runs of a seed differ in the names of their scratch folders only. */
static void hide_scratch(char *message) {
        static const char prefix[] = "fleetd-test-";

        for (char *p = message; (p = strstr(p, prefix));)
                for (p += sizeof(prefix) - 1; *p && *p != '/' && *p != ' '; p++)
                        *p = 'x';
}

void world_trace(World *w, const char *who, const char *format, ...) {
        char message[1024];
        va_list ap;

        va_start(ap, format);
        vsnprintf(message, sizeof(message), format, ap);
        va_end(ap);
        hide_scratch(message);
        for (const char *p = message; *p; p++)
                world_mix(w, (unsigned char) *p);
        if (w->trace)
                printf("[%8llu] %s: %s\n", (unsigned long long) (w->now_ms - WORLD_START_MS), who, message);
}

void world_failed(World *w, const char *checker, const char *format, ...) {
        const char *mutant = getenv("MUTANT");
        va_list ap;

        printf("FAILED %s seed=%llu at %llu.%03llu s: ", checker, (unsigned long long) w->seed,
               (unsigned long long) (w->now_ms - WORLD_START_MS) / 1000,
               (unsigned long long) (w->now_ms - WORLD_START_MS) % 1000);
        va_start(ap, format);
        vprintf(format, ap);
        va_end(ap);
        printf("\nreplay: %s%s%s --seed %llu --trace\n", mutant ? "MUTANT=" : "", mutant ?: "",
               w->replay ?: "the same program", (unsigned long long) w->seed);
        fflush(stdout);
        _Exit(1);
}

/* -- The queue -- */

static bool before(const Event *a, const Event *b) {
        return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->serial < b->serial;
}

static void push(World *w, Event e) {
        size_t i = w->n++;

        if (GROW(w->heap, w->capacity, w->n) < 0)
                abort();
        e.serial = w->serial++;
        for (; i > 0 && before(&e, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
                w->heap[i] = w->heap[(i - 1) / 2];
        w->heap[i] = e;
}

static Event pop(World *w) {
        Event first = w->heap[0], last = w->heap[--w->n];
        size_t i = 0;

        for (;;) {
                size_t child = 2 * i + 1;

                if (child >= w->n)
                        break;
                if (child + 1 < w->n && before(&w->heap[child + 1], &w->heap[child]))
                        child++;
                if (!before(&w->heap[child], &last))
                        break;
                w->heap[i] = w->heap[child];
                i = child;
        }
        if (w->n > 0)
                w->heap[i] = last;
        return first;
}

void world_at(World *w, uint64_t delay_ms, WorldLoop *loop, void (*run)(void *userdata), void *userdata) {
        push(w, (Event) { .at_ms = w->now_ms + delay_ms,
                          .loop = loop,
                          .incarnation = loop ? loop->incarnation : 0,
                          .run = run,
                          .userdata = userdata });
}

void world_at_own(World *w, uint64_t delay_ms, WorldLoop *loop, void (*run)(void *userdata), void *userdata) {
        push(w, (Event) { .at_ms = w->now_ms + delay_ms,
                          .loop = loop,
                          .incarnation = loop ? loop->incarnation : 0,
                          .run = run,
                          .userdata = userdata,
                          .owned = true });
}

static WorldLoop *living(World *w, WorldLoop *loop, uint64_t incarnation) {
        WorldLoop *l;

        LIST_FOREACH(l, &w->loops, of_world)
                if (l == loop && l->incarnation == incarnation)
                        return l;
        return NULL;
}

/* Run an event of a loop and check the bounds of its work: a loop that works longer answers no request in
 * time. What the world itself did to the loop before, for example to open a store, does not count. */
static void run_counted(World *w, const Event *e) {
        WorldLoop *l;
        TurnWork work;

        (void) turns_end_work(&e->loop->base.turns);
        n_read = 0;
        w->running = e->loop;
        e->run(e->userdata);
        w->running = NULL;
        l = living(w, e->loop, e->incarnation);
        if (!l)
                return;
        if (n_read > EVENT_READ_MAX)
                world_failed(w, "files-are-read-off-the-loop", "one event of %s read %llu bytes (of %u)",
                             l->name, (unsigned long long) n_read, EVENT_READ_MAX);
        work = turns_end_work(&l->base.turns);
        if (work.nodes > EVENT_NODES_MAX || work.bytes > EVENT_BYTES_MAX)
                world_failed(w, "work-is-bounded",
                             "one event of %s took %llu nodes (of %u) and %llu bytes (of %u)", l->name,
                             (unsigned long long) work.nodes, EVENT_NODES_MAX,
                             (unsigned long long) work.bytes, EVENT_BYTES_MAX);
}

bool world_is_at_work(void) {
        return at_work;
}

void world_read(uint64_t bytes) {
        if (!at_work)
                n_read += bytes;
}

MemoryDisk *world_disk_new(World *w) {
        return memory_disk_new(&w->random, world_read);
}

void world_run(World *w, uint64_t until_ms) {
        while (w->n > 0 && w->heap[0].at_ms <= until_ms) {
                Event e = pop(w);

                w->n_at_once = e.at_ms > w->now_ms ? 0 : w->n_at_once + 1;
                if (w->n_at_once > AT_ONCE_MAX)
                        world_failed(w, "time-advances", "%s had %u events in one millisecond",
                                     living(w, e.loop, e.incarnation) ? e.loop->name : "the world",
                                     AT_ONCE_MAX);
                w->now_ms = MAX(w->now_ms, e.at_ms);
                if (e.loop) {
                        WorldLoop *l = living(w, e.loop, e.incarnation);

                        if (!l) {
                                drop(&e);
                                continue;
                        }
                        if (l->paused_until_ms > w->now_ms) {
                                if (GROW(l->held, l->held_capacity, l->n_held + 1) < 0)
                                        abort();
                                l->held[l->n_held++] = e;
                                continue;
                        }
                        world_mix(w, w->now_ms);
                        world_mix(w, l->incarnation);
                        w->wakes += l->woke_ms != w->now_ms;
                        l->woke_ms = w->now_ms;
                        run_counted(w, &e);
                        continue;
                }
                e.run(e.userdata);
        }
        w->now_ms = MAX(w->now_ms, until_ms);
}

/* -- Loops -- */

const WorldLoop *world_running_loop(const World *w) {
        return w->running;
}

static WorldLoop *of(const Loop *loop) {
        return container_of(loop, WorldLoop, base);
}

static uint64_t loop_sim_now_ms(const Loop *loop) {
        const WorldLoop *l = of(loop);

        if (l->world->now_ms < l->since_ms) /* suspended */
                return l->since_own_ms;
        return l->since_own_ms + (l->world->now_ms - l->since_ms) * (uint64_t) (1000000 + l->ppm) / 1000000;
}

/* Return the time of the world when the loop's clock shows at least 'own_ms'. */
static uint64_t world_ms_of(const WorldLoop *l, uint64_t own_ms) {
        uint64_t rate = (uint64_t) (1000000 + l->ppm);

        return own_ms <= l->since_own_ms ?
                       l->since_ms :
                       l->since_ms + ((own_ms - l->since_own_ms) * 1000000 + rate - 1) / rate;
}

static uint64_t loop_sim_boot_ms(const Loop *loop) {
        return loop_sim_now_ms(loop) + of(loop)->asleep_ms;
}

static uint64_t loop_sim_wall_ms(const Loop *loop) {
        return (uint64_t) (1700000000000 + (int64_t) of(loop)->world->now_ms + of(loop)->wall_offset_ms);
}

static void loop_on_wake(void *userdata) {
        WorldLoop *l = userdata;

        if (l->wake_ms > l->world->now_ms)
                return;
        l->wake_ms = UINT64_MAX;
        (void) loop_run_due(&l->base, 100000); /* wake_at() schedules what is left */
}

static void loop_sim_wake_at(Loop *loop, uint64_t due_ms) {
        WorldLoop *l = of(loop);

        if (due_ms == UINT64_MAX)
                return;
        due_ms = world_ms_of(l, due_ms);
        if (due_ms >= l->wake_ms)
                return;
        l->wake_ms = due_ms;
        world_at(l->world, due_ms > l->world->now_ms ? due_ms - l->world->now_ms : 0, l, loop_on_wake, l);
}

static void flight_remove(Flight *f) {
        TAILQ_REMOVE(&f->loop->flights, f, of_loop);
        free(f);
}

static void loop_on_work(void *userdata) {
        Flight *f = userdata;
        Work *work = f->work;

        flight_remove(f);
        at_work = true;
        work->work(work->userdata);
        at_work = false;
        work->done(work->userdata);
}

static int loop_sim_work(Loop *loop, Work *work) {
        WorldLoop *l = of(loop);
        uint64_t now_ms = l->world->now_ms,
                 due_ms = now_ms + l->least_ms + world_draw(l->world, l->most_ms - l->least_ms + 1);
        Flight *f;

        if (world_is_short(l->world))
                return -ENOMEM;
        f = must(NEW0(Flight, 1));
        *f = (Flight) { .loop = l, .work = work };
        TAILQ_INSERT_TAIL(&l->flights, f, of_loop);
        due_ms = MAX(due_ms, l->last_work_ms); /* one thread: in order */
        l->last_work_ms = due_ms;
        world_at(l->world, due_ms - now_ms, l, loop_on_work, f);
        return 0;
}

static const LoopOps loop_sim = { .now_ms = loop_sim_now_ms,
                                  .boot_ms = loop_sim_boot_ms,
                                  .wall_ms = loop_sim_wall_ms,
                                  .wake_at = loop_sim_wake_at,
                                  .work = loop_sim_work };

WorldLoop *world_loop_new(World *w, const char *name) {
        WorldLoop *l = must(NEW0(WorldLoop, 1));

        *l = (WorldLoop) { .world = w,
                           .incarnation = ++w->incarnations,
                           .wake_ms = UINT64_MAX,
                           .most_ms = 2,
                           .since_ms = w->now_ms,
                           .since_own_ms = w->now_ms };
        TAILQ_INIT(&l->flights);
        snprintf(l->name, sizeof(l->name), "%s", name);
        loop_init(&l->base, &loop_sim, random_u64(&w->random));
        LIST_INSERT_HEAD(&w->loops, l, of_world);
        return l;
}

Loop *world_loop(WorldLoop *l) {
        return &l->base;
}

void world_loop_set_work_ms(WorldLoop *l, uint64_t least_ms, uint64_t most_ms) {
        l->least_ms = least_ms;
        l->most_ms = most_ms;
}

static void drop_held(WorldLoop *l) {
        for (size_t i = 0; i < l->n_held; i++)
                drop(&l->held[i]);
        l->n_held = 0;
}

void world_loop_set_drift(WorldLoop *l, int ppm) {
        l->since_own_ms = loop_sim_now_ms(&l->base);
        l->since_ms = MAX(l->since_ms, l->world->now_ms);
        l->ppm = ppm;
        if (loop_next_due_ms(&l->base) != UINT64_MAX)
                loop_sim_wake_at(&l->base, loop_next_due_ms(&l->base));
}

void world_loop_set_wall_offset(WorldLoop *l, int64_t ms) {
        l->wall_offset_ms = ms;
}

bool world_loop_is_working(const WorldLoop *l) {
        return !TAILQ_EMPTY(&l->flights);
}

void world_loop_drop_work(WorldLoop *l, bool tear) {
        while (!TAILQ_EMPTY(&l->flights)) {
                Work *work = TAILQ_FIRST(&l->flights)->work;

                flight_remove(TAILQ_FIRST(&l->flights));
                tear = tear && world_chance(l->world, 50);
                if (tear)
                        work->work(work->userdata);
        }
        l->incarnation = ++l->world->incarnations; /* drops the scheduled events */
        drop_held(l);
        l->paused_until_ms = 0;
        /* What is deferred from now on wakes it, in the same ms, too. */
        l->wake_ms = l->base.armed_ms = UINT64_MAX;
        l->last_work_ms = 0;
}

/* Run the held events now, in their order. */
static void resume(WorldLoop *l) {
        for (size_t i = 0; i < l->n_held; i++) {
                l->held[i].at_ms = l->world->now_ms;
                push(l->world, l->held[i]);
        }
        l->n_held = 0;
        l->paused_until_ms = 0;
}

typedef struct Pause {
        World *world;
        WorldLoop *loop;
        uint64_t incarnation;
} Pause;

static void on_resume(void *userdata) {
        Pause *p = userdata;
        WorldLoop *l = living(p->world, p->loop, p->incarnation);

        if (l && l->paused_until_ms <= l->world->now_ms)
                resume(l);
        free(p);
}

void world_loop_pause(WorldLoop *l, uint64_t for_ms) {
        Pause *p;

        if (for_ms == 0) {
                resume(l);
                return;
        }
        p = must(NEW0(Pause, 1));
        *p = (Pause) { .world = l->world, .loop = l, .incarnation = l->incarnation };
        l->paused_until_ms = l->world->now_ms + for_ms;
        world_at_own(l->world, for_ms, NULL, on_resume, p);
}

void world_loop_suspend(WorldLoop *l, uint64_t for_ms) {
        l->since_own_ms = loop_sim_now_ms(&l->base);
        l->since_ms = MAX(l->since_ms, l->world->now_ms) + for_ms;
        l->asleep_ms += for_ms;
        if (loop_next_due_ms(&l->base) != UINT64_MAX)
                loop_sim_wake_at(&l->base, loop_next_due_ms(&l->base));
        world_loop_pause(l, for_ms);
}

uint64_t world_loop_when_ms(const WorldLoop *l, uint64_t boot_ms) {
        return world_ms_of(l, boot_ms - MIN(boot_ms, l->asleep_ms));
}

WorldLoop *world_loop_free(WorldLoop *l) {
        world_loop_drop_work(l, false);
        LIST_REMOVE(l, of_world);
        loop_done(&l->base);
        free(l->held);
        free(l);
        return NULL;
}
