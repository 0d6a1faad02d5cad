#include "tests/sim/systemd_internal.h"

#include <ctype.h>
#include <signal.h>

#include "units/singleton.h"

enum {
        EXITS_MS = 200,
        FLAPS_MS = 1500,
        ENDS_MS = 500,
        TIMER_MS = 3000, /* OnUnitInactiveSec= of each timer */
        SLOW_MS = 3000,
        NEVER_MS = 10000, /* TimeoutStartSec= */
};

static const char *const qualities[] = {
        [SIM_GOOD] = "/bin/good ", [SIM_EXITS] = "/bin/exits ", [SIM_NEVER_READY] = "/bin/never ",
        [SIM_SLOW] = "/bin/slow ", [SIM_FLAPS] = "/bin/flaps ", [SIM_ENDS] = "/bin/ends ",
};

typedef enum SimCallKind {
        CALL_LIST,
        CALL_LINK,
        CALL_UNLINK,
        CALL_RELOAD,
        CALL_START,
        CALL_STOP,
        CALL_RESET,
        CALL_RESTART,
        CALL_RELOAD_UNIT,
} SimCallKind;

typedef struct SimCall {
        SimSystemd *systemd;
        SimCallKind kind;
        char **names;
        size_t n;
        bool files;
        SystemdDone done;
        SystemdListed listed;
        void *userdata;
        bool executed;
        int error;
        LIST_ENTRY(SimCall) of_systemd;
} SimCall;

static SimSystemd *of(Systemd *s) {
        return container_of(s, SimSystemd, base);
}

SimUnit *sim_unit_find(const SimSystemd *s, const char *name) {
        SimUnit *u;

        LIST_FOREACH(u, &s->units, of_systemd)
                if (streq(u->name, name))
                        return u;
        return NULL;
}

SimUnit *sim_unit_get(SimSystemd *s, const char *name) {
        SimUnit *u = sim_unit_find(s, name), *before = NULL, *at;

        if (u)
                return u;
        u = NEW0(SimUnit, 1);
        snprintf(u->name, sizeof(u->name), "%s", name);
        LIST_FOREACH(at, &s->units, of_systemd)
                if (strcmp(at->name, name) < 0)
                        before = at;
        if (before)
                LIST_INSERT_AFTER(before, u, of_systemd);
        else
                LIST_INSERT_HEAD(&s->units, u, of_systemd);
        return u;
}

const Unit *sim_unit_text(const SimUnit *u, const char *hash) {
        for (size_t i = 0; i < u->n_texts; i++)
                if (streq(u->texts[i]->hash, hash))
                        return u->texts[i];
        return NULL;
}

static void unit_keep_text(SimUnit *u, Unit *unit) {
        Unit **texts;

        if (sim_unit_text(u, unit->hash)) {
                unit_free(unit);
                return;
        }
        texts = NEW0(Unit *, u->n_texts + 1);
        if (u->n_texts > 0)
                memcpy(texts, u->texts, u->n_texts * sizeof(*texts));
        texts[u->n_texts++] = unit;
        free(u->texts);
        u->texts = texts;
}

/* The process gets what systemd has in force, as far as that is possible without a restart. */
static void unit_apply(SimUnit *u, UnitEffect at_most) {
        const Unit *running = sim_unit_text(u, u->running), *loaded = sim_unit_text(u, u->loaded);

        if (running && loaded && unit_effect(running, loaded) <= at_most)
                memcpy(u->running, u->loaded, sizeof(u->running));
}

void sim_unit_changed(SimSystemd *s, const char *unit) {
        if (s->loop && s->ready && s->events.on_changed)
                s->events.on_changed(s->events.userdata, unit);
}

/* -- Executing -- */

static void on_quality(void *userdata);

static void unit_put_drop_in(char **to, const char *from) {
        free(*to);
        *to = from ? strdup(from) : NULL;
}

static void unit_copy_drop_ins(char **to, char *const *from) {
        for (DropIn i = 0; i < _DROP_IN_MAX; i++)
                unit_put_drop_in(&to[i], from ? from[i] : NULL);
}

