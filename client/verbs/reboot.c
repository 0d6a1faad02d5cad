/* reboot: hosts that reboot one after the other, each after its units have moved away. The daemons take all
 * steps by themselves; this command queues the hosts, and reports. */

#include "base/clock.h"
#include "base/parse.h"
#include "client/core/client.h"
#include "client/core/operation.h"
#include "client/core/listing.h"
#include "client/core/machines.h"

enum {
        REBOOT_BEGIN_MS = 5000,    /* in which the queue appears in the answers */
        REBOOT_SILENT_MS = 120000, /* the host of this daemon may be the one that reboots */
        REBOOT_ZONE_SLOTS = 1000,  /* with --by, all hosts of a zone */
};

static const char reboots_path[] = "/fleet/v1/reboots";
static const char no_reboot[] = "No reboot is planned.";

/* A machine of the arguments. */
typedef struct RebootHost {
        const ApiMachine *machine; /* borrowed */
        Text name;                 /* for messages */
        char state[16];            /* "": no record */
        bool seen, known;          /* it is in this answer; it was in one */
        bool reboots;              /* no request cancels it any more */
} RebootHost;

typedef struct Reboot {
        Client *client;
        Listing machines;
        RebootHost *hosts;
        size_t n;
        Operation operation;
} Reboot;

static void reboot_done(Reboot *b) {
        for (size_t i = 0; i < b->n; i++)
                text_done(&b->hosts[i].name);
        free(b->hosts);
        operation_done(&b->operation);
        listing_done(&b->machines);
}

/* -- Machines -- */

static int host_add(Reboot *b, const ApiMachine *machine) {
        RebootHost *h = &b->hosts[b->n];

        if (b->client->options.if_needed && !machine->needs_reboot)
                return 0;
        for (size_t i = 0; i < b->n; i++)
                if (b->hosts[i].machine == machine)
                        return 0;
        h->machine = machine;
        b->n++;
        append_machine_name(&h->name, &b->machines, machine->id);
        return h->name.error;
}

/* The leader's host is the last one. */
static void hosts_put_leader_last(Reboot *b) {
        for (size_t i = 0; i + 1 < b->n; i++)
                if (same_string(b->hosts[i].machine->role, "leader")) {
                        RebootHost leader = b->hosts[i];

                        memmove(&b->hosts[i], &b->hosts[i + 1], (b->n - 1 - i) * sizeof(RebootHost));
                        b->hosts[b->n - 1] = leader;
                        return;
                }
}

static bool is_up(const ApiMachine *m) {
        return (same_string(m->presence, "up") || same_string(m->presence, "away")) && !m->agentless;
}

static int reboot_hosts_find(Reboot *b, char **args, size_t n, Error *err) {
        TRY_PREFIX(client_all_machines(b->client, &b->machines, err), err, "Failed to read the machines");
        b->hosts = NEW0(RebootHost, MAX(n, b->machines.n) + 1);
        if (!b->hosts)
                return -ENOMEM;
        for (size_t i = 0; b->client->options.all && i < b->machines.n; i++)
                if (is_up(&b->machines.machines[i]))
                        TRY(host_add(b, &b->machines.machines[i]));
        for (size_t i = 0; i < n; i++) {
                const ApiMachine *machine;

                TRY(client_find_host(&b->machines, args[i], &machine, err));
                TRY(host_add(b, machine));
        }
        hosts_put_leader_last(b);
        return 0;
}

/* -- Printing -- */

static void print_printable(const Text *text) {
        _cleanup_text_ Text t = {};

        text_append_printable(&t, text->chars ?: "");
        output_words(&t, 2);
        (void) fflush(stdout);
}

/* Append what the state of a host is; 'r' is its record. */
static void append_reboot_state(Text *t, const JsonValue *r) {
        const char *state = member_text(r, "state"), *reason = member_text(r, "reason"),
                   *unit = member_text(r, "unit");
        unsigned long long units = member_number(r, "unitsLeft");

        text_append(t, state);
        if (streq(state, "draining"))
                text_printf(t, "; %llu unit%s to move", units, plural(units));
        if (*reason)
                text_printf(t, ": %s", reason);
        if (!*unit || !streq(state, "draining") || member_bool(r, "blocked"))
                return;
        if (json_value_member(r, "deadlineMs"))
                text_printf(t, "; %s stops at the deadline", unit);
        else
                text_printf(t, "; to stop %s: fleetctl reboot %s --deadline=5min", unit,
                            member_name(r, "name"));
}

/* Print the line of a host if it has changed. */
static int reboot_host_print(Reboot *b, const RebootHost *h, const Text *line) {
        int r = operation_has_news(&b->operation, h->name.chars, line);

        if (r > 0 && !client_prints_json(b->client))
                print_printable(line);
        return MIN(r, 0);
}

