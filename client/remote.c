/* status and journal: what systemctl and journalctl say on the machine where the unit is. Any fleetd leads there. */
#include <errno.h>
#include <stdio.h>

#include "client/client.h"
#include "client/overview.h"
#include "units/name.h"

typedef struct Output {
        int status; /* of the command there; -1: it has not ended */
} Output;

/* {"machine":"ID","data":"text"} and at last {"exit":0} */
static int on_line(void *userdata, const char *line, size_t size) {
        _cleanup_json_ JsonValue *root = NULL;
        Output *output = userdata;
        const char *data = NULL;
        uint64_t status = 0;
        int r;

        r = json_value_parse(line, size, &root, NULL);
        if (r >= 0)
                r = json_read_string(root, "data", &data, NULL);
        if (r < 0)
                return r;
        if (data && fputs(data, stdout) == EOF)
                return -EPIPE;
        (void) fflush(stdout);
        if (json_value_member(root, "exit")) {
                r = json_read_u64(root, "exit", &status, NULL);
                if (r < 0)
                        return r;
                output->status = (int) MIN(status, (uint64_t) 255);
        }
        return 0;
}

/* Prints one answer of the API; the exit status is the remote command's. */
static int print_remote(Client *c, const Text *path, const char *name) {
        Output output = { .status = -1 };
        Error err = {};
        int r;

        if (path->error < 0)
                return client_fail(path->error, NULL, "%s", "");
        r = connection_follow(c->connection, path->chars, on_line, &output, &err);
        if (r < 0)
                return client_fail(r, &err, "Error retrieving unit %s: ", name);
        if (output.status < 0) {
                fprintf(stderr, "fleetctl: the machine of %s was lost before it had said all\n", name);
                return EXIT_FAILED;
        }
        return output.status;
}

/* --machine is an id, its beginning, or a name; the whole id goes to the daemon. */
static int resolve_machine(Client *c, char **ret) {
        _cleanup_listing_ Listing machines = {};
        const char *wanted = c->options.machine, *found = NULL;
        Error err = {};
        int r;

        if (!wanted)
                return EXIT_DONE;
        r = client_machines(c, &machines, &err);
        if (r < 0)
                return client_fail(r, &err, "Error retrieving list of active machines from fleet API: ");
        for (size_t i = 0; i < machines.n; i++) {
                const ApiMachine *m = &machines.machines[i];

                if (!m->id || !*wanted || (!starts_with(m->id, wanted) && !(m->hostname && streq(m->hostname, wanted))))
                        continue;
                if (found) {
                        fputs("Unable to proceed: found more than one machine\n", stderr);
                        return EXIT_FAILED;
                }
                found = m->id;
        }
        if (!found) {
                fputs("Unable to proceed: machine does not exist\n", stderr);
                return EXIT_FAILED;
        }
        *ret = strdup(found);
        return *ret ? EXIT_DONE : client_fail(-ENOMEM, NULL, "%s", "");
}

static void append_machine(Text *path, const char *machine, char separator) {
        if (!machine || !*machine)
                return;
        text_printf(path, "%cmachine=", separator);
        append_escaped(path, machine, false);
}

static int status_on(Client *c, const char *name, const char *machine) {
        _cleanup_text_ Text path = {};

        text_append(&path, "/fleet/v1/status/");
        append_escaped(&path, name, false);
        append_machine(&path, machine, '?');
        return print_remote(c, &path, name);
}

/* A global unit: one machine after the other. */
static int status_everywhere(Client *c, const char *name) {
        _cleanup_listing_ Listing states = {};
        Error err = {};
        int r;

        r = client_states(c, name, &states, &err);
        if (r < 0)
                return client_fail(r, &err, "Error retrieving unit: ");
        r = EXIT_DONE;
        for (size_t i = 0, shown = 0; i < states.n && r == EXIT_DONE; i++) {
                if (!states.states[i].name || !streq(states.states[i].name, name))
                        continue;
                if (shown++ > 0)
                        putchar('\n');
                (void) fflush(stdout);
                r = status_on(c, name, states.states[i].machine_id);
        }
        return r;
}

int verb_status(Client *c, char **args, size_t n) {
        _cleanup_free_ char *machine = NULL;
        int status;

        if (n == 0)
                return overview(c);
        status = resolve_machine(c, &machine);
        if (status != EXIT_DONE)
                return status;
        for (size_t i = 0; i < n; i++) {
                _cleanup_free_ char *name = unit_name_from_argument(args[i]);
                _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;
                Error err = {};
                int r;

                r = name ? client_unit(c, name, &unit, &err) : -ENOMEM;
                if (r < 0)
                        return client_fail(r, &err, "Error retrieving unit: ");
                if (r == 0) {
                        fprintf(stderr, "Unit %s does not exist.\n", name);
                        return EXIT_FAILED;
                }
                if (!unit_is_global(&unit) && unit.current_state <= TARGET_INACTIVE) {
                        fprintf(stderr, "Unit %s does not appear to be loaded.\n", name);
                        if (unit.reason && *unit.reason && unit.desired_state > TARGET_INACTIVE)
                                fprintf(stderr, "fleetctl: %s: %s\n", name, unit.reason);
                        return EXIT_FAILED;
                }

                if (i > 0)
                        putchar('\n');
                (void) fflush(stdout);
                r = unit_is_global(&unit) && !machine ? status_everywhere(c, name) : status_on(c, name, machine);
                if (r != EXIT_DONE)
                        return r;
        }
        return EXIT_DONE;
}

int verb_journal(Client *c, char **args, size_t n) {
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;
        _cleanup_free_ char *name = NULL, *machine = NULL;
        _cleanup_text_ Text path = {};
        Error err = {};
        int r;

        if (n != 1) {
                fputs("One unit file must be provided.\n", stderr);
                return EXIT_FAILED;
        }
        name = unit_name_from_argument(args[0]);
        r = name ? client_unit(c, name, &unit, &err) : -ENOMEM;
        if (r < 0)
                return client_fail(r, &err, "Error retrieving unit %s: ", name);
        if (r == 0) {
                fprintf(stderr, "Unit %s does not exist.\n", name);
                return EXIT_FAILED;
        }
        if (unit_is_global(&unit) && !c->options.machine) {
                fprintf(stderr, "Unable to retrieve journal of global unit %s.\n", name);
                fputs("fleetctl: say of which machine: --machine=NAME\n", stderr);
                return EXIT_FAILED;
        }
        if (!unit_is_global(&unit) && unit.current_state <= TARGET_INACTIVE && !c->options.machine) {
                fprintf(stderr, "Unit %s does not appear to be running.\n", name);
                return EXIT_FAILED;
        }

        r = resolve_machine(c, &machine);
        if (r != EXIT_DONE)
                return r;
        text_append(&path, "/fleet/v1/journal/");
        append_escaped(&path, name, false);
        text_printf(&path, "?lines=%llu&follow=%s&output=", (unsigned long long) c->options.lines,
                    c->options.follow ? "true" : "false");
        append_escaped(&path, c->options.journal_output, false);
        append_machine(&path, machine, '&');
        return print_remote(c, &path, name);
}