static void unit_load(SimUnit *u) {
        memcpy(u->loaded, u->file, sizeof(u->loaded));
        unit_copy_drop_ins(u->loaded_drop_ins, u->file_drop_ins);
        u->loaded_quality = u->file_quality;
}

void sim_job_removed(SimSystemd *s, const char *unit, const char *result) {
        if (s->loop && s->ready && s->events.on_job_removed)
                s->events.on_job_removed(s->events.userdata, unit, result);
}

/* The process behaves by the quality of its text. */
static void unit_begin(SimSystemd *s, SimUnit *u) {
        static const uint64_t after_ms[] = {
                [SIM_GOOD] = 0,       [SIM_EXITS] = EXITS_MS, [SIM_NEVER_READY] = NEVER_MS,
                [SIM_SLOW] = SLOW_MS, [SIM_FLAPS] = FLAPS_MS, [SIM_ENDS] = ENDS_MS,
        };

        uint64_t takes_ms;

        u->quality = u->loaded_quality;
        u->starting = u->quality == SIM_SLOW || u->quality == SIM_NEVER_READY || sim_unit_is_oneshot(u);
        u->job = u->starting;
        u->due_ms = 0;
        if (u->quality == SIM_GOOD && !sim_unit_is_timer(u))
                return;
        takes_ms = sim_unit_is_timer(u) ? TIMER_MS : after_ms[u->quality];
        u->due_ms = world_now_ms(s->world) + takes_ms;
        world_at(s->world, takes_ms, NULL, on_quality, s);
}

bool sim_unit_load(SimSystemd *s, const char *name) {
        SimUnit *u = sim_unit_get(s, name);

        if (!u->loaded[0] && u->linked && u->file[0])
                unit_load(u);
        return u->loaded[0];
}

int sim_unit_start(SimSystemd *s, const char *name, bool asked) {
        SimUnit *u = sim_unit_get(s, name);
        int r;

        if (!sim_unit_load(s, name))
                return -ENOENT;
        if (u->running[0])
                return 0;
        r = sim_unit_start_required(s, u);
        if (r < 0)
                return r;
        if (u->singleton && world_now_ms(s->world) >= u->lease_ms)
                return -ENOLCK; /* the start job of its guard fails */
        u->ending = false;
        memcpy(u->running, u->loaded, sizeof(u->running));
        unit_copy_drop_ins(u->drop_ins, u->loaded_drop_ins);
        u->invocation = ++s->invocations;
        u->failed = u->held = false;
        u->end = SYSTEMD_END_UNKNOWN;
        u->n_restarts = 0;
        unit_begin(s, u);
        world_trace(s->world, s->name, "systemd starts %s (%.7s)", name, u->running);
        if (asked)
                s->hooks.on_start(s->hooks.userdata, name);
        return 0;
}

void sim_unit_stop(SimSystemd *s, SimUnit *u, bool asked) {
        if (!u->running[0])
                return;
        u->running[0] = 0;
        u->ending = u->starting = u->stopping = u->job = false;
        u->due_ms = 0;
        u->end = SYSTEMD_END_STOPPED;
        world_trace(s->world, s->name, "systemd: %s ends%s", u->name, asked ? ", as requested" : "");
        s->hooks.on_stop(s->hooks.userdata, u->name, asked);
}

static void unit_restart(SimSystemd *s, SimUnit *u) {
        uint32_t n_restarts = u->n_restarts;

        sim_unit_stop(s, u, false);
        (void) sim_unit_start(s, u->name, true);
        u->n_restarts = n_restarts + 1;
}

/* A start job that lasts has ended, or the process has. */
static void unit_behave(SimSystemd *s, SimUnit *u) {
        bool was_starting = u->starting;

        u->due_ms = 0;
        if (sim_unit_is_timer(u)) {
                u->due_ms = world_now_ms(s->world) + TIMER_MS;
                world_at(s->world, TIMER_MS, NULL, on_quality, s);
                sim_unit_trigger(s, u);
                return;
        }
        if (u->quality == SIM_SLOW || (u->quality == SIM_ENDS && sim_unit_remains(u)))
                u->starting = u->job = false;
        else if (u->quality == SIM_ENDS) {
                sim_unit_stop(s, u, false);
                u->end = SYSTEMD_END_ITSELF;
        } else if (u->quality == SIM_FLAPS) /* Restart=always */
                unit_restart(s, u);
        else {
                sim_unit_stop(s, u, false);
                u->failed = true;
        }
        if (was_starting)
                sim_job_removed(s, u->name, u->failed ? "failed" : "done");
        sim_unit_changed(s, u->name);
}