static int host_refresh(Reboot *b, RebootHost *h, const JsonValue *r) {
        _cleanup_text_ Text line = {};

        h->seen = h->known = true;
        snprintf(h->state, sizeof(h->state), "%s", member_text(r, "state"));
        h->reboots = text_has_word("rebooting down back", h->state);
        text_printf(&line, "%s: ", h->name.chars);
        append_reboot_state(&line, r);
        return reboot_host_print(b, h, &line);
}

/* The record is gone, or not there yet. */
static int host_end(Reboot *b, RebootHost *h) {
        _cleanup_text_ Text line = {};

        if (!h->known && clock_monotonic_ms() - b->operation.began_ms < REBOOT_BEGIN_MS) {
                h->seen = true;
                return 0;
        }
        text_printf(&line, "%s: %s", h->name.chars, h->reboots ? "rebooted" : "cancelled");
        h->state[0] = 0;
        return reboot_host_print(b, h, &line);
}

/* -- Waiting -- */

/* Read the records of all hosts. */
static int reboot_look(void *userdata, Error *err) {
        Reboot *b = userdata;
        _cleanup_json_ JsonValue *root = NULL;
        const JsonValue *all;
        bool more = false, failed = false;
        int r = client_get_json(b->client, reboots_path, &root, err);

        if (r < 0)
                return client_is_final(b->client, r) ? r : -ENODATA;
        all = json_value_member(root, "reboots");
        for (size_t i = 0; i < b->n && r >= 0; i++) {
                RebootHost *h = &b->hosts[i];

                h->seen = false;
                for (size_t k = 0; k < json_value_count(all) && r >= 0; k++)
                        if (streq(member_text(json_value_item(all, k), "id"), h->machine->id))
                                r = host_refresh(b, h, json_value_item(all, k));
                if (!h->seen && r >= 0)
                        r = host_end(b, h);
                failed |= streq(h->state, "failed") || (!h->seen && !h->reboots);
                more |= h->seen;
        }
        for (size_t k = 0; k < json_value_count(all); k++) /* also of a host of another command */
                if (streq(member_text(json_value_item(all, k), "state"), "failed"))
                        more = !(failed = true);
        if (r < 0)
                return r;
        return more ? -EAGAIN : failed ? EXIT_FAILED : EXIT_DONE;
}

static void reboot_left(void *userdata, OperationEnd end) {
        client_note(
                "%sthe reboots continue: fleetctl reboot --status shows them, fleetctl reboot --cancel ends "
                "them",
                operation_end(end));
}

static void reboot_lost(void *userdata, const char *why) {
        const Reboot *b = userdata;
        const RebootHost *down = NULL;

        for (size_t i = 0; i < b->n; i++)
                if (streq(b->hosts[i].state, "rebooting") || streq(b->hosts[i].state, "down"))
                        down = &b->hosts[i];
        client_note("no state from fleetd%s%s%s; the reboots continue (on another host: fleetctl reboot "
                    "--status): %s",
                    down ? ", probably because " : "", down ? down->name.chars : "", down ? " reboots" : "",
                    why);
}

static const OperationType reboot_type = { reboot_look, reboot_left, reboot_lost,
                                           .silent_ms = REBOOT_SILENT_MS };

/* Wait until all have rebooted; Ctrl-C ends only the wait. */
static int reboot_wait(Reboot *b, Error *err) {
        int r = operation_wait(&b->operation, &reboot_type, b, err);

        if (r == EXIT_FAILED)
                client_note("the queue has stopped, or a reboot was cancelled; to go on without the host: "
                            "fleetctl reboot --resume; to end all: fleetctl reboot --cancel");
        return r;
}

/* -- The queue -- */

static int reboot_status(Client *c, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        const JsonValue *all;
        bool failed = false;

        if (client_prints_json(c))
                return client_print_answer(c, reboots_path, err);
        TRY(client_get_json(c, reboots_path, &root, err));
        all = json_value_member(root, "reboots");
        JSON_EACH(item, all) {
                _cleanup_text_ Text line = {};

                text_printf(&line, "%s: ", member_name(item, "name"));
                append_reboot_state(&line, item);
                print_printable(&line);
                failed |= streq(member_text(item, "state"), "failed");
        }
        if (json_value_count(all) == 0)
                puts(no_reboot);
        return failed ? EXIT_FAILED : EXIT_DONE;
}

/* Change the queue. The request is sent also if the queue seems to be empty: it may have begun meanwhile. */
static int reboot_change(Client *c, const char *method, const char *path, const char *text, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        bool none;

        TRY(client_get_json(c, reboots_path, &root, err));
        none = json_value_count(json_value_member(root, "reboots")) == 0;
        TRY(client_request(c, method, path, NULL, NULL, err));
        if (client_prints_json(c))
                return client_print_answer(c, reboots_path, err);
        puts(none ? no_reboot : text);
        return EXIT_DONE;
}

