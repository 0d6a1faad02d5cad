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

        for (size_t i = 0; (path = input_policy_path(&u->unit->placement.inputs, i)); i++) {
                char above[INPUT_PATH_MAX + 1];

                TRY(protect_file_one(c, u, path, add));
                for (const char *end = path; (end = strchr(end + 1, '/'));) {
                        snprintf(above, sizeof(above), "%.*s", (int) (end + 1 - path), path);
                        TRY(protect_file_one(c, u, above, add));
                }
        }
        return 0;
}

/* Return the entry of the key, or of a directory above it. */
static const Pattern *protect_find(const Patterns *paths, KvBytes key) {
        const char *bytes = key.data;

        for (size_t size = 1; size <= key.size && size <= INPUT_PATH_MAX; size++) {
                const Pattern *found = size == key.size || bytes[size] == '/' ?
                                               patterns_find_bytes(paths, bytes, size) :
                                               NULL;

                if (found)
                        return found;
        }
        return NULL;
}

/* Return the entry of what is above a path, if that is the key. */
static const Pattern *protect_find_below(const Patterns *paths, KvBytes key) {
        char text[INPUT_PATH_MAX];

        if (key.size >= sizeof(text))
                return NULL;
        memcpy(text, key.data, key.size);
        text[key.size] = '/';
        return patterns_find_bytes(paths, text, key.size + 1);
}

bool inputs_protects(const Cluster *c, KvBytes key, ProtectedPath *ret) {
        const Patterns *paths = &c->rules[CLUSTER_PATHS];
        const Pattern *found;
        const Unit *unit;
        const char *path;

        if (!paths->all || key.size == 0)
                return false;
        found = protect_find(paths, key) ?: protect_find_below(paths, key);
        if (!found)
                return false;
        unit = found->units[0]->unit;
        /* Of an entry with '/' at its end, the path that begins with it. */
        for (size_t i = 0; (path = input_policy_path(&unit->placement.inputs, i)); i++)
                if (streq(path, found->text) ||
                    (found->text[strlen(found->text) - 1] == '/' && starts_with(path, found->text)))
                        break;
        *ret = (ProtectedPath) { unit->from ?: unit->name, path };
        return true;
}

int inputs_check_write(const Cluster *c, const Principal *principal, bool is_restricted, const KvCommand *cmd,
                       Error *err) {
        const KvCommand *writes = cmd->op == KV_TXN ? cmd->writes : cmd;
        size_t n = cmd->op == KV_TXN ? cmd->n_writes : 1;
        ProtectedPath p;

        if (cmd->internal || c->level < KV_LEVEL_INPUTS || inputs_permits(principal, is_restricted))
                return 0;
        for (size_t i = 0; i < n; i++)
                if (inputs_protects(c, writes[i].key, &p))
                        return error_set(err, -EPERM,
                                         "%s reads %s: write it by fleetctl as root or group fleet, or with "
                                         "keys-write:%s",
                                         p.unit, p.path, p.path);
        return 0;
}