static void on_quality(void *userdata) {
        SimSystemd *s = userdata;
        SimUnit *u;

        LIST_FOREACH(u, &s->units, of_systemd)
                if (u->running[0] && u->due_ms > 0 && u->due_ms <= world_now_ms(s->world))
                        unit_behave(s, u);
}

static void call_execute(SimCall *c) {
        SimSystemd *s = c->systemd;
        SimUnit *u;

        if (c->executed)
                return;
        c->executed = true;
        if (c->kind == CALL_RELOAD)
                LIST_FOREACH(u, &s->units, of_systemd) {
                        if (u->linked && u->file[0]) {
                                unit_load(u);
                                unit_apply(u, EFFECT_LIVE);
                        } else if (!u->running[0])
                                u->loaded[0] = 0;
                }
        for (size_t i = 0; i < c->n; i++) {
                u = sim_unit_get(s, c->names[i]);
                switch (c->kind) {
                case CALL_LINK:
                        u->linked = true;
                        if (!u->running[0] && !u->failed)
                                u->loaded[0] = 0; /* read again when it is needed */
                        break;
                case CALL_UNLINK:
                        u->linked = false;
                        if (!u->running[0] && !sim_unit_is_held(s, u))
                                u->loaded[0] = 0;
                        break;
                case CALL_START:
                        c->error = s->hooks.refuses && world_chance(s->world, 3) ?
                                           -ENOENT :
                                           sim_unit_start(s, c->names[i], true);
                        break;
                case CALL_STOP:
                        sim_unit_stop(s, u, true);
                        sim_unit_stop_requiring(s, u->name);
                        break;
                case CALL_RESTART:
                        sim_unit_stop(s, u, true);
                        c->error = sim_unit_start(s, c->names[i], true);
                        break;
                case CALL_RELOAD_UNIT:
                        unit_apply(u, EFFECT_RELOAD);
                        break;
                case CALL_RESET:
                        u->failed = false;
                        break;
                default:
                        break;
                }
        }
}

/* A file without a drop-in that its text wants is none. */
static bool unit_has_file(const SimUnit *u) {
        const Unit *text = sim_unit_text(u, u->file);
        unsigned wanted = text ? drop_in_wanted(text) & ~(1U << DROP_IN_SINGLETON) : 0;

        for (DropIn i = 0; i < _DROP_IN_MAX; i++)
                if (wanted & 1U << i && !u->file_drop_ins[i])
                        return false;
        return text;
}

/* systemd has the file and the drop-ins that are on the disk. */
static bool unit_is_loaded(const SimUnit *u) {
        for (DropIn i = 0; i < _DROP_IN_MAX; i++)
                if (!same_string(u->loaded_drop_ins[i], u->file_drop_ins[i]))
                        return false;
        return streq(u->loaded, u->file);
}

