/* cordon, uncordon and drain: machines that get no units, and whose units move away. The daemons take all
 * steps of a drain by themselves; this command begins it, and reports. */

#include "base/clock.h"
#include "base/parse.h"
#include "client/core/client.h"
#include "client/core/operation.h"
#include "client/core/machines.h"
#include "client/core/state_text.h"
#include "client/core/unit.h"
#include "client/verbs/events.h"

/* A machine of the arguments. */
typedef struct Host {
        const ApiMachine *machine; /* borrowed */
        Text path, name;           /* name: for messages */
        JsonValue *state;          /* owned: the last answer */
        bool done;
} Host;

/* A unit that is to leave a machine. */
typedef struct LeavingUnit {
        bool left, seen; /* it is on none of the machines any more; it was in an answer of this round */
} LeavingUnit;

typedef struct Drain {
        Client *client;
        Listing machines;
        Host *hosts;
        size_t n_hosts;
        Operation operation;
        LeavingUnit *units; /* of its items */
        size_t n_units, capacity;
} Drain;

static void drain_done(Drain *d) {
        for (size_t i = 0; d->hosts && i < d->n_hosts; i++) {
                text_done(&d->hosts[i].path);
                text_done(&d->hosts[i].name);
                json_value_free(d->hosts[i].state);
        }
        free(d->hosts);
        free(d->units);
        operation_done(&d->operation);
        listing_done(&d->machines);
}

/* -- Machines and their state -- */

static int hosts_find(Drain *d, char **args, size_t n, Error *err) {
        if (n == 0)
                return error_set(err, -EINVAL, "%s: expected at least one machine, by its name or ID",
                                 d->client->verb->name);
        TRY_PREFIX(client_all_machines(d->client, &d->machines, err), err, "Failed to read the machines");
        d->hosts = NEW0(Host, n);
        if (!d->hosts)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                Host *h = &d->hosts[d->n_hosts];

                TRY(client_find_host(&d->machines, args[i], &h->machine, err));
                d->n_hosts++;
                (void) client_path_of(&h->path, "/fleet/v1/machines/", h->machine->id, "/maintenance");
                append_machine_name(&h->name, &d->machines, h->machine->id);
                TRY(MIN(h->path.error, h->name.error));
        }
        return 0;
}

static int host_read(Drain *d, Host *h, Error *err) {
        JsonValue *root = NULL;

        TRY(client_get_json(d->client, h->path.chars, &root, err));
        json_value_free(h->state);
        h->state = root;
        return 0;
}

static bool host_is(const Host *h, const char *mode) {
        return streq(member_text(h->state, "mode"), mode);
}

static void host_print(const Host *h, const char *text) {
        _cleanup_text_ Text t = {};

        text_append_printable(&t, h->name.chars);
        printf("%s: %s\n", t.chars ?: "", text);
}

/* -- One change of each machine -- */

static int drain_print_json(Drain *d, Error *err) {
        _cleanup_text_ Text t = {};

        json_open(&t, NULL, '{');
        json_open(&t, "machines", '[');
        for (size_t i = 0; i < d->n_hosts; i++) {
                text_append(&t, i > 0 ? "," : "");
                TRY(client_append_answer(d->client, d->hosts[i].path.chars, &t, err));
        }
        json_close(&t, ']');
        json_close(&t, '}');
        return output_built(&t);
}

/* Return the exit status of a failed request, which 'what' did not do. */
static int host_fail(const Host *h, const char *what, int r, const Error *err) {
        return client_fail_after(r, err, "Failed to %s %s: ", what, h->name.chars);
}

/* Set the mode of a machine. */
static int host_put(Drain *d, const Host *h, const char *mode, uint64_t deadline_ms, Error *err) {
        const Options *o = &d->client->options;
        _cleanup_text_ Text body = {};

        json_open(&body, NULL, '{');
        json_add_u64(&body, "deadlineMs", deadline_ms);
        json_add_bool(&body, "force", o->force && streq(mode, "draining"));
        json_add_string(&body, "mode", mode);
        json_add_string(&body, "reason", o->reason);
        json_close(&body, '}');
        return client_request(d->client, "PUT", h->path.chars, &body, NULL, err);
}

