/* The content of a unit from the tree of this host.
 *
 * All reads are in one turn of the loop, and so of one state of the tree. A listing ends at the limits of
 * what a unit may have (units/inputs.h): a path with more is a problem, and not read to its end. Files of all
 * paths have one limit; of variables each path has its own, as later paths replace those of earlier ones. */
#include "fleetd/features/inputs/inputs_internal.h"

enum { RESOLVER_VISITS_MAX = 10000 }; /* keys and directories at all paths, hidden ones included */

typedef struct ResolverListing {
        const char *path;
        size_t max, bytes_max, visits_max;
        bool is_dir, is_of_files;
        InputNode *nodes; /* owned, as are their keys, each in one block with the value */
        size_t n, capacity, bytes, n_visited;
        const char *refused;
} ResolverListing;

struct ResolverValues {
        InputSecret secrets[INPUT_SECRETS_MAX];
        Names patterns; /* of the secrets */
        ResolverListing listings[2 * INPUT_PATHS_MAX];
        InputListing listed[2 * INPUT_PATHS_MAX]; /* the same, for content_build() */
        size_t n_secrets, n_listings;
        Verdict problem; /* a secret that cannot be opened */
};

ResolverValues *resolver_values_free(ResolverValues *v) {
        if (!v)
                return NULL;
        for (size_t i = 0; i < v->n_secrets; i++)
                (void) tls_secret_free((void *) v->secrets[i].value, v->secrets[i].size);
        for (size_t i = 0; i < v->n_listings; i++) {
                for (size_t k = 0; k < v->listings[i].n; k++)
                        free((void *) v->listings[i].nodes[k].key);
                free(v->listings[i].nodes);
        }
        names_done(&v->patterns);
        free(v);
        return NULL;
}

DEFINE_CLEANUP(ResolverValues *, resolver_values_free)

/* Return 0: a visit ends. */
static int resolver_refuse(ResolverListing *l, const char *why) {
        l->refused = why;
        return 0;
}

static int resolver_add(ResolverListing *l, const KvNode *node) {
        size_t size = node->key.size + 1;
        char *block;

        if (memchr(node->key.data, 0, node->key.size))
                return resolver_refuse(l, "a key with NUL");
        l->bytes += node->value.size;
        if (l->n == l->max || l->bytes > l->bytes_max)
                return resolver_refuse(l, "more keys or bytes than a unit may have");
        block = malloc(size + node->value.size);
        if (!block || GROW(l->nodes, l->capacity, l->n + 1) < 0) {
                free(block);
                return -ENOMEM;
        }
        memcpy(block, node->key.data, size - 1);
        block[size - 1] = 0;
        if (node->value.size > 0)
                memcpy(block + size, node->value.data, node->value.size);
        l->nodes[l->n++] = (InputNode) { block, block + size, node->value.size };
        return 1;
}

/* The node of the path itself has no key. */
static int resolver_on_path(void *userdata, const KvNode *node) {
        ResolverListing *l = userdata;
        KvNode found = *node;

        l->is_dir = node->dir;
        found.key = kv_string(l->path);
        return node->dir ? 1 : resolver_add(l, &found);
}

static int resolver_on_node(void *userdata, const KvNode *node) {
        ResolverListing *l = userdata;

        if (++l->n_visited > l->visits_max)
                return resolver_refuse(l, "too many keys and directories");
        return node->dir || kv_path_hidden_from(node->key, kv_string(l->path)) ? 1 : resolver_add(l, node);
}

static int resolver_list(const ComponentHost *host, ResolverListing *l, InputListing *ret) {
        const KvRange range = { .key = kv_string(l->path), .recursive = true };
        int r = kv_local_get(host->store, range.key, resolver_on_path, l);

        ret->exists = r >= 0;
        if (r >= 0 && l->is_dir)
                r = kv_local_walk(host->store, &range, resolver_on_node, l);
        loop_count(host->io.loop, 1 + l->n_visited, l->bytes);
        if (r < 0 && r != -ENOENT)
                return r == -ENOMEM ? r : -EAGAIN;
        ret->nodes = l->nodes;
        ret->n = l->n;
        ret->refused = l->refused;
        return 0;
}