static void fill(SimSystemd *s, const char *name, SystemdUnit *ret) {
        SimUnit *u = sim_unit_get(s, name);

        *ret = (SystemdUnit) { .has_file = unit_has_file(u), .job = u->job };
        (void) sim_unit_load(s, name);
        snprintf(ret->name, sizeof(ret->name), "%s", name);
        snprintf(ret->load, sizeof(ret->load), "%s", u->loaded[0] ? "loaded" : "not-found");
        snprintf(ret->active, sizeof(ret->active), "inactive");
        snprintf(ret->sub, sizeof(ret->sub), "dead");
        if (u->running[0]) {
                snprintf(ret->active, sizeof(ret->active), "%s",
                         u->stopping ? "deactivating" :
                         u->starting ? "activating" :
                                       "active");
                snprintf(ret->sub, sizeof(ret->sub), "%s",
                         u->stopping ? "stop-sigterm" :
                         u->starting ? "start" :
                                       "running");
                ret->n_restarts = u->n_restarts;
        } else if (u->failed) {
                snprintf(ret->active, sizeof(ret->active), "failed");
                snprintf(ret->sub, sizeof(ret->sub), "failed");
                ret->exec_code = CLD_EXITED;
                ret->exec_status = 1;
        }
        snprintf(ret->result, sizeof(ret->result), ret->exec_status != 0 ? "exit-code" : "success");
        if (!u->running[0] && !u->failed) {
                ret->end = u->end;
                ret->held = u->held;
                ret->unguarded = u->singleton;
                ret->oneshot = sim_unit_is_oneshot(u) && !sim_unit_remains(u);
        }
        if (u->invocation > 0)
                snprintf(ret->invocation_id, sizeof(ret->invocation_id), "%032llx",
                         (unsigned long long) u->invocation);
        ret->owner = u->loaded[0] && u->linked ? SYSTEMD_OURS : SYSTEMD_ABSENT;
        if (ret->owner == SYSTEMD_OURS)
                snprintf(ret->fragment, sizeof(ret->fragment), "/run/fleet/units/%s", name);
        ret->need_reload = u->loaded[0] && u->file[0] && !unit_is_loaded(u);
        if (ret->has_file)
                memcpy(ret->hash, u->file, sizeof(ret->hash));
}

static void call_answer(SimCall *c) {
        SimSystemd *s = c->systemd;
        SystemdUnit *units;
        SimUnit *u;
        size_t n = 0;

        if (c->kind != CALL_LIST) {
                const char *result = c->error == -ENOLCK  ? "dependency" :
                                     c->error == -ENOEXEC ? "failed" :
                                                            "done";
                bool queued = c->error == 0 || c->error == -ENOLCK || c->error == -ENOEXEC;

                c->done(c->userdata, queued ? 0 : c->error, c->error < 0 ? "systemd refused the call" : "");
                if ((c->kind == CALL_START || c->kind == CALL_RESTART) && c->n > 0 && queued &&
                    !sim_unit_get(s, c->names[0])->starting)
                        sim_job_removed(s, c->names[0], result);
                return;
        }
        LIST_FOREACH(u, &s->units, of_systemd)
                n++;
        units = NEW0(SystemdUnit, n + c->n + 1);
        n = 0;
        for (size_t i = 0; i < c->n; i++)
                fill(s, c->names[i], &units[n++]);
        LIST_FOREACH(u, &s->units, of_systemd) {
                bool there = !c->files || !u->file[0];

                for (size_t i = 0; i < c->n && !there; i++)
                        there = streq(c->names[i], u->name);
                if (!there)
                        fill(s, u->name, &units[n++]);
        }
        c->listed(c->userdata, c->error, units, c->error < 0 ? 0 : n);
        free(units);
}

static void call_free(SimCall *c) {
        LIST_REMOVE(c, of_systemd);
        for (size_t i = 0; i < c->n; i++)
                free(c->names[i]);
        free(c->names);
        free(c);
}

typedef struct CallRef {
        SimSystemd *systemd;
        SimCall *call;
        uint64_t attached;
} CallRef;

static SimCall *call_of(const CallRef *ref) {
        SimCall *c;

        LIST_FOREACH(c, &ref->systemd->calls, of_systemd)
                if (c == ref->call && ref->attached == ref->systemd->attached)
                        return c;
        return NULL;
}

static void on_answer(void *userdata) {
        CallRef *ref = userdata;
        SimCall *c = call_of(ref);

        if (c) {
                SimSystemd *s = c->systemd;
                char name[256] = "";

                if (c->n > 0)
                        snprintf(name, sizeof(name), "%s", c->names[0]);
                call_answer(c);
                if (call_of(ref)) {
                        bool acted = c->kind == CALL_START || c->kind == CALL_STOP || c->kind == CALL_RESTART;

                        call_free(c);
                        if (acted)
                                sim_unit_changed(s, name);
                }
        }
        free(ref);
}