static int cordon_host(Drain *d, Host *h, Error *err) {
        bool ends = streq(d->client->verb->name, "uncordon");
        bool before, json = client_prints_json(d->client);
        int r;

        TRY(host_read(d, h, err));
        before = !host_is(h, "none");
        r = ends ? client_request(d->client, "DELETE", h->path.chars, NULL, NULL, err) :
                   host_put(d, h, "cordoned", 0, err);
        if (r < 0 || json)
                return r;
        if (ends)
                host_print(h, before ? "uncordoned; units that have moved do not move back" :
                                       "is not cordoned; nothing was changed");
        else if (before && !host_is(h, "cordoned"))
                host_print(h, host_is(h, "draining") ? "is being drained already" : "is drained already");
        else
                host_print(h, before ? "is cordoned already" :
                                       "cordoned; its units stay, and it gets no others");
        return 0;
}

static int cordon_run(Client *c, char **args, size_t n, Error *err) {
        _cleanup_(drain_done) Drain d = { .client = c };
        int r;

        r = hosts_find(&d, args, n, err);
        if (r == -EINVAL && n == 0)
                return client_usage(error_text(err, r));
        if (r < 0)
                return client_fail_machine(r, err);
        for (size_t i = 0; i < d.n_hosts; i++) {
                r = cordon_host(&d, &d.hosts[i], err);
                if (r < 0)
                        return host_fail(&d.hosts[i], c->verb->name, r, err);
        }
        return client_prints_json(c) ? drain_print_json(&d, err) : EXIT_DONE;
}

/* -- The units that leave -- */

/* Print a unit of an answer. */
static int unit_refresh(Drain *d, const Host *h, const JsonValue *unit) {
        const char *state = member_text(unit, "state"), *reason = member_text(unit, "reason");
        const char *name = member_text(unit, "name");
        _cleanup_text_ Text note = {};
        Verdict verdict;
        size_t i;

        if (operation_item(&d->operation, name, &i) < 0 || GROW(d->units, d->capacity, i + 1) < 0)
                return -ENOMEM;
        d->n_units = MAX(d->n_units, i + 1);
        d->units[i] = (LeavingUnit) { .seen = true };
        if (streq(state, "moving"))
                return operation_show(&d->operation, name, PROGRESS_UNDERWAY, member_text(unit, "machine"),
                                      *reason ? "active" : "starting", reason);
        if (streq(state, "stopping"))
                return operation_show(&d->operation, name, PROGRESS_UNDERWAY, "", "stopping", "");
        if (!streq(state, "waiting") && *reason) /* for the unit beside which it stays (MachineOf=) */
                return operation_show(&d->operation, name, PROGRESS_UNDERWAY, "", "waiting", reason);
        if (!streq(state, "waiting"))
                return operation_show(&d->operation, name, PROGRESS_IDLE, "", "queued", "");
        text_append(&note, reason);
        row_verdict(unit, &verdict);
        if (verdict.code == VERDICT_BOUND)
                text_printf(&note, "; to move it: fleetctl drain %s --force", h->name.chars);
        else if (member_bool(unit, "blocked"))
                return operation_show(&d->operation, name, PROGRESS_UNDERWAY, "", "waiting", reason);
        else if (json_value_member(h->state, "deadlineMs"))
                text_append(&note, "; it stops at the deadline");
        else
                text_printf(&note, "; to stop it: fleetctl drain %s --deadline=5min", h->name.chars);
        return note.error < 0 ?
                       note.error :
                       operation_show(&d->operation, name, PROGRESS_UNDERWAY, "", "waiting", note.chars);
}

/* A unit is on none of the machines any more: find out where it is. */
static int unit_end(Drain *d, size_t i) {
        const char *name = d->operation.items.items[i];
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;
        _cleanup_text_ Text place = {}, time = {};
        Error err = {};
        int r;

        d->units[i].left = true;
        operation_append_elapsed(&d->operation, &time);
        r = client_unit(d->client, name, &unit, &err);
        if (r == -ENOMEM || time.error < 0)
                return -ENOMEM;
        if (r <= 0)
                return operation_show(&d->operation, name, PROGRESS_DONE, "", r == 0 ? "destroyed" : "left",
                                      "");
        if (!unit.machine_id || !*unit.machine_id)
                return operation_show(&d->operation, name, PROGRESS_FAILED, "", "stopped", unit.reason ?: "");
        append_machine_name(&place, &d->machines, unit.machine_id);
        return place.error < 0 ? place.error :
                                 operation_show(&d->operation, name, PROGRESS_DONE, place.chars,
                                                unit_has_finished(&unit)            ? "finished" :
                                                unit.desired_state == TARGET_LOADED ? "loaded" :
                                                                                      "active",
                                                time.chars);
}

