/* systemctl and journalctl for a unit, on the host that has it, journalctl for fleetd itself, and what units
 * use: in a child process, so that the loop reads nothing from disk, and the output is that of the tools. */

#include "base/parse.h"
#include "fleetd/api/call_ask.h"
#include "fleetd/api/call_execute.h"
#include "fleetd/api/fleet_v1.h"
#include "fleetd/api/routes.h"
#include "units/name.h"

/* Read the parameters. False: one is invalid, for status 400. */
static bool spec_read(const Request *request, RemoteCommandSpec *spec, Error *err) {
        const char *lines = request_parameter(request, "lines"),
                   *follow = request_parameter(request, "follow");
        uint64_t n = spec->kind == CALL_LOG ? CALL_LINES_ALL : 10;

        for (size_t i = 1; i < REMOTE_COMMAND_TEXTS; i++) { /* the first is the unit */
                const RemoteCommandText *text = &remote_command_texts[i];
                const char *value = request_parameter(request, text->name) ?: "";

                if ((size_t) snprintf((char *) spec + text->offset, text->size, "%s", value) < text->size)
                        continue;
                error_set(err, -EINVAL, "%s: longer than %zu bytes", text->name, text->size - 1);
                return false;
        }
        if (lines && (parse_u64(lines, &n) < 0 || n > CALL_LINES_MAX))
                error_set(err, -EINVAL, "lines: expected a number up to %d", CALL_LINES_MAX);
        else if (follow && parse_bool(follow, &spec->follow) < 0)
                error_set(err, -EINVAL, "follow: expected true or false");
        else {
                spec->lines = n;
                return remote_command_spec_check(spec, err) >= 0;
        }
        return false;
}

/* Run the command on machine 'm' (NULL: this host). */
static unsigned command_begin(Request *request, const ClusterMachine *m, RemoteCommandSpec *spec,
                              Error *err) {
        if (!spec_read(request, spec, err))
                return 400;
        if (m && !streq(m->id, request->api->settings->machine_id))
                call_ask(request, m->id, spec);
        else
                call_execute_request(request, spec);
        return 0;
}

bool remote_command_is_here(const Request *request) {
        const char *own = request->api->settings->machine_id, *wanted = request_parameter(request, "machine");
        const ClusterMachine *m;

        if (wanted)
                return streq(wanted, own);
        if (remote_command_is_of_host(request->route->command))
                return true;
        m = cluster_unit_machine(request_cluster(request), request->rest);
        return m && streq(m->id, own);
}

static bool sender_only_reads(const Request *request) {
        return request->sender && !sender_may(request->sender, RIGHT_UNITS_CHANGE);
}

unsigned remote_command_handle(Request *request, Error *err) {
        const Cluster *c = request_cluster(request);
        const char *unit = request->rest, *wanted = request_parameter(request, "machine");
        const ClusterUnit *u = cluster_unit(c, unit);
        const ClusterMachine *m;
        RemoteCommandSpec spec = { .kind = request->route->command,
                                   .cluster_only = sender_only_reads(request) };

        m = wanted ? cluster_machine(c, wanted) : cluster_unit_machine(c, unit);
        if ((!u && !m) || (m && !unit_is_readable(request, m, unit)))
                return error_set(err, 404, "unit does not exist");
        if (!m)
                return error_set(err, 404, wanted ? "machine %s does not exist" : "%s is on no machine",
                                 wanted ?: unit);
        if (unit_name_check(unit, err) < 0)
                return 400;
        snprintf(spec.unit, sizeof(spec.unit), "%s", unit);
        return command_begin(request, m, &spec, err);
}

/* The machine is that of the parameter, or this one, which need not be a machine of the cluster. */
unsigned remote_host_handle(Request *request, Error *err) {
        const char *wanted = request_parameter(request, "machine");
        const ClusterMachine *m = wanted ? cluster_machine(request_cluster(request), wanted) : NULL;
        RemoteCommandSpec spec = { .kind = request->route->command,
                                   .cluster_only = sender_only_reads(request) };

        if (wanted && !m && !streq(wanted, request->api->settings->machine_id))
                return error_set(err, 404, "machine %s does not exist", wanted);
        return command_begin(request, m, &spec, err);
}