/* An event of the world, not of the daemon: systemd executes a call whether or not the daemon still runs. */
static void on_execute(void *userdata) {
        CallRef *ref = userdata;
        SimCall *c = call_of(ref);

        if (!c) {
                free(ref);
                return;
        }
        call_execute(c);
        world_at_own(c->systemd->world, 1 + world_draw(c->systemd->world, 3), c->systemd->loop, on_answer,
                     ref);
}

/* Return how long systemd takes for a call. */
static uint64_t call_draw_ms(SimSystemd *s, SimCallKind kind) {
        if (kind == CALL_RELOAD)
                return 100 + world_draw(s->world, 300);
        if (kind == CALL_STOP)
                return 5 + world_draw(s->world, world_chance(s->world, 5) ? 3000 : 50);
        return 1 + world_draw(s->world, 10);
}

/* NULL: out of memory. */
static SimCall *call_new(Systemd *base, SimCallKind kind, const char *const *names, size_t n,
                         SystemdDone done, void *userdata) {
        SimSystemd *s = of(base);
        SimCall *c = world_is_short(s->world) ? NULL : NEW0(SimCall, 1);
        CallRef *ref = c ? NEW0(CallRef, 1) : NULL;
        uint64_t takes_ms = call_draw_ms(s, kind);

        if (!c)
                return NULL;
        *c = (SimCall) { .systemd = s, .kind = kind, .done = done, .userdata = userdata };
        LIST_INSERT_HEAD(&s->calls, c, of_systemd);
        c->names = NEW0(char *, n + 1);
        for (; c->n < n; c->n++)
                c->names[c->n] = strdup(names[c->n]);
        if (!s->ready) {
                c->executed = true;
                c->error = -ENOTCONN;
        }
        *ref = (CallRef) { .systemd = s, .call = c, .attached = s->attached };
        world_at_own(s->world, takes_ms, NULL, on_execute, ref);
        return c;
}

static void sim_set_events(Systemd *s, const SystemdEvents *events) {
        of(s)->events = events ? *events : (SystemdEvents) {};
}

static bool sim_is_ready(Systemd *s) {
        return of(s)->ready;
}

static const char *sim_era(Systemd *s) {
        return of(s)->era;
}

static bool sim_is_stopping(Systemd *s) {
        return false;
}

static int sim_list(Systemd *s, const char *const *names, size_t n, bool files, SystemdListed done,
                    void *userdata) {
        SimCall *c = call_new(s, CALL_LIST, names, n, NULL, userdata);

        if (!c)
                return -ENOMEM;
        c->listed = done;
        c->files = files;
        return 0;
}

static SimQuality quality_of(const Unit *unit) {
        const char *command = unit_file_get(&unit->file, "Service", "ExecStart");

        for (SimQuality q = SIM_GOOD; command && q < ELEMENTS(qualities); q++)
                if (starts_with(command, qualities[q]))
                        return q;
        return SIM_GOOD;
}

static int sim_write_file(Systemd *s, const char *name, const char *text, size_t size) {
        SimUnit *u = sim_unit_get(of(s), name);
        Unit *unit = NULL;

        if (unit_read(name, text, size, &unit, NULL) < 0)
                return -EINVAL;
        memcpy(u->file, unit->hash, sizeof(u->file));
        u->singleton = unit->placement.singleton;
        u->file_quality = quality_of(unit);
        u->stop_ms = singleton_stop_ms(&unit->file, NULL);
        for (DropIn i = 0; i < _DROP_IN_MAX; i++)
                if (!(drop_in_wanted(unit) & 1U << i))
                        unit_put_drop_in(&u->file_drop_ins[i], NULL);
        unit_keep_text(u, unit);
        return 0;
}

static int sim_stage_file(Systemd *s, const char *name, const char *text, size_t size) {
        return 0;
}

static int sim_put_drop_in(Systemd *s, const char *name, DropIn feature, const char *sections) {
        SimUnit *u = sim_unit_get(of(s), name);
        bool changes = !same_string(u->file_drop_ins[feature], sections);

        assert(feature != DROP_IN_SINGLETON);
        if (changes)
                unit_put_drop_in(&u->file_drop_ins[feature], sections);
        return changes;
}

