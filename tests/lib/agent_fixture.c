#include "tests/lib/agent_fixture.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/log.h"
#include "tests/lib/leader.h"
#include "tests/lib/scratch.h"

Fixture *running;
unsigned n_starts, n_stops, n_unrecorded, n_slow;

/* -- The records on disk -- */

static char *records_text(Fixture *room) {
        _cleanup_free_ char *path = scratch_path(room->host->agent_path, "assignment");
        char *text = NULL;

        return read_file_at(AT_FDCWD, path, 1 << 20, &text, NULL) < 0 ? NULL : text;
}

bool is_recorded(Fixture *room, const char *unit) {
        _cleanup_free_ char *text = records_text(room), *name = NULL;
        const char *at, *runs, *started;

        if (!text || asprintf(&name, "\"name\":\"%s\"", unit) < 0)
                return false;
        at = strstr(text, name);
        runs = at ? strstr(at, "\"order\":\"run\"") : NULL;
        started = at ? strstr(at, "\"startedBoot\":\"b0") : NULL;
        return runs && started && runs < strchr(at, '}') && started < strchr(at, '}');
}

bool records_say(Fixture *room, const char *part) {
        _cleanup_free_ char *text = records_text(room);

        return text && strstr(text, part);
}

void change_record(Fixture *room, const char *field, const char *value) {
        _cleanup_free_ char *path = scratch_path(room->host->agent_path, "assignment"),
                            *text = records_text(room), *changed = NULL;
        char *at = text ? strstr(text, field) : NULL;

        assert_non_null(at);
        at += strlen(field);
        assert_true(asprintf(&changed, "%.*s%s%s", (int) (at - text), text, value, at + strcspn(at, "\",}")) >
                    0);
        scratch_write(path, changed);
}

/* -- The fixture -- */

static void on_unit(void *userdata, const char *unit) {
        n_starts++;
        n_slow += streq(unit, "slow.service");
        n_unrecorded += !is_recorded(running, unit) &&
                        !is_recorded(running, unit); /* one allocation may fail on purpose */
}

static void on_unit_end(void *userdata, const char *unit, bool asked) {
        n_stops++;
}

void open_agent(Fixture *room) {
        AgentOptions options = { .machine_id = room->host->id,
                                 .boot_id = "b0000000000000000000000000000001",
                                 .directory = room->host->agent_path,
                                 .boot_wait_ms = 60000 };
        Error err = {};

        assert_int_equal(agent_new(&room->agent, world_loop(room->loop), room->host->registry, room->bus,
                                   &options, &err),
                         0);
}

void close_agent(Fixture *room) {
        room->agent = agent_free(room->agent);
        while (world_loop_is_working(room->loop))
                run_ms(room, 1);
}

Fixture *fixture_new(void) {
        static const SimSystemdHooks hooks = { .on_start = on_unit, .on_stop = on_unit_end };
        Fixture *room = NEW0(Fixture, 1);

        running = room;
        n_starts = n_stops = n_unrecorded = n_slow = 0;
        vain = (Vain) {};
        pretence = (Pretence) {};
        room->host = host_new(false);
        host_machine(room->host);
        room->world = world_new(1, false);
        room->loop = world_loop_new(room->world, "agent");
        room->systemd = sim_systemd_new(room->world, "systemd", &hooks);
        room->bus = sim_systemd_attach(room->systemd, room->loop);
        real_ops = room->bus->ops;
        open_agent(room);
        return room;
}

void fixture_free(Fixture *room) {
        close_agent(room);
        run_ms(room, 50); /* calls without effect */
        sim_systemd_detach(room->systemd);
        sim_systemd_free(room->systemd);
        world_loop_free(room->loop);
        world_free(room->world);
        host_free(room->host);
        free(room);
}

void run_ms(Fixture *room, uint64_t ms) {
        world_run(room->world, world_now_ms(room->world) + ms);
}

void fixture_turn(Fixture *room, uint64_t until_ms) {
        if (world_now_ms(room->world) >= until_ms)
                fail_msg("what was waited for did not come");
        run_ms(room, 1);
        room->host->deadline_ms = 0;
        host_turn(room->host);
}

void settle(Fixture *room) {
        for (unsigned i = 0; i < 5; i++) {
                host_pause(room->host, 10);
                run_ms(room, 2);
        }
}

void await_round(Fixture *room) {
        for (uint64_t planned = agent_counts(room->agent)->planned,
                      end_ms = world_now_ms(room->world) + 12000;
             agent_counts(room->agent)->planned - planned < room->n_others; run_ms(room, 1))
                assert_true(world_now_ms(room->world) < end_ms);
}

/* -- Units -- */

void order_to(Fixture *room, const char *name, const char *text, AssignmentKind kind) {
        host_unit(room->host, name, text, kind == ASSIGNMENT_RUN ? TARGET_LAUNCHED : TARGET_LOADED);
        host_order(room->host, name, kind);
}

void order(Fixture *room, const char *name) {
        order_to(room, name, "[Service]\nExecStart=/bin/one\n", ASSIGNMENT_RUN);
}

void order_slowly(Fixture *room, const char *name) {
        world_loop_set_work_ms(room->loop, WRITE_MS, WRITE_MS);
        order(room, name);
        UNTIL(room, world_loop_is_working(room->loop));
        run_ms(room, WRITE_MS / 2);
}