/* Print the order, and ask. */
static bool reboot_confirm(const Reboot *b) {
        const Options *o = &b->client->options;
        _cleanup_text_ Text t = {};

        for (size_t i = 0; i < b->n; i++)
                text_printf(&t, "%s%s", i > 0 ? ", " : "", b->hosts[i].name.chars);
        text_printf(&t, " reboot%s", b->n == 1 ? "s" : "");
        if (o->by)
                text_printf(&t, ", the hosts with one value of %s after those with another one", o->by);
        else if (o->parallel > 1)
                text_printf(&t, ", at most %llu at a time", (unsigned long long) o->parallel);
        else if (b->n > 1)
                text_append(&t, " one after the other");
        return t.error >= 0 && client_confirm(b->client, b->n == 1 ? "Reboot it?" : "Reboot them?",
                                              "%s. The units of a host move away before.", t.chars);
}

static int reboot_queue(const Reboot *b, uint64_t deadline_ms, uint64_t return_ms, Error *err) {
        const Options *o = &b->client->options;
        uint64_t slots = o->parallel > 0 ? o->parallel : o->by ? REBOOT_ZONE_SLOTS : 0;
        _cleanup_text_ Text body = {};

        json_open(&body, NULL, '{');
        json_add_u64(&body, "deadlineMs", deadline_ms);
        json_add_string(&body, "kind", o->soft ? "soft" : o->kexec ? "kexec" : "reboot");
        json_open(&body, "machines", '[');
        for (size_t i = 0; i < b->n; i++)
                json_add_string(&body, NULL, b->hosts[i].machine->id);
        json_close(&body, ']');
        json_add_u64(&body, "returnMs", return_ms);
        json_add_u64(&body, "slots", slots);
        json_add_string(&body, "zone", o->by);
        json_close(&body, '}');
        return client_request(b->client, "POST", reboots_path, &body, NULL, err);
}

/* Return a message if the flags and arguments contradict each other; NULL: they do not. */
static const char *reboot_usage(const Options *o, size_t n) {
        int modes = o->status + o->resume + o->cancel;

        if (modes > 1 || (modes == 1 && (n > 0 || o->all)))
                return "reboot: expected one of --status, --resume and --cancel, without machines";
        if (modes == 0 && (n > 0) == o->all)
                return n > 0 ? "reboot: expected machines or --all, not both" :
                               "reboot: expected at least one machine, by its name or ID, or --all";
        if (o->soft && o->kexec)
                return "reboot: --soft and --kexec exclude each other";
        if (o->by && !*o->by)
                return "reboot: --by=: expected the key of metadata, for example --by=zone";
        if (o->one_by_one && (o->parallel > 1 || o->by))
                return "reboot: --one-by-one excludes --parallel and --by";
        return NULL;
}

static int reboot_run(Client *c, char **args, size_t n, Error *err) {
        _cleanup_(reboot_done) Reboot b = { .client = c, .operation = operation_begin(c) };
        const Options *o = &c->options;
        uint64_t deadline_ms = 0, return_ms = 0;
        const char *usage = reboot_usage(o, n);
        int r;

        if (usage)
                return client_usage(usage);
        if (client_read_span("deadline", o->deadline, &deadline_ms) < 0 ||
            client_read_span("return", o->return_in, &return_ms) < 0)
                return EXIT_USAGE;
        if (o->status)
                return reboot_status(c, err);
        if (o->resume)
                return reboot_change(c, "POST", "/fleet/v1/reboots/resume", "The queue of reboots goes on.",
                                     err);
        if (o->cancel)
                return reboot_change(c, "DELETE", reboots_path,
                                     "Cancelled. A host that is about to reboot continues.", err);
        r = reboot_hosts_find(&b, args, n, err);
        if (r < 0)
                return client_fail_machine(r, err);
        if (b.n == 0 && o->if_needed) {
                puts("No host needs a reboot.");
                return EXIT_DONE;
        }
        if (b.n == 0)
                return client_fail(error_set(err, -ENOENT, "no machine is up"), err);
        if (!reboot_confirm(&b))
                return EXIT_FAILED;
        r = reboot_queue(&b, deadline_ms, return_ms, err);
        if (r >= 0 && !o->no_block)
                r = reboot_wait(&b, err);
        if (r != EXIT_DONE)
                return r;
        return client_prints_json(c) ? client_print_answer(c, reboots_path, err) : EXIT_DONE;
}

VERB(reboot, "reboot", "no-block yes json", "[HOST...]",
     "Reboot machines one after the other, each after its units have moved",
     "Queues the hosts; the leader's host is the last one. Each is drained, reboots, and gets units again\n"
     "when it is back and its own units run. The queue stops at a host that does not return.\n"
     "The hosts continue without this command; --status prints the queue.\n"
     "Exit status 0: all are back, 1: the queue has stopped, 4: no such machine, 5: it continues.\n\n"
     "fleetctl reboot --all\n",
     reboot_run);
