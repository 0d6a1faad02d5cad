#include "client/verbs/found.h"

#include "base/clock.h"
#include "client/core/files.h"
#include "client/core/notes.h"
#include "client/core/state_text.h"
#include "client/core/unit.h"

enum {
        SLOTS_MS = 30000,   /* in which the leader creates the instances of a set */
        SLOTS_GAP_MS = 100, /* between two reads of it */
};

bool found_waits_for(const Client *c, bool global) {
        return !c->options.no_block && (!global || c->options.wait || progress_is_possible());
}

void found_done(FoundUnits *found) {
        progress_free(found->progress);
        names_done(&found->waiting);
        names_done(&found->loaded);
        free(found->before_ms);
        names_done(&found->names);
        names_done(&found->created);
        names_done(&found->sets);
        names_done(&found->differing);
        for (size_t i = 0; i < found->n; i++) {
                free(found->items[i].reason);
                names_done(&found->items[i].machines);
        }
        free(found->items);
}

/* -- Sets -- */

int found_slots(const char *template, uint64_t first, uint64_t last, Names *ret) {
        int stem = (int) strcspn(template, "@") + 1;

        for (uint64_t i = first; i <= MIN(last, (uint64_t) UNIT_REPLICAS_MAX); i++) {
                _cleanup_text_ Text t = {};

                text_printf(&t, "%.*s%llu%s", stem, template, (unsigned long long) i, template + stem);
                TRY(t.error);
                TRY(names_add(ret, t.chars, t.size));
        }
        return 0;
}

int found_read_set(Client *c, const char *template, JsonValue **ret, Error *err) {
        _cleanup_text_ Text path = {};
        int r;

        (void) client_path_of(&path, "/fleet/v1/units/", template, "/replicas");
        r = client_refresh_json(c, client_path(&path), ret, err);
        return r == -EREMOTEIO && !client_is_about_daemon(r, err) ? 0 : r;
}

static int found_add_set(FoundUnits *found, const char *template, const JsonValue *set) {
        _cleanup_names_ Names slots = {};

        TRY(names_add(&found->sets, template, strlen(template)));
        TRY(found_slots(template, 1, member_number(set, "count"), &slots));
        for (size_t i = 0; i < slots.n; i++) {
                const char *name = slots.items[i];

                if (json_list_has(json_value_member(set, "apart"), name) || names_have(&found->names, name))
                        continue; /* it has a text of its own, or was named, too */
                TRY(names_add(&found->names, name, strlen(name)));
                found->n_slots++;
        }
        return 0;
}

int found_add_slots(Client *c, FoundUnits *found, Error *err) {
        for (size_t i = 0, n = found->names.n; i < n; i++) {
                _cleanup_json_ JsonValue *set = NULL;

                if (unit_name_is_template(found->names.items[i]) &&
                    TRY(found_read_set(c, found->names.items[i], &set, err)) > 0)
                        TRY(found_add_set(found, found->names.items[i], set));
        }
        return 0;
}

int found_await_slots(Client *c, const FoundUnits *found, Error *err) {
        uint64_t end_ms = clock_monotonic_ms() + SLOTS_MS;

        for (size_t i = 0; i < found->sets.n && !c->options.no_block; i++) {
                _cleanup_json_ JsonValue *set = NULL;

                while (TRY(found_read_set(c, found->sets.items[i], &set, err)) > 0 &&
                       member_number(set, "due") > 0) {
                        if (clock_monotonic_ms() >= end_ms)
                                return error_set(err, -ENOEXEC,
                                                 "%s: its instances are not created yet: "
                                                 "fleetctl why %s",
                                                 found->sets.items[i], found->sets.items[i]);
                        (void) usleep(SLOTS_GAP_MS * 1000);
                }
        }
        return 0;
}

static int found_set_unit(Found *f, const ApiUnit *unit) {
        const char *reason = unit->reason ?: "", *machine = unit->machine_id ?: "",
                   *kind = unit->reason_kind ?: "";

        f->exists = true;
        f->global = unit->global;
        f->desired = unit->desired_state;
        f->current = unit->current_state == _TARGET_INVALID ? TARGET_INACTIVE : unit->current_state;
        f->waits = !f->global && f->desired > TARGET_INACTIVE && !unit_has_finished(unit);
        f->has_wait = reason_is_of_wait(kind);
        f->held = streq(kind, API_REASON_HELD);
        if (*machine && names_add(&f->machines, machine, strlen(machine)) < 0)
                return -ENOMEM;
        if (!f->waits)
                return 0;
        f->reason = strdup(reason);
        return f->reason ? 0 : -ENOMEM;
}

void found_set_states(Found *f, const Listing *states) {
        size_t n = 0, n_running = 0, n_idle = 0, at = 0;
        const ApiState *s;

        while ((s = listing_next_state(states, f->name, &at))) {
                f->before_ms = MAX(f->before_ms, s->since_ms);
                n++;
                n_running += state_kind(s) == STATE_RUNS;
                n_idle += state_kind(s) == STATE_INACTIVE;
                f->active |= s->active && !streq(s->active, "inactive") && !streq(s->active, "failed");
        }
        f->waits = f->waits && (n == 0 || (f->held && n_idle == n));
        f->runs = f->global ? n > 0 && n == n_running :
                              n_running > 0; /* it may also be elsewhere, in a move */
}