/* Read all machines. Return 1 if an answer is missing. */
static int drain_read(Drain *d, Error *err) {
        int r;

        for (size_t i = 0; i < d->n_units; i++)
                d->units[i].seen = false;
        for (size_t i = 0; i < d->n_hosts; i++) {
                Host *h = &d->hosts[i];
                const JsonValue *units;

                r = host_read(d, h, err);
                if (client_is_final(d->client, r))
                        return r;
                if (r < 0)
                        return 1;
                units = json_value_member(h->state, "units");
                JSON_EACH(item, units)
                        TRY(unit_refresh(d, h, item));
        }
        for (size_t i = 0; i < d->n_units; i++)
                if (!d->units[i].seen && !d->units[i].left)
                        TRY(unit_end(d, i));
        operation_draw(&d->operation);
        return 0;
}

/* Print the units beside which the drain has ended. */
static void host_print_staying(const Host *h) {
        const JsonValue *staying = json_value_member(h->state, "stays");

        JSON_EACH(item, staying) {
                _cleanup_text_ Text t = {};

                text_printable(&t, "%s stays: %s; it stops with the host", member_text(item, "name"),
                               member_text(item, "reason"));
                printf("%s\n", t.chars ?: "");
        }
}

/* Print the machines whose drain has ended. Return an exit status, or -EAGAIN while one is being drained. */
static int drain_check(Drain *d) {
        int status = EXIT_DONE;
        bool more = false;

        for (size_t i = 0; i < d->n_hosts; i++) {
                Host *h = &d->hosts[i];

                if (host_is(h, "draining")) {
                        more = true;
                        continue;
                }
                if (!host_is(h, "drained"))
                        status = EXIT_FAILED;
                if (h->done || client_prints_json(d->client))
                        continue;
                h->done = true;
                if (host_is(h, "drained")) {
                        host_print(h, "drained");
                        host_print_staying(h);
                } else
                        client_note("%s: the drain was cancelled; the machine %s", h->name.chars,
                                    host_is(h, "cordoned") ? "is cordoned" : "gets units again");
                (void) fflush(stdout);
        }
        return more ? -EAGAIN : status;
}

/* -- drain -- */

/* Return whether a machine that is not to be drained may get units. */
static bool drain_has_others(const Drain *d) {
        for (size_t i = 0; i < d->machines.n; i++) {
                const ApiMachine *m = &d->machines.machines[i];
                bool named = false;

                for (size_t k = 0; k < d->n_hosts; k++)
                        named |= d->hosts[k].machine == m;
                if (!named && same_string(m->presence, "up") && !m->maintenance && !m->agentless)
                        return true;
        }
        return false;
}

/* Of several machines, find out before the first change whether fleetd will reject the drain of one: each is
 * rejected alone, and the others would stay cordoned. */
static int drain_check_all(Drain *d, uint64_t deadline_ms, const Host **ret_host, Error *err) {
        bool others = deadline_ms > 0 || drain_has_others(d);

        for (size_t i = 0; i < d->n_hosts; i++) {
                Host *h = &d->hosts[i];
                const char *presence = h->machine->presence ?: "";

                *ret_host = h;
                if (streq(presence, "lost") || streq(presence, "left"))
                        return error_set(
                                err, -EREMOTEIO,
                                "it is %s: its units move without a drain; to keep other units away from "
                                "it when it returns: fleetctl cordon %s",
                                streq(presence, "lost") ? presence : "shut down", h->name.chars ?: "");
                TRY(others ? 0 : host_read(d, h, err));
                if (!others && member_number(h->state, "unitsLeft") > 0)
                        return error_set(err, -EREMOTEIO,
                                         "no other machine can run units: its units would stay; to stop "
                                         "them, repeat the command with --deadline=5min");
        }
        return 0;
}

static int drain_begin(Drain *d, Host *h, uint64_t deadline_ms, Error *err) {
        _cleanup_text_ Text text = {};
        uint64_t n;
        int r;

        TRY(host_put(d, h, "draining", deadline_ms, err));
        r = host_read(d, h, err);
        if (r < 0 || client_prints_json(d->client) || host_is(h, "drained"))
                return r;
        n = member_number(h->state, "unitsLeft");
        text_printf(&text, "cordoned; %llu unit%s to move", (unsigned long long) n, plural(n));
        if (json_value_member(h->state, "deadlineMs"))
                text_printf(&text, "; in %llu s, the rest stops",
                            (unsigned long long) member_number(h->state, "deadlineMs") / 1000);
        host_print(h, text.chars ?: "");
        return text.error;
}

