/* PUT /fleet/v1/cluster/settings: the settings that are equal on all hosts. Members that the body lacks keep
 * their value. */
#include <ctype.h>

#include "fleetd/api/fleet_v1.h"
#include "fleetd/sessions/voters.h"
#include "units/json.h"

static int settings_check_name(const char *name, Error *err) {
        for (const char *c = name; *c; c++)
                if (!isalnum((unsigned char) *c) && !strchr("._-", *c))
                        return error_set(err, -EINVAL,
                                         "name: expected letters, digits, '.', '_' and '-', at most %d",
                                         CLUSTER_NAME_MAX);
        return 0;
}

/* From KV_LEVEL_ATTACHED on, hosts beyond the voters and standbys are attached. */
static int settings_check_voters(const Cluster *c, unsigned level, uint64_t voters, Error *err) {
        size_t n_hosts = voters_others(c, "", "");

        if (voters > VOTERS_MAX || (voters > 0 && voters % 2 == 0))
                return error_set(err, -EINVAL,
                                 "voters: expected 1, 3 or 5, or 0 for automatic, not %llu: an even number "
                                 "can lose no more hosts than the odd one below",
                                 (unsigned long long) voters);
        if (level < KV_LEVEL_ATTACHED && n_hosts > voters_hosts_max((unsigned) voters))
                return error_set(
                        err, -EBUSY,
                        "voters: the cluster has %zu host%s, and with %llu voter%s and %d standbys there "
                        "are at most %zu: remove hosts first",
                        n_hosts, plural(n_hosts), (unsigned long long) (voters ?: 3), plural(voters ?: 3),
                        VOTERS_STANDBYS_MAX, voters_hosts_max((unsigned) voters));
        return 0;
}

static int settings_check_spread(const Cluster *c, const char *key, Error *err) {
        const char *first = NULL, *value;
        bool differs = false;
        size_t n = 0;
        int r;

        if (!*key)
                return 0;
        r = machine_metadata_check(key, "", err);
        if (r < 0)
                return error_prefix(err, r, "spread");
        for (const ClusterMachine *m = c->machines; m; m = m->hh.next) {
                if (cluster_machine_is_removed(m))
                        continue;
                value = pairs_get(&m->metadata, key) ?: "";
                differs |= n++ > 0 && !streq(value, first);
                first = value;
        }
        if (!first || (!differs && !*first))
                return error_set(err, -EBUSY, "spread: no host has metadata %s: set it on each host first",
                                 key);
        if (!differs && n > 1)
                return error_set(
                        err, -EBUSY,
                        "spread: all %zu hosts have %s=%s: nothing can be spread; set it on each host "
                        "first",
                        n, key, first);
        return 0;
}

/* Read the members of the body over 'settings'. */
static int settings_v1_read(const JsonValue *root, ClusterSettings *settings, Error *err) {
        static const JsonField fields[] = {
                { "name", JSON_FIELD_CHARS, offsetof(ClusterSettings, name), .size = CLUSTER_NAME_MAX + 1 },
                { "restricted", JSON_FIELD_BOOL, offsetof(ClusterSettings, restricted) },
                { "spread", JSON_FIELD_CHARS, offsetof(ClusterSettings, spread), .size = SPREAD_KEY_MAX + 1 },
                { "sticky", JSON_FIELD_BOOL, offsetof(ClusterSettings, sticky) },
                { "sticky", JSON_FIELD_NOT, offsetof(ClusterSettings, not_sticky) },
                { "voters", JSON_FIELD_U64, offsetof(ClusterSettings, voters) },
        };

        for (size_t i = 0; i < ELEMENTS(fields); i++)
                if (json_value_member(root, fields[i].name))
                        return json_read_fields(root, JSON_FIELDS(fields), settings, err);
        return error_set(err, -EBADMSG,
                         "expected an object with some of \"name\", \"restricted\", \"spread\", "
                         "\"sticky\", \"voters\"");
}

static int settings_v1_check(const Request *request, const ClusterSettings *next, Error *err) {
        const Cluster *c = request_cluster(request);
        const ClusterSettings *now = cluster_settings(c);

        TRY(settings_check_name(next->name, err));
        TRY(settings_check_voters(c, request_level(request), next->voters, err));
        if ((next->restricted &&
             request_is_below(request, KV_LEVEL_ATTACHED, "restricted: a restricted host needs", err)) ||
            ((next->sticky || next->not_sticky) &&
             request_is_below(request, KV_LEVEL_SCHEDULING,
                              "sticky: units that stay where their data is need", err)))
                return -EBUSY;
        return streq(now->spread, next->spread) ? 0 : settings_check_spread(c, next->spread, err);
}

unsigned settings_handle(Request *request, Error *err) {
        Registry *registry = request->api->host->registry;
        const Cluster *c = registry_cluster(registry);
        ClusterSettings next = *cluster_settings(c);
        _cleanup_json_ JsonValue *root = NULL;
        int r;

        next.founder = false;
        r = json_value_parse(request->http->body, request->http->body_size, &root, err);
        r = r < 0 ? r : settings_v1_read(root, &next, err);
        r = r < 0 ? r : settings_v1_check(request, &next, err);
        if (r == -EBUSY)
                return 409;
        if (r < 0)
                return request_body_refused(r, err);
        if (cluster_has_unreadable(c, LAYOUT_SETTINGS))
                return error_set(err, 409, "settings of the cluster: %s", CLUSTER_UNREADABLE);
        if (request_is_below(request, KV_LEVEL_IDENTITY, "settings of the cluster require", err))
                return 409;
        return change_sent(
                request, "the settings",
                registry_set_settings(registry, &next, request_user(request), change_on_decided, request));
}