static int sim_get_drop_in(Systemd *s, const char *name, DropIn feature, char **ret) {
        const SimUnit *u = sim_unit_find(of(s), name);

        if (!u || !u->file_drop_ins[feature])
                return -ENOENT;
        unit_put_drop_in(ret, u->file_drop_ins[feature]);
        return 0;
}

static int sim_remove_file(Systemd *s, const char *name) {
        unit_copy_drop_ins(sim_unit_get(of(s), name)->file_drop_ins, NULL);
        sim_unit_get(of(s), name)->file[0] = 0;
        sim_unit_get(of(s), name)->lease_ms = 0;
        return 0;
}

/* -- Guards: they end with the lease, or hang and are ended by their watchdog; the stop takes as long as it
 * may -- */

static void on_guarded_stop(void *userdata) {
        SimSystemd *s = userdata;
        SimUnit *u;

        LIST_FOREACH(u, &s->units, of_systemd) {
                if (!u->ending || !u->running[0] || world_now_ms(s->world) < u->lease_ms)
                        continue;
                sim_unit_stop(s, u, false);
                u->end = SYSTEMD_END_STOPPED_FOR;
                sim_unit_changed(s, u->name);
        }
}

static void on_lease_ended(void *userdata) {
        SimSystemd *s = userdata;
        SimUnit *u;

        LIST_FOREACH(u, &s->units, of_systemd) {
                uint64_t takes_ms = world_chance(s->world, 50) ? SINGLETON_WATCHDOG_MS : 0;

                if (!u->singleton || !u->running[0] || u->ending || world_now_ms(s->world) < u->lease_ms)
                        continue;
                takes_ms += world_chance(s->world, 50) ? u->stop_ms : world_draw(s->world, u->stop_ms + 1);
                u->ending = true;
                u->lease_ms = world_now_ms(s->world) + takes_ms;
                world_at(s->world, takes_ms, NULL, on_guarded_stop, s);
        }
}

static int sim_guard(Systemd *base, const char *name, uint64_t until_ms, uint64_t token) {
        SimSystemd *s = of(base);
        SimUnit *u = sim_unit_get(s, name);
        uint64_t now_ms = world_now_ms(s->world);

        if (u->ending) /* nothing stops a guard's end */
                return 0;
        u->lease_ms = until_ms == 0 ? now_ms : MAX(world_loop_when_ms(s->loop, until_ms), now_ms);
        world_at(s->world, u->lease_ms - now_ms, NULL, on_lease_ended, s);
        return 0;
}

static int sim_link(Systemd *s, const char *const *names, size_t n, SystemdDone done, void *userdata) {
        return call_new(s, CALL_LINK, names, n, done, userdata) ? 0 : -ENOMEM;
}

static int sim_unlink(Systemd *s, const char *const *names, size_t n, SystemdDone done, void *userdata) {
        return call_new(s, CALL_UNLINK, names, n, done, userdata) ? 0 : -ENOMEM;
}

static int sim_reload(Systemd *s, SystemdDone done, void *userdata) {
        return call_new(s, CALL_RELOAD, NULL, 0, done, userdata) ? 0 : -ENOMEM;
}

static int sim_start(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        return call_new(s, CALL_START, &name, 1, done, userdata) ? 0 : -ENOMEM;
}

/* A stop job has begun. */
static void on_stopping(void *userdata) {
        SimSystemd *s = userdata;
        SimUnit *u;

        LIST_FOREACH(u, &s->units, of_systemd)
                if (u->stopping)
                        sim_unit_changed(s, u->name);
}

static int sim_stop(Systemd *base, const char *name, SystemdDone done, void *userdata) {
        SimSystemd *s = of(base);
        SimUnit *u = sim_unit_get(s, name);

        if (!call_new(base, CALL_STOP, &name, 1, done, userdata))
                return -ENOMEM;
        if (s->shows_stops && s->ready && u->running[0]) {
                u->stopping = u->job = true;
                world_at(s->world, 1, NULL, on_stopping, s);
        }
        return 0;
}