static int found_add_states(Found *f, const Listing *states) {
        const ApiState *s;
        size_t at = 0;

        found_set_states(f, states);
        while (f->global && (s = listing_next_state(states, f->name, &at)))
                if (s->machine_id && names_add(&f->machines, s->machine_id, strlen(s->machine_id)) < 0)
                        return -ENOMEM;
        return 0;
}

/* With 'named', prefix an error answer with the name of the unit, as fleet does for load and start. */
static int found_read_one(Client *c, Found *f, bool named, Error *err) {
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;
        _cleanup_listing_ Listing states = {};
        int r;

        r = client_unit(c, f->name, &unit, err);
        if (r == -EREMOTEIO && named)
                return error_prefix(err, r, "error retrieving unit %s from registry", f->name);
        if (r <= 0)
                return r;
        TRY(found_set_unit(f, &unit));
        TRY(client_states(c, f->name, &states, err));
        return found_add_states(f, &states);
}

int found_read(Client *c, FoundUnits *found, bool named, Error *err) {
        _cleanup_listing_ Listing units = {}, states = {};
        bool many = found->names.n > UNITS_MANY;

        found->items = NEW0(Found, found->names.n + 1);
        found->before_ms = NEW0(uint64_t, found->names.n + 1);
        if (!found->items || !found->before_ms)
                return -ENOMEM;
        if (many) {
                TRY(client_units(c, &units, err));
                TRY(client_states(c, NULL, &states, err));
        }
        for (size_t i = 0; i < found->names.n; i++) {
                Found *f = &found->items[found->n++];
                const ApiUnit *unit;

                f->name = found->names.items[i];
                f->is_set = names_have(&found->sets, f->name);
                f->is_slot = i >= found->names.n - found->n_slots;
                if (!many) {
                        TRY(found_read_one(c, f, named, err));
                        continue;
                }
                unit = listing_unit(&units, f->name);
                TRY(unit ? found_set_unit(f, unit) : 0);
                TRY(found_add_states(f, &states));
        }
        return 0;
}

static bool found_has(const FoundUnits *found, const char *name) {
        for (size_t i = 0; i < found->n; i++)
                if (streq(found->items[i].name, name))
                        return true;
        return false;
}

/* Print that the argument of this unit name is a machine, if there is one. */
static void found_note_machine(Client *c, char **args, size_t n, const char *name) {
        size_t size = strlen(name) - strlen(unit_name_type(name)) - 1;
        _cleanup_listing_ Listing machines = {};

        for (size_t i = 0; i < n; i++) {
                if (strlen(args[i]) != size || strncmp(args[i], name, size) != 0)
                        continue;
                if (client_machines(c, &machines, NULL) < 0)
                        return;
                if (listing_next_namesake(&machines, args[i], &(size_t) { 0 }))
                        client_note("%s is a machine: fleetctl help maintain", args[i]);
                return;
        }
}

int found_find(Client *c, char **args, size_t n, FoundUnits *ret, Error *err) {
        size_t kept = 0, n_absent = 0;

        TRY(files_names(args, n, &ret->names));
        TRY(found_add_slots(c, ret, err));
        TRY(found_read(c, ret, false, err));
        for (size_t i = 0; i < ret->n; i++)
                if (ret->items[i].exists)
                        ret->items[kept++] = ret->items[i];
                else
                        n_absent++;
        ret->n = kept;
        if (ret->n == 0 && !client_is_interactive())
                fputs("Units not found in registry\n", stderr);
        for (size_t i = 0; n_absent > 0 && i < ret->names.n - ret->n_slots; i++) {
                const char *name = ret->names.items[i];

                if (found_has(ret, name))
                        continue;
                client_note("%s: %s", name,
                            strpbrk(name, "*?[") ? "no unit of the cluster matches" :
                                                   "the cluster has no such unit");
                client_suggest_unit(c, name);
                found_note_machine(c, args, n, name);
        }
        return EXIT_DONE;
}

void found_note_waiting(const Found *f, const char *next) {
        const char *reason = reason_after_waiting(f->reason);

        if (!f->has_wait && f->machines.n > 0) { /* it has a machine, which is away or about to start it */
                bool cancels = strstr(next, "unload");

                client_note("no machine reports %s yet: fleetctl why %s%s%s", f->name, f->name,
                            cancels ? next : "", cancels ? f->name : "");
                return;
        }
        client_note("%s waits%s%s%s%s%s", f->name, f->held ? "" : " for a machine", *reason ? ": " : "",
                    reason, next, f->name);
}

int found_add_changed(Client *c, FoundUnits *found, const char *name, bool global, uint64_t before_ms) {
        if (found_waits_for(c, global)) {
                found->before_ms[found->waiting.n] = before_ms;
                return names_add(&found->waiting, name, strlen(name));
        }
        printf("Triggered %sunit %s %s\n", global ? "global " : "", name, c->verb->name);
        return 0;
}

int found_wait(Client *c, FoundUnits *found, WaitRequest *request, Error *err) {
        request->names = &found->waiting;
        request->before_ms = found->before_ms;
        request->loaded = request->target < TARGET_LOADED ? &found->loaded : NULL;
        request->progress = found->progress = progress_new(&found->waiting);
        return wait_for(c, request, err);
}

void found_add_change(ApiUnit *changes, size_t *n, const Found *f, TargetState target) {
        ApiUnit *change = &changes[(*n)++];

        *change = client_change_of(f->name);
        change->global = f->global;
        change->desired_state = target;
}

bool found_is_triggered(const Found *f, TargetState target) {
        return target == TARGET_LOADED && f->desired == TARGET_LOADED && f->active;
}