void run_unit(Fixture *room, const char *name) {
        order(room, name);
        UNTIL(room, says(room, name, "active"));
        settle(room);
}

const UnitState *state_of(Fixture *room, const char *unit) {
        const ClusterState *s = cluster_state(registry_cluster(room->host->registry), room->host->id, unit);

        return s ? &s->state : NULL;
}

bool says(Fixture *room, const char *unit, const char *active) {
        const UnitState *s = state_of(room, unit);

        return s && streq(s->active, active);
}

bool has_order(Fixture *room, const char *unit) {
        return cluster_assignment(registry_cluster(room->host->registry), room->host->id, unit);
}

bool is_gone(Fixture *room, const char *unit) {
        return !has_order(room, unit) && !state_of(room, unit);
}

/* -- Messages -- */

unsigned n_said;

static void count_said(void *userdata, int priority, const LogFields *fields, const char *sentence) {
        n_said += strstr(sentence, userdata) != NULL;
}

void count_messages(const char *part) {
        n_said = 0;
        log_set_sink(part ? count_said : NULL, (void *) part);
}

/* -- systemd -- */

const SystemdOps *real_ops;
SystemdOps bent;
SystemdEvents events;

static void set_events_recorded(Systemd *s, const SystemdEvents *set) {
        events = set ? *set : (SystemdEvents) {};
        real_ops->set_events(s, set);
}

int faulty_fixture_setup(void **state) {
        Fixture *room;

        leader = (Leader) {};
        room = fixture_new();
        close_agent(room);
        bent = *real_ops;
        bent.list = list_pretended;
        bent.set_events = set_events_recorded;
        room->bus->ops = &bent;
        open_agent(room);
        settle(room);
        *state = room;
        return 0;
}

int faulty_fixture_teardown(void **state) {
        leader.gone = false;
        close_agent(*state);
        assert_null(events.on_ready);
        assert_null(events.on_changed);
        assert_null(events.on_job_removed);
        fixture_free(*state);
        return 0;
}

Vain vain;
Pretence pretence;

static void on_vain_answer(void *userdata) {
        vain.done(vain.userdata, vain.error, "");
}

static bool is_in_vain(const char *name) {
        if (!vain.unit || !streq(name, vain.unit))
                return false;
        assert_true(vain.n < ELEMENTS(vain.at_ms));
        vain.at_ms[vain.n++] = world_now_ms(running->world);
        return true;
}

static int take_in_vain(SystemdDone done, void *userdata) {
        vain.done = done;
        vain.userdata = userdata;
        if (!vain.held)
                world_at(running->world, 1, NULL, on_vain_answer, NULL);
        return 0;
}

int start_in_vain(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        return is_in_vain(name) ? take_in_vain(done, userdata) : real_ops->start(s, name, done, userdata);
}

int stop_in_vain(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        return is_in_vain(name) ? take_in_vain(done, userdata) : real_ops->stop(s, name, done, userdata);
}

int link_in_vain(Systemd *s, const char *const *names, size_t n, SystemdDone done, void *userdata) {
        return is_in_vain(names[0]) ? take_in_vain(done, userdata) :
                                      real_ops->link(s, names, n, done, userdata);
}

int unlink_in_vain(Systemd *s, const char *const *names, size_t n, SystemdDone done, void *userdata) {
        return is_in_vain(names[0]) ? take_in_vain(done, userdata) :
                                      real_ops->unlink(s, names, n, done, userdata);
}

int write_in_vain(Systemd *s, const char *name, const char *text, size_t size) {
        return is_in_vain(name) ? vain.error : real_ops->write_file(s, name, text, size);
}

void until_calls(Fixture *room, unsigned n, uint64_t ms) {
        for (uint64_t end_ms = world_now_ms(room->world) + ms; vain.n < n; run_ms(room, 10))
                assert_true(world_now_ms(room->world) < end_ms);
}

typedef struct Listing {
        SystemdListed done;
        void *userdata;
} Listing;

static void on_pretended(void *userdata, int error, const SystemdUnit *units, size_t n) {
        Listing *listing = userdata;
        SystemdUnit *changed = NEW0(SystemdUnit, n + 1);

        assert_non_null(changed);
        for (size_t i = 0; i < n; i++) {
                changed[i] = units[i];
                if (!pretence.unit || !streq(units[i].name, pretence.unit))
                        continue;
                if (pretence.active) {
                        snprintf(changed[i].active, sizeof(changed[i].active), "%s", pretence.active);
                        snprintf(changed[i].sub, sizeof(changed[i].sub), "%s",
                                 streq(pretence.active, "active") ? "running" : "dead");
                        changed[i].end = pretence.end;
                        changed[i].held = pretence.held;
                }
                if (pretence.change)
                        pretence.change(&changed[i]);
        }
        listing->done(listing->userdata, pretence.error ? pretence.error : error, changed,
                      pretence.error ? 0 : n);
        free(changed);
        free(listing);
}

int list_pretended(Systemd *s, const char *const *names, size_t n, bool all, SystemdListed done,
                   void *userdata) {
        Listing *listing = NEW0(Listing, 1);
        int r;

        assert_non_null(listing);
        *listing = (Listing) { done, userdata };
        r = real_ops->list(s, names, n, all, on_pretended, listing);
        if (r < 0)
                free(listing);
        return r;
}