static void drain_left(void *userdata, OperationEnd end) {
        const Drain *d = userdata;
        const Operation *o = &d->operation;

        for (size_t i = 0; o->progress && progress_is_cut(o->progress) && i < d->n_units; i++)
                if (!d->units[i].left && o->lines[i])
                        client_note("%s", o->lines[i]);
        for (size_t i = 0; i < d->n_hosts; i++) {
                const Host *h = &d->hosts[i];
                uint64_t n = member_number(h->state, "unitsLeft");

                if (host_is(h, "draining"))
                        client_note("%s%llu unit%s of %s %s left; the drain continues: fleetctl drain %s "
                                    "shows it, "
                                    "fleetctl uncordon %s ends it",
                                    operation_end(end), (unsigned long long) n, plural(n), h->name.chars,
                                    n == 1 ? "is" : "are", h->name.chars, h->name.chars);
        }
}

static void drain_lost(void *userdata, const char *why) {
        client_note("no state from fleetd; the drain continues (on another host: fleetctl status): %s", why);
}

static int drain_look(void *userdata, Error *err) {
        Drain *d = userdata;
        int r;

        r = TRY(drain_read(d, err));
        return r > 0 ? -ENODATA : drain_check(d);
}

static const OperationType drain_type = { drain_look, drain_left, drain_lost, .silent_ms = 60000 };

static int drain_run(Client *c, char **args, size_t n, Error *err) {
        _cleanup_(drain_done) Drain d = { .client = c, .operation = operation_begin(c) };
        uint64_t deadline_ms = 0;
        const Host *host = NULL;
        int r;

        if (client_read_span("deadline", c->options.deadline, &deadline_ms) < 0)
                return EXIT_USAGE;
        r = hosts_find(&d, args, n, err);
        if (r == -EINVAL && n == 0)
                return client_usage(error_text(err, r));
        if (r < 0)
                return client_fail_machine(r, err);
        r = d.n_hosts > 1 ? drain_check_all(&d, deadline_ms, &host, err) : 0;
        if (r < 0)
                return host_fail(host, "drain", r, err);
        /* Cordon all of several machines before the units of one of them move: else these would move to
         * another one of them, and then again. A machine that is cordoned, drained or being drained stays
         * so. */
        for (size_t i = 0; i < d.n_hosts && d.n_hosts > 1; i++) {
                r = host_put(&d, &d.hosts[i], "cordoned", 0, err);
                if (r < 0)
                        return host_fail(&d.hosts[i], "drain", r, err);
        }
        for (size_t i = 0; i < d.n_hosts; i++) {
                r = drain_begin(&d, &d.hosts[i], deadline_ms, err);
                if (r < 0) {
                        r = host_fail(&d.hosts[i], "drain", r, err);
                        if (d.n_hosts > 1)
                                client_note("the machines are cordoned; to end that: fleetctl uncordon");
                        return r;
                }
        }
        (void) fflush(stdout);
        if (!c->options.no_block)
                TRY_DONE(operation_wait(&d.operation, &drain_type, &d, err));
        return client_prints_json(c) ? drain_print_json(&d, err) : EXIT_DONE;
}

VERB(cordon, "cordon", "json", "HOST...", "Give machines no other units",
     "Their units stay. Ends with uncordon, not with a restart of the machine.\n\n"
     "fleetctl cordon beta --reason='new disk'\n",
     cordon_run);

VERB(drain, "drain", "no-block json", "HOST...", "Move the units of machines to others",
     "Cordons the machines. Each unit runs on another machine before it stops, eight of a machine at a\n"
     "time; global units stay. A unit without another machine stays, with its reason, until --deadline.\n"
     "The drain continues without this command; repeat it for the progress. uncordon ends it.\n"
     "Exit status 0: drained, 1: cancelled or rejected, 4: no such machine, 5: it continues.\n\n"
     "fleetctl drain beta --deadline=5min\n",
     drain_run);

VERB(uncordon, "uncordon", "json", "HOST...", "Give machines units again",
     "Ends cordon and drain. Units that have moved do not move back.\n", cordon_run);