static int sim_restart(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        return call_new(s, CALL_RESTART, &name, 1, done, userdata) ? 0 : -ENOMEM;
}

static int sim_reload_unit(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        return call_new(s, CALL_RELOAD_UNIT, &name, 1, done, userdata) ? 0 : -ENOMEM;
}

static int sim_reset_failed(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        return call_new(s, CALL_RESET, &name, 1, done, userdata) ? 0 : -ENOMEM;
}

static uint64_t sim_soft_reboots(Systemd *s) {
        return of(s)->soft_reboots;
}

static const SystemdOps sim_ops = {
        .era = sim_era,
        .soft_reboots = sim_soft_reboots,
        .stage_file = sim_stage_file,
        .set_events = sim_set_events,
        .is_ready = sim_is_ready,
        .is_stopping = sim_is_stopping,
        .list = sim_list,
        .guard = sim_guard,
        .write_file = sim_write_file,
        .remove_file = sim_remove_file,
        .put_drop_in = sim_put_drop_in,
        .get_drop_in = sim_get_drop_in,
        .link = sim_link,
        .unlink = sim_unlink,
        .reload = sim_reload,
        .start = sim_start,
        .stop = sim_stop,
        .restart = sim_restart,
        .reload_unit = sim_reload_unit,
        .reset_failed = sim_reset_failed,
};

SimSystemd *sim_systemd_new(World *w, const char *name, const SimSystemdHooks *hooks) {
        SimSystemd *s = NEW0(SimSystemd, 1);

        *s = (SimSystemd) { .base = { .ops = &sim_ops }, .world = w, .hooks = *hooks, .ready = true };
        snprintf(s->name, sizeof(s->name), "%s", name);
        snprintf(s->era, sizeof(s->era), "0.0");
        return s;
}

Systemd *sim_systemd_attach(SimSystemd *s, WorldLoop *loop) {
        s->loop = loop;
        s->ready = true;
        return &s->base;
}

void sim_systemd_detach(SimSystemd *s) {
        s->events = (SystemdEvents) {};
        s->attached++;
        s->loop = NULL;
        while (!LIST_EMPTY(&s->calls)) {
                SimCall *c = LIST_FIRST(&s->calls);

                call_execute(c);
                c->error = -ECANCELED; /* the caller frees the memory of the call */
                call_answer(c);
                call_free(c);
        }
}

void sim_systemd_power_cut(SimSystemd *s) {
        s->soft_reboots = 0;
        while (!LIST_EMPTY(&s->units)) {
                SimUnit *u = LIST_FIRST(&s->units);

                sim_unit_stop(s, u, false);
                LIST_REMOVE(u, of_systemd);
                for (size_t i = 0; i < u->n_texts; i++)
                        unit_free(u->texts[i]);
                free(u->texts);
                unit_copy_drop_ins(u->file_drop_ins, NULL);
                unit_copy_drop_ins(u->loaded_drop_ins, NULL);
                unit_copy_drop_ins(u->drop_ins, NULL);
                free(u);
        }
}

SimSystemd *sim_systemd_free(SimSystemd *s) {
        sim_systemd_power_cut(s);
        free(s);
        return NULL;
}

bool sim_systemd_runs(const SimSystemd *s, const char *unit) {
        const SimUnit *u = sim_unit_find(s, unit);

        return u && u->running[0];
}

bool sim_systemd_has(const SimSystemd *s, const char *unit) {
        const SimUnit *u = sim_unit_find(s, unit);

        return u && u->linked && u->file[0];
}

const char *sim_systemd_hash(const SimSystemd *s, const char *unit) {
        const SimUnit *u = sim_unit_find(s, unit);

        return u && u->running[0] ? u->running : NULL;
}

const char *sim_systemd_ports(const SimSystemd *s, const char *unit) {
        const SimUnit *u = sim_unit_find(s, unit);

        return u && u->running[0] ? u->drop_ins[DROP_IN_PORTS] : NULL;
}