/* Set what the unit knows of a secret from its record. The patterns are for messages. */
static int resolver_take_record(ResolverValues *v, InputSecret *s, const SecretRecord *record,
                                const char *unit) {
        _cleanup_text_ Text t = {};

        s->version = record->version;
        s->set_ms = record->set_ms;
        s->size = record->size;
        s->is_for = secret_is_for(record, unit);
        for (size_t i = 0; i < record->n_units; i++)
                text_printf(&t, "%s%s", i > 0 ? " " : "", record->units[i]);
        if (t.error < 0 || names_add(&v->patterns, text_chars(&t), t.size) < 0)
                return -ENOMEM;
        s->units = v->patterns.items[v->patterns.n - 1];
        return 0;
}

static int resolver_read_secret(const ComponentHost *host, ResolverValues *v, const char *name,
                                const char *unit, bool open) {
        const ClusterSecret *known = open ? NULL : cluster_secret(registry_cluster(host->registry), name);
        InputSecret *s = &v->secrets[v->n_secrets++];
        SecretRecord opened = {};
        char *value = NULL;
        Error err = {};
        int r;

        if (!open)
                return known ? resolver_take_record(v, s, &known->record, unit) : 0;
        r = secret_open(host, name, &opened, &value, &err);
        if (r >= 0) {
                s->value = value;
                r = resolver_take_record(v, s, &opened, unit);
                secret_record_done(&opened);
        } else if (r != -EAGAIN && r != -ENOMEM && r != -ENOENT)
                verdict_set(&v->problem, VERDICT_SECRET_UNOPENED, "%s" VERDICT_NEXT "%.*s", name,
                            VERDICT_ARGS_SIZE / 2, error_text(&err, r));
        return r == -EAGAIN || r == -ENOMEM ? r : 0;
}

static int resolver_read_path(const ComponentHost *host, ResolverValues *v, const char *path, bool is_file) {
        ResolverListing *l = &v->listings[v->n_listings];

        *l = (ResolverListing) { .path = path,
                                 .max = is_file ? INPUT_FILES_MAX : INPUT_VARIABLES_MAX,
                                 .bytes_max = is_file ? INPUT_FILES_SIZE_MAX : INPUT_VARIABLES_SIZE_MAX,
                                 .visits_max = RESOLVER_VISITS_MAX,
                                 .is_of_files = is_file };
        for (const ResolverListing *before = v->listings; before < l; before++) {
                l->visits_max -= MIN(l->visits_max, before->n_visited);
                if (is_file && before->is_of_files) {
                        l->max -= before->n;
                        l->bytes_max -= MIN(l->bytes_max, before->bytes);
                }
        }
        return resolver_list(host, l, &v->listed[v->n_listings++]);
}

int resolver_read(const ComponentHost *host, const char *unit, const InputPolicy *policy, bool open,
                  Resolved *ret, ResolverValues **ret_values) {
        _cleanup_(resolver_values_freep) ResolverValues *v = NEW0(ResolverValues, 1);
        Resolved resolved = { .index = kv_index(host->store) };
        const char *path;

        if (!v)
                return -ENOMEM;
        for (size_t i = 0; i < policy->secrets.n && v->problem.code == VERDICT_NONE; i++)
                TRY(resolver_read_secret(host, v, policy->secrets.items[i], unit, open));
        for (size_t i = 0; (path = input_policy_path(policy, i)); i++)
                TRY(resolver_read_path(host, v, path, i >= policy->environment.n));
        resolved.content.problem = v->problem;
        if (v->problem.code == VERDICT_NONE)
                TRY(content_build(policy, unit,
                                  &(InputValues) { .secrets = v->secrets,
                                                   .environment = v->listed,
                                                   .files = v->listed + policy->environment.n },
                                  &resolved.content));
        *ret = resolved;
        *ret_values = TAKE_PTR(v);
        return 0;
}
