/* The inputs of a unit, as a text with an option or a key in each line, become its content:
 *
 *   SNAME  EPATH  FPATH    values of Secret=, EnvironmentKeys=, ConfigKeys=
 *   KKEY=VALUE             a key of the store; in VALUE, a vertical tab is a NUL, a form feed a newline
 *
 * The same inputs give the same content. What a parser of systemd, or of podman, reads from the environment
 * is the value of each variable. Files fit into one folder. */

#include "fleetd/features/inputs/content.h"
#include "kvstore/kvstore.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum { KEYS_MAX = 64 };

typedef struct Inputs {
        InputPolicy policy;
        InputNode keys[KEYS_MAX]; /* owned; sorted */
        size_t n_keys;
        InputSecret secrets[INPUT_SECRETS_MAX];
        InputListing environment[INPUT_PATHS_MAX], files[INPUT_PATHS_MAX]; /* nodes: parts of 'keys' */
} Inputs;

static int compare_keys(const void *a, const void *b) {
        return strcmp(((const InputNode *) a)->key, ((const InputNode *) b)->key);
}

static void add_key(Inputs *in, char *line) {
        char *value = strchr(line, '='), *key;
        size_t size;

        if (!value || in->n_keys == KEYS_MAX)
                return;
        if (kv_path_clean(line, (size_t) (value - line), &key, &size) < 0)
                return;
        value = strdup(value + 1);
        assert(value);
        in->keys[in->n_keys++] = (InputNode) { key, value, strlen(value) };
        for (; *value; value++)
                *value = *value == '\v' ? 0 : *value == '\f' ? '\n' : *value;
}

static void add_line(Inputs *in, char *line) {
        if (*line == 'S')
                (void) input_policy_add_secret(&in->policy, line + 1, NULL);
        if (*line == 'E')
                (void) input_policy_add_environment(&in->policy, line + 1, NULL);
        if (*line == 'F')
                (void) input_policy_add_files(&in->policy, line + 1, NULL);
        if (*line == 'K')
                add_key(in, line + 1);
}

/* Keys below a path are no neighbours if another one is between them ("/a", "/a-", "/a/b"): copy them. */
static InputListing list_path(const Inputs *in, const char *path) {
        InputNode *nodes = NEW0(InputNode, KEYS_MAX);
        InputListing listing = { .nodes = nodes };

        assert(nodes);
        for (size_t i = 0; i < in->n_keys; i++)
                if (streq(in->keys[i].key, path) ||
                    kv_path_is_below(kv_string(in->keys[i].key), kv_string(path)))
                        nodes[listing.n++] = in->keys[i];
        listing.exists = listing.n > 0;
        return listing;
}

static void list_all(const Inputs *in, const Names *paths, InputListing *ret) {
        bool optional;

        for (size_t i = 0; i < paths->n; i++)
                ret[i] = list_path(in, input_path(paths->items[i], &optional));
}

static void inputs_done(Inputs *in) {
        for (size_t i = 0; i < in->n_keys; i++) {
                free((void *) in->keys[i].key);
                free((void *) in->keys[i].value);
        }
        for (size_t i = 0; i < INPUT_PATHS_MAX; i++) {
                free((void *) in->environment[i].nodes);
                free((void *) in->files[i].nodes);
        }
        input_policy_done(&in->policy);
}

/* Read one variable as systemd.exec(5) states for EnvironmentFile=; return where the next one begins. */
static const char *read_quoted(const char *p, Text *name, Text *value) {
        for (; *p != '='; p++)
                text_append_char(name, *p);
        assert(*++p == '"');
        for (p++; *p != '"'; p++) {
                assert(*p);
                if (*p == '\\' && strchr("\"\\`$", p[1]))
                        p++;
                text_append_char(value, *p);
        }
        assert(p[1] == '\n');
        return p + 2;
}

/* The same as podman reads it: up to the end of the line, without a carriage return there. */
static const char *read_plain(const char *p, Text *name, Text *value) {
        const char *equals = strchr(p, '='), *end = strchr(p, '\n');

        assert(equals && end && equals < end);
        text_append_bytes(name, p, (size_t) (equals - p));
        p = end + 1;
        end -= end[-1] == '\r';
        text_append_bytes(value, equals + 1, (size_t) (end - equals - 1));
        return p;
}

static void check_environment(const Content *c, bool container) {
        _cleanup_text_ Text t = {};
        const char *p;

        content_append_environment(&t, c, container);
        p = text_chars(&t);
        for (size_t i = 0; i < c->n_variables; i++) {
                const ContentItem *v = &c->variables[i];
                _cleanup_text_ Text name = {}, value = {};

                p = container ? read_plain(p, &name, &value) : read_quoted(p, &name, &value);
                assert(streq(text_chars(&name), v->name));
                assert(value.size == v->size &&
                       (v->size == 0 || memcmp(value.chars, v->value, v->size) == 0));
                assert(v->name[0] &&
                       strspn(v->name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == strlen(v->name));
                assert((v->name[0] < '0' || v->name[0] > '9') && !starts_with(v->name, "LD_"));
                assert(i == 0 || strcmp(v[-1].name, v->name) < 0);
        }
        assert(!*p);
}

static void check_files(const Content *c) {
        for (size_t i = 0; i < c->n_files; i++) {
                const char *name = c->files[i].name;

                for (const char *p = name; p; p = strchr(p, '/') ? strchr(p, '/') + 1 : NULL) {
                        size_t size = strcspn(p, "/");

                        assert(size > 0 && size <= INPUT_FILE_NAME_MAX);
                        assert(!(size <= 2 && strspn(p, ".") == size));
                }
                for (size_t k = 0; k < c->n_files; k++) {
                        size_t size = strlen(c->files[k].name);

                        assert(k == i || strncmp(name, c->files[k].name, size) != 0 ||
                               (name[size] && name[size] != '/'));
                }
        }
}

static void check(const Inputs *in) {
        const InputValues values = { in->secrets, in->environment, in->files };
        _cleanup_content_ Content c = {}, again = {};
        _cleanup_text_ Text message = {};

        assert(content_build(&in->policy, "a.service", &values, &c) == 0);
        assert(content_build(&in->policy, "a.service", &values, &again) == 0);
        assert(streq(c.digest, again.digest) && verdict_equal(&c.problem, &again.problem));
        verdict_append(&message, &c.problem);
        if (c.problem.code != VERDICT_NONE) {
                assert(message.size > 0 && !c.digest[0]);
                assert(c.n_credentials + c.n_variables + c.n_files == 0);
                return;
        }
        assert(strlen(c.digest) == UNIT_HASH_SIZE - 1 && c.n_credentials == in->policy.secrets.n);
        check_environment(&c, false);
        check_environment(&c, true);
        check_files(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        _cleanup_(inputs_done) Inputs in = {};
        _cleanup_free_ char *text = strndup((const char *) bytes, size);
        char *rest = text, *line;

        assert(text);
        while ((line = strsep(&rest, "\n")))
                add_line(&in, line);
        qsort(in.keys, in.n_keys, sizeof(*in.keys), compare_keys);
        list_all(&in, &in.policy.environment, in.environment);
        list_all(&in, &in.policy.files, in.files);
        for (size_t i = 0; i < in.policy.secrets.n; i++) /* "S0": not set; "S1": of others */
                in.secrets[i] = (InputSecret) { .version = in.policy.secrets.items[i][0] != '0',
                                                .is_for = in.policy.secrets.items[i][0] != '1' };
        check(&in);
        return 0;
}