const char *sim_systemd_inputs(const SimSystemd *s, const char *unit) {
        const SimUnit *u = sim_unit_find(s, unit);

        return u && u->loaded[0] ? u->loaded_drop_ins[DROP_IN_INPUTS] : NULL;
}

const char *sim_systemd_port_owner(const SimSystemd *s, uint16_t number, const char *except) {
        char word[16];
        const SimUnit *u;

        snprintf(word, sizeof(word), "=%u", number);
        LIST_FOREACH(u, &s->units, of_systemd) {
                const char *at = u->running[0] ? u->drop_ins[DROP_IN_PORTS] ?: "" : "";

                while ((at = strstr(at, word)) && isdigit(at[strlen(word)]))
                        at++;
                if (at && (!except || !streq(u->name, except)))
                        return u->name;
        }
        return NULL;
}

uint64_t sim_systemd_invocation(const SimSystemd *s, const char *unit) {
        const SimUnit *u = sim_unit_find(s, unit);

        return u ? u->invocation : 0;
}

void sim_systemd_refuse_none(SimSystemd *s) {
        s->hooks.refuses = false;
}

void sim_systemd_show_stops(SimSystemd *s) {
        s->shows_stops = true;
}

void sim_systemd_change(SimSystemd *s, const char *unit) {
        sim_unit_changed(s, unit);
}

void sim_systemd_end(SimSystemd *s, const char *unit) {
        SimUnit *u = sim_unit_get(s, unit);

        sim_unit_stop(s, u, false);
        u->failed = true;
        sim_unit_changed(s, unit);
}

void sim_systemd_finish(SimSystemd *s, const char *unit) {
        SimUnit *u = sim_unit_get(s, unit);

        sim_unit_stop(s, u, false);
        u->end = SYSTEMD_END_ITSELF;
        sim_unit_changed(s, unit);
}

void sim_systemd_restart(SimSystemd *s, const char *unit) {
        SimUnit *u = sim_unit_get(s, unit);

        if (!u->running[0])
                return;
        /* Not a start by fleetd: no hook. */
        u->invocation = ++s->invocations;
        u->n_restarts++;
        unit_begin(s, u);
        world_trace(s->world, s->name, "systemd restarts %s", unit);
        sim_unit_changed(s, unit);
}

void sim_systemd_trigger(SimSystemd *s, const char *unit) {
        SimUnit *u = sim_unit_get(s, unit);

        if (u->running[0])
                sim_unit_trigger(s, u);
}

void sim_systemd_stop(SimSystemd *s, const char *unit) {
        sim_unit_stop(s, sim_unit_get(s, unit), false);
        sim_unit_changed(s, unit);
}

void sim_systemd_hold(SimSystemd *s) {
        SimUnit *u;

        LIST_FOREACH(u, &s->units, of_systemd) {
                if (!u->running[0])
                        continue;
                sim_unit_stop(s, u, false);
                u->end = SYSTEMD_END_STOPPED_FOR;
                u->held = true;
                sim_unit_changed(s, u->name);
        }
}

void sim_systemd_release(SimSystemd *s) {
        SimUnit *u;

        LIST_FOREACH(u, &s->units, of_systemd)
                u->held = false;
}

void sim_systemd_isolate(SimSystemd *s) {
        SimUnit *u;

        LIST_FOREACH(u, &s->units, of_systemd) {
                sim_unit_stop(s, u, false);
                u->end = SYSTEMD_END_UNKNOWN; /* systemd unloads the unit */
        }
        snprintf(s->era, sizeof(s->era), "0.%u", ++s->n_eras);
}

void sim_systemd_soft_reboot(SimSystemd *s) {
        s->soft_reboots++;
        sim_systemd_isolate(s);
}

static void on_bus_back(void *userdata) {
        SimSystemd *s = userdata;

        s->ready = true;
        if (s->loop && s->events.on_ready)
                s->events.on_ready(s->events.userdata, true);
}

void sim_systemd_drop_bus(SimSystemd *s, uint64_t for_ms) {
        s->ready = false;
        if (s->loop && s->events.on_ready)
                s->events.on_ready(s->events.userdata, false);
        world_at(s->world, for_ms, NULL, on_bus_back, s);
}
