#include "fleetd/registry/protect.h"

/* What is above a path is filed with a '/' at its end, which no path has. The root is not filed: the store
 * rejects its changes. */
static int protect_file_one(Cluster *c, ClusterUnit *u, const char *text, bool add) {
        Patterns *paths = &c->rules[CLUSTER_PATHS];

        c->filed.nodes++;
        if (add)
                return patterns_add(paths, text, u);
        c->filed.bytes += sizeof(u) * patterns_remove(paths, text, u);
        return 0;
}

int protect_file(Cluster *c, ClusterUnit *u, bool add) {
        const char *path;

        for (size_t i = 0; (path = input_policy_protected(&u->unit->placement.inputs, i)); i++) {
                char above[INPUT_PATH_MAX + 1];

                TRY(protect_file_one(c, u, path, add));
                for (const char *end = path; (end = strchr(end + 1, '/'));) {
                        snprintf(above, sizeof(above), "%.*s", (int) (end + 1 - path), path);
                        TRY(protect_file_one(c, u, above, add));
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

int inputs_check_write(const Cluster *c, const Principal *principal, bool is_restricted, const KvCommand *cmd,
                       Error *err) {
        const KvCommand *writes = cmd->op == KV_TXN ? cmd->writes : cmd;
        size_t n = cmd->op == KV_TXN ? cmd->n_writes : 1;
        const Pattern *found = NULL;
        const char *path = NULL;
        const Unit *unit;

        if (cmd->internal || c->level < KV_LEVEL_INPUTS || inputs_permits(principal, is_restricted))
                return 0;
        for (size_t i = 0; i < n && !found; i++)
                found = protect_find(&c->rules[CLUSTER_PATHS], writes[i].key);
        if (!found)
                return 0;
        unit = found->units[0]->unit;
        n = strlen(found->text);
        for (size_t i = 0; (path = input_policy_protected(&unit->placement.inputs, i)); i++)
                if (starts_with(path, found->text) && (!path[n] || found->text[n - 1] == '/'))
                        break;
        return error_set(err, -EPERM,
                         "%s reads %s: write it by fleetctl as root or group fleet, or with keys-write:%s",
                         unit->from ?: unit->name, path, path);
}
