/* The content of a unit from the tree of this host.
 *
 * All reads are in one turn of the loop, and so of one state of the tree. A listing ends at the limits of
 * what a unit may have (units/inputs.h): a path with more is a problem, and not read to its end. */
#include "fleetd/features/inputs/inputs_internal.h"

enum { RESOLVER_VISITS_MAX = 10000 }; /* keys and directories at one path, hidden ones included */

typedef struct ResolverListing {
        const char *path;
        size_t max, bytes_max;
        bool is_dir;
        InputNode *nodes; /* owned, as are their keys, each in one block with the value */
        size_t n, capacity, bytes, n_visited;
        Verdict problem; /* a limit is exceeded */
} ResolverListing;

struct ResolverValues {
        InputSecret secrets[INPUT_SECRETS_MAX];
        Names patterns; /* of the secrets */
        ResolverListing listings[2 * INPUT_PATHS_MAX];
        InputListing listed[2 * INPUT_PATHS_MAX]; /* the same, for content_build() */
        size_t n_secrets, n_listings;
};

ResolverValues *resolver_values_free(ResolverValues *v) {
        if (!v)
                return NULL;
        for (size_t i = 0; i < v->n_secrets; i++)
                if (v->secrets[i].value)
                        tls_secret_free((void *) v->secrets[i].value, v->secrets[i].size);
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

/* Set the problem of a path. Returns 0: a visit ends. */
static int resolver_refuse(ResolverListing *l, const char *why) {
        verdict_set(&l->problem, VERDICT_INPUT_INVALID, "%.*s" VERDICT_NEXT "%s", VERDICT_ARGS_SIZE / 2,
                    l->path, why);
        return 0;
}

static int resolver_exceeds(ResolverListing *l, size_t max, const char *of) {
        char why[64];

        snprintf(why, sizeof(why), "more than %zu %s", max, of);
        return resolver_refuse(l, why);
}

static int resolver_add(ResolverListing *l, const KvNode *node) {
        size_t size = node->key.size + 1;
        char *block;

        if (memchr(node->key.data, 0, node->key.size))
                return resolver_refuse(l, "a key with NUL");
        if (l->n == l->max)
                return resolver_exceeds(l, l->max, "keys");
        l->bytes += node->value.size;
        if (l->bytes > l->bytes_max)
                return resolver_exceeds(l, l->bytes_max, "bytes");
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

        if (++l->n_visited > RESOLVER_VISITS_MAX)
                return resolver_exceeds(l, RESOLVER_VISITS_MAX, "keys and directories");
        return node->dir || kv_path_hidden_from(node->key, kv_string(l->path)) ? 1 : resolver_add(l, node);
}

static int resolver_compare(const void *a, const void *b) {
        return strcmp(((const InputNode *) a)->key, ((const InputNode *) b)->key);
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
        if (l->n > 0)
                qsort(l->nodes, l->n, sizeof(*l->nodes), resolver_compare);
        ret->nodes = l->nodes;
        ret->n = l->n;
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

/* Read the value of a secret. One that is for other units does not stay in memory. */
static int resolver_open(const ComponentHost *host, ResolverValues *v, const char *name, const char *unit,
                         InputSecret *s, Verdict *ret_problem) {
        SecretRecord record = {};
        char *value = NULL;
        Error err = {};
        int r = secret_open(host, name, &record, &value, &err);

        if (r >= 0) {
                r = resolver_take_record(v, s, &record, unit);
                if (r >= 0 && s->is_for)
                        s->value = TAKE_PTR(value);
                if (value)
                        tls_secret_free(value, record.size);
                secret_record_done(&record);
                return r;
        }
        if (r != -EAGAIN && r != -ENOMEM && r != -ENOENT)
                verdict_set(ret_problem, VERDICT_SECRET_UNOPENED, "%s" VERDICT_NEXT "%.*s", name,
                            VERDICT_ARGS_SIZE / 2, error_text(&err, r));
        return r == -EAGAIN || r == -ENOMEM ? r : 0;
}

static int resolver_read_secrets(const ComponentHost *host, ResolverValues *v, const char *unit,
                                 const InputPolicy *policy, bool open, Verdict *ret_problem) {
        const Cluster *cluster = registry_cluster(host->registry);

        for (size_t i = 0; i < policy->secrets.n && ret_problem->code == VERDICT_NONE; i++) {
                const char *name = policy->secrets.items[i];
                const ClusterSecret *known = open ? NULL : cluster_secret(cluster, name);
                InputSecret *s = &v->secrets[v->n_secrets++];

                TRY(open ? resolver_open(host, v, name, unit, s, ret_problem) : 0);
                TRY(known ? resolver_take_record(v, s, &known->record, unit) : 0);
        }
        return 0;
}

static int resolver_read_paths(const ComponentHost *host, ResolverValues *v, const InputPolicy *policy,
                               Verdict *ret_problem) {
        const char *path;

        for (size_t i = 0; (path = input_policy_path(policy, i)) && ret_problem->code == VERDICT_NONE; i++) {
                bool is_file = i >= policy->environment.n;
                ResolverListing *l = &v->listings[v->n_listings];

                *l = (ResolverListing) { .path = path,
                                         .max = is_file ? INPUT_FILES_MAX : INPUT_VARIABLES_MAX,
                                         .bytes_max = is_file ? INPUT_FILES_SIZE_MAX :
                                                                INPUT_VARIABLES_SIZE_MAX };
                TRY(resolver_list(host, l, &v->listed[v->n_listings++]));
                *ret_problem = l->problem;
        }
        return 0;
}

int resolver_read(const ComponentHost *host, const char *unit, const InputPolicy *policy, bool open,
                  Resolved *ret, ResolverValues **ret_values) {
        _cleanup_(resolver_values_freep) ResolverValues *v = NEW0(ResolverValues, 1);
        Resolved resolved = { .index = kv_index(host->store) };
        Verdict problem = {};

        if (!v)
                return -ENOMEM;
        TRY(resolver_read_secrets(host, v, unit, policy, open, &problem));
        TRY(resolver_read_paths(host, v, policy, &problem));
        if (problem.code != VERDICT_NONE)
                resolved.content.problem = problem;
        else
                TRY(content_build(policy, unit,
                                  &(InputValues) { .secrets = v->secrets,
                                                   .environment = v->listed,
                                                   .files = v->listed + policy->environment.n },
                                  &resolved.content));
        *ret = resolved;
        *ret_values = TAKE_PTR(v);
        return 0;
}
