/* /fleet/v1/directory: problems of unit directories, and the confirmations of operators. The host of a
 * directory reads a confirmation from its problem key, whichever host received it. */

#include "fleetd/api/fleet_v1.h"

enum { NAMES_MAX = 100 }; /* of one POST */

static void problem_write(Text *t, const ClusterMachine *m, const ClusterProblem *p) {
        json_open(t, NULL, '{');
        json_add_bool(t, "confirmed", p->problem.confirmed);
        json_add_string(t, "kind", problem_kind_to_string(p->problem.kind));
        json_add_string(t, "machineID", m->id);
        json_add_string(t, "name", p->unit);
        json_add_string(t, "reason", p->problem.text);
        json_close(t, '}');
}

static int problems_write(Text *t, const ClusterMachine *m) {
        _cleanup_free_ const ClusterProblem **sorted = NULL;
        size_t n;

        sorted = cluster_problems_sorted(m, &n);
        for (size_t i = 0; sorted && i < n; i++)
                problem_write(t, m, sorted[i]);
        return sorted ? 0 : -ENOMEM;
}

unsigned directory_list_handle(Request *request, Error *err) {
        _cleanup_free_ ClusterMachine **machines = NULL;
        _cleanup_text_ Text t = {};
        size_t n = 0;

        machines = cluster_machines_sorted(request_cluster(request), &n);
        json_open(&t, NULL, '{');
        json_open(&t, "problems", '[');
        for (size_t i = 0; machines && i < n; i++)
                if (!cluster_machine_is_removed(machines[i]) && problems_write(&t, machines[i]) < 0)
                        t.error = -ENOMEM;
        json_close(&t, ']');
        json_close(&t, '}');
        if (!machines)
                t.error = -ENOMEM;
        return request_answer_json(request, 200, &t);
}

/* Set the changes of the problems that the request confirms; texts are borrowed from the cluster. Return 0,
 * or the status to answer. */
static unsigned confirmations_read(const Cluster *c, const JsonValue *root,
                                   Problem problems[static NAMES_MAX],
                                   ProblemChange changes[static NAMES_MAX], size_t *ret_n, Error *err) {
        const JsonValue *names = json_value_member(root, "names");
        const char *machine = json_value_string(json_value_member(root, "machineID")) ?: "";
        ProblemKind kind = problem_kind_from_string(json_value_string(json_value_member(root, "kind")) ?: "");
        size_t n = json_value_count(names);

        if (kind != PROBLEM_HELD && kind != PROBLEM_TAKEN && kind != PROBLEM_REVERTED)
                return error_set(err, 400, "kind: expected held, reverted or taken");
        if (n == 0 || n > NAMES_MAX)
                return error_set(err, 400, "names: expected 1 to %d", NAMES_MAX);
        for (size_t i = 0; i < n; i++) {
                const char *name = json_value_string(json_value_item(names, i)) ?: "";
                const ClusterProblem *p = cluster_problem(c, machine, name);

                if (!p || (p->problem.kind != kind &&
                           (kind != PROBLEM_TAKEN || p->problem.kind != PROBLEM_UNOWNED)))
                        return error_set(err, 404,
                                         "%.255s: the directory of %.64s has no problem with it that awaits "
                                         "confirmation",
                                         name, cluster_name_of(c, machine));
                problems[i] = p->problem;
                problems[i].confirmed = true;
                changes[i] = (ProblemChange) { .machine = machine,
                                               .name = p->unit,
                                               .problem = &problems[i],
                                               .expected_index = p->index };
        }
        *ret_n = n;
        return 0;
}

unsigned directory_post_handle(Request *request, Error *err) {
        Registry *registry = request->api->host->registry;
        _cleanup_json_ JsonValue *root = NULL;
        ProblemChange changes[NAMES_MAX];
        Problem problems[NAMES_MAX];
        const char *user = request_user(request);
        unsigned status;
        size_t n = 0;
        int r;

        r = json_value_parse(request->http->body, request->http->body_size, &root, err);
        if (r < 0)
                return request_body_refused(r, err);
        status = confirmations_read(registry_cluster(registry), root, problems, changes, &n, err);
        if (status > 0)
                return status;
        for (size_t i = 0; i < n; i++)
                changes[i].user = user;
        return change_sent(request, "the unit",
                           registry_change_directory(request_registry(request), NULL, 0, changes, n,
                                                     change_on_done, request));
}
