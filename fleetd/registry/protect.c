#include "fleetd/registry/protect.h"

#include "fleetd/registry/revision_view.h"

/* What is above a path is filed with a '/' at its end, which no path has. The root is not filed: the store
 * rejects its changes. */
static int protect_file_one(Cluster *c, ClusterRule rule, ClusterUnit *u, const char *text, bool add) {
        Patterns *paths = &c->rules[rule];

        c->filed.nodes++;
        if (add)
                return patterns_add(paths, text, u);
        c->filed.bytes += sizeof(u) * patterns_remove(paths, text, u);
        return 0;
}

int protect_file(Cluster *c, ClusterRule rule, ClusterUnit *u, const InputPolicy *inputs, bool add) {
        const char *path;

        for (size_t i = 0; (path = input_policy_protected(inputs, i)); i++) {
                char above[INPUT_PATH_MAX + 1];

                TRY(protect_file_one(c, rule, u, path, add));
                for (const char *end = path; (end = strchr(end + 1, '/'));) {
                        snprintf(above, sizeof(above), "%.*s", (int) (end + 1 - path), path);
                        TRY(protect_file_one(c, rule, u, above, add));
                }
        }
        return 0;
}

/* Return the entry of the key, of a directory above it, or of what is above a path. */
static const Pattern *protect_find(const Patterns *paths, KvBytes key) {
        const char *bytes = key.data;
        const Pattern *found = NULL;
        char text[INPUT_PATH_MAX];

        for (size_t size = 1; !found && size <= key.size && size <= INPUT_PATH_MAX; size++)
                if (size == key.size || bytes[size] == '/')
                        found = patterns_find_bytes(paths, bytes, size);
        if (found || key.size >= sizeof(text))
                return found;
        memcpy(text, bytes, key.size);
        text[key.size] = '/';
        return patterns_find_bytes(paths, text, key.size + 1);
}

/* Who reads a key, what is above it, or below it. */
typedef struct Protected {
        const ClusterUnit *unit; /* NULL: none */
        uint64_t number;         /* of its stored text; 0: its present one */
        const char *path;
} Protected;

static bool protect_has(const InputPolicy *inputs, KvBytes key, const char **ret_path) {
        const char *path;

        for (size_t i = 0; inputs && (path = input_policy_protected(inputs, i)); i++) {
                KvBytes p = kv_string(path);

                *ret_path = path;
                if (kv_bytes_equal(key, p) || kv_path_is_below(key, p) || kv_path_is_below(p, key))
                        return true;
        }
        return false;
}

static bool protect_in_revision(const ClusterUnit *u, uint64_t number, KvBytes key, Protected *ret) {
        const ClusterRevision *x = u ? cluster_revision(u, number) : NULL;

        if (!x || !protect_has(x->inputs, key, &ret->path))
                return false;
        ret->unit = u;
        ret->number = number;
        return true;
}

/* Of stored texts, those count that an instance has, or that a rollout may return to. */
static void protect_in_former(const Cluster *c, KvBytes key, Protected *ret) {
        const ClusterAssignment *a;
        const ClusterUnit *u;

        LIST_FOREACH(u, &c->lists[CLUSTER_FORMER], lists[CLUSTER_FORMER])
                LIST_FOREACH(a, &u->assignments, of_unit)
                        if (cluster_assignment_is_active(a) && cluster_assignment_has_former_text(a) &&
                            protect_in_revision(u->unit->from ? cluster_any_unit(c, u->unit->from) : u,
                                                a->revision, key, ret))
                                return;
        LIST_FOREACH(u, &c->lists[CLUSTER_ROLLING], lists[CLUSTER_ROLLING])
                if (protect_in_revision(u, u->rollout->from.number, key, ret) ||
                    protect_in_revision(u, u->rollout->completed.number, key, ret))
                        return;
}

static void protect_search(const Cluster *c, KvBytes key, Protected *ret) {
        const Pattern *found = protect_find(&c->rules[CLUSTER_PATHS], key);

        if (found) {
                ret->unit = found->units[0];
                (void) protect_has(&ret->unit->unit->placement.inputs, key, &ret->path);
        } else if (protect_find(&c->rules[CLUSTER_FORMER_PATHS], key))
                protect_in_former(c, key, ret);
}

int inputs_check_write(const Cluster *c, const Principal *principal, bool is_restricted, const KvCommand *cmd,
                       Error *err) {
        const KvCommand *writes = cmd->op == KV_TXN ? cmd->writes : cmd;
        size_t n = cmd->op == KV_TXN ? cmd->n_writes : 1;
        Protected found = {};
        char number[TEXT_U64_SIZE + 16] = "";
        const ClusterUnit *u;

        if (cmd->internal || c->level < KV_LEVEL_INPUTS || inputs_permits(principal, is_restricted))
                return 0;
        for (size_t i = 0; i < n && !found.unit; i++)
                protect_search(c, writes[i].key, &found);
        u = found.unit;
        if (!u)
                return 0;
        if (found.number > 0)
                snprintf(number, sizeof(number), ", revision %" PRIu64 ",", found.number);
        return error_set(err, -EPERM,
                         "%s%s reads %s: write it by fleetctl as root or group fleet, or with keys-write:%s",
                         u->unit && u->unit->from ? u->unit->from : u->name, number, found.path, found.path);
}
