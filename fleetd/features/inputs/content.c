#include "fleetd/features/inputs/content.h"

#include <ctype.h>

#include "kvstore/kvstore.h"

static void content_lists_done(Content *c) {
        for (size_t l = 0; l < CONTENT_LISTS; l++) {
                for (size_t i = 0; i < c->n[l]; i++)
                        free((void *) c->lists[l][i].name);
                free(TAKE_PTR(c->lists[l]));
                c->n[l] = 0;
        }
}

void content_done(Content *content) {
        content_lists_done(content);
        *content = (Content) {};
}

/* Set the problem with up to three arguments, each of which is cut to its part of the verdict. -EINVAL, or
 * -ENOMEM. */
static int content_refuse(Content *c, VerdictCode code, const char *one, const char *two, const char *three) {
        const char *const args[] = { one, two, three };
        size_t n = 1u + (two != NULL) + (three != NULL);
        _cleanup_text_ Text all = {};
        char part[VERDICT_ARGS_SIZE];

        for (size_t i = 0; i < n; i++) {
                _cleanup_text_ Text shown = {};

                text_append_printable(&shown, args[i]); /* also a key of any bytes */
                TRY(shown.error);
                text_format(part, (sizeof(part) - n) / n, "%s", text_chars(&shown));
                text_append(&all, i > 0 ? VERDICT_NEXT : "");
                text_append(&all, part);
        }
        TRY(all.error);
        verdict_set(&c->problem, code, "%s", all.chars);
        c->waits = code == VERDICT_AWAITS_SECRET || code == VERDICT_AWAITS_KEYS;
        return -EINVAL;
}

static int content_refuse_sum(Content *c, const char *option, size_t max, const char *of) {
        char why[64];

        snprintf(why, sizeof(why), "more than %zu %s", max, of);
        return content_refuse(c, VERDICT_INPUT_INVALID, option, why, NULL);
}

/* Append a string with its terminating byte, so that no two lists of strings have equal bytes. */
static void content_digest(Text *t, const char *s) {
        text_append_bytes(t, s, strlen(s) + 1);
}

static int content_take_secrets(Content *c, const InputPolicy *policy, const char *unit,
                                const InputSecret *secrets, Text *digest) {
        char number[TEXT_U64_SIZE];
        size_t size = 0;

        c->credentials = NEW0(ContentItem, policy->secrets.n + 1);
        if (!c->credentials)
                return -ENOMEM;
        for (size_t i = 0; i < policy->secrets.n; i++) {
                const char *name = policy->secrets.items[i], *credential = policy->credentials.items[i];
                const InputSecret *s = &secrets[i];
                ContentItem *item = &c->credentials[i];

                if (s->version == 0)
                        return content_refuse(c, VERDICT_AWAITS_SECRET, name, NULL, NULL);
                if (!s->is_for)
                        return content_refuse(c, VERDICT_SECRET_OF_OTHERS, name, unit, s->units ?: "others");
                size += s->size;
                if (size > INPUT_SECRETS_SIZE_MAX)
                        return content_refuse_sum(c, "Secret=", INPUT_SECRETS_SIZE_MAX, "bytes");

                *item = (ContentItem) { strdup(credential), s->value, s->size };
                if (!item->name)
                        return -ENOMEM;
                c->n_credentials++;
                content_digest(digest, name);
                content_digest(digest, credential);
                content_digest(digest, text_u64(s->version, number));
                content_digest(digest, text_u64(s->set_ms, number)); /* a version begins again after "rm" */
        }
        return 0;
}

/* What one option gives: variables, or files. */
typedef struct ContentKeys {
        const char *option, *of;          /* for messages: "EnvironmentKeys=", "variables" */
        const Names *paths, *directories; /* the latter NULL: variables */
        const InputListing *listings;
        size_t max, size_max;
        ContentItem **items; /* the list of the content */
        size_t *n, capacity;
} ContentKeys;

/* The key below its path; the last component of a path that is a key itself. */
static const char *content_remaining(const char *key, const char *path) {
        size_t size = strlen(path);

        assert(strncmp(key, path, size) == 0 && (!key[size] || key[size] == '/'));
        return key[size] ? key + size + 1 : strrchr(key, '/') + 1;
}

/* Variables whose value is code, or the place of code, for the loader, the C library, a shell or an
 * interpreter; and those of the service manager and of fleet. Others, as MALLOC_* and TMPDIR, tune a program.
 */
static bool variable_is_rejected(const char *name) {
        static const char *const prefixes[] = { "LD_",    "BASH_",   "PYTHON",    "PERL5",
                                                "FLEET_", "LISTEN_", "WATCHDOG_", "LUA_INIT" };

        for (size_t i = 0; i < ELEMENTS(prefixes); i++)
                if (starts_with(name, prefixes[i]))
                        return true;
        return text_has_word("PATH IFS ENV SHELLOPTS BASHOPTS PS4 GCONV_PATH GLIBC_TUNABLES NODE_OPTIONS "
                             "NODE_PATH PERLLIB RUBYOPT RUBYLIB JAVA_TOOL_OPTIONS _JAVA_OPTIONS "
                             "JDK_JAVA_OPTIONS CREDENTIALS_DIRECTORY NOTIFY_SOCKET MAINPID INVOCATION_ID",
                             name);
}

/* Return whether valid UTF-8 has a noncharacter, with which systemd rejects the whole file: U+FDD0 to U+FDEF,
 * and the last two code points of each plane. */
static bool utf8_has_noncharacter(const uint8_t *p, size_t size) {
        for (const uint8_t *end = p + size; p + 2 < end; p += utf8_length(p, (size_t) (end - p))) {
                if (p[0] == 0xef && p[1] == 0xb7 && p[2] >= 0x90 && p[2] <= 0xaf)
                        return true;
                if (p[0] == 0xef && p[1] == 0xbf && p[2] >= 0xbe)
                        return true;
                if (p[0] >= 0xf0 && (p[1] & 0xf) == 0xf && p[2] == 0xbf && p[3] >= 0xbe)
                        return true;
        }
        return false;
}

/* Return why the value is none of a variable; NULL: it is one. */
static const char *variable_refusal(const char *name, const InputNode *node) {
        const char *value = node->value;

        if (isdigit((unsigned char) *name))
                return "a variable cannot begin with a digit";
        if (node->size > INPUT_VARIABLE_SIZE_MAX)
                return "the value of a variable has at most 32 KiB";
        if (node->size == 0)
                return NULL;
        if (!text_is_plain(value, node->size))
                return "the value of a variable is UTF-8 without NUL";
        if (memchr(value, '\n', node->size))
                return "the value of a variable is one line";
        if (value[node->size - 1] == '\r') /* podman cuts it */
                return "the value of a variable cannot end with a carriage return";
        return utf8_has_noncharacter(node->value, node->size) ?
                       "systemd reads no variable with a Unicode noncharacter" :
                       NULL;
}

static int content_name_variable(Content *c, const InputNode *node, const char *rest, char **ret) {
        _cleanup_free_ char *name = strdup(rest);
        const char *why;

        if (!name)
                return -ENOMEM;
        for (char *p = name; *p; p++)
                *p = isalnum((unsigned char) *p) ? (char) toupper((unsigned char) *p) : '_';
        if (variable_is_rejected(name))
                return content_refuse(c, VERDICT_VARIABLE_REJECTED, node->key, name, NULL);
        why = variable_refusal(name, node);
        if (why)
                return content_refuse(c, VERDICT_INPUT_INVALID, node->key, why, NULL);
        *ret = TAKE_PTR(name);
        return 0;
}

bool input_file_is_valid(const char *name) {
        if (strlen(name) > INPUT_FILE_PATH_MAX)
                return false;
        for (size_t n;; name += n + 1) {
                n = strcspn(name, "/");
                if (n == 0 || n > INPUT_FILE_NAME_MAX || (n <= 2 && strspn(name, ".") >= n))
                        return false;
                if (!name[n])
                        return true;
        }
}

static int content_name_file(Content *c, const InputNode *node, const char *directory, const char *rest,
                             char **ret) {
        if (asprintf(ret, "%s%s%s", directory, *directory ? "/" : "", rest) < 0)
                return -ENOMEM;
        if (input_file_is_valid(*ret))
                return 0;
        free(*ret);
        return content_refuse(
                c, VERDICT_INPUT_INVALID, node->key,
                "a file is named by 1 to 255 bytes, with its folders 1024, and not \".\" or \"..\"", NULL);
}

/* Add all keys of one path. */
static int content_take_path(Content *c, ContentKeys *k, size_t i, Text *digest) {
        const InputListing *listing = &k->listings[i];
        const char *directory = k->directories ? k->directories->items[i] : "";
        bool optional;
        const char *path = input_path(k->paths->items[i], &optional);

        if (!listing->exists && !optional)
                return content_refuse(c, VERDICT_AWAITS_KEYS, path, NULL, NULL);
        if (listing->refused)
                return content_refuse(c, VERDICT_INPUT_INVALID, path, listing->refused, NULL);
        content_digest(digest, k->option);
        content_digest(digest, path);
        content_digest(digest, directory);
        for (size_t j = 0; j < listing->n; j++) {
                const InputNode *node = &listing->nodes[j];
                const char *rest = content_remaining(node->key, path);
                char value[SHA256_SIZE], *name;

                if (kv_path_hidden_from(kv_string(node->key), kv_string(path)))
                        continue;
                if (GROW(*k->items, k->capacity, *k->n + 1) < 0)
                        return -ENOMEM;
                TRY(k->directories ? content_name_file(c, node, directory, rest, &name) :
                                     content_name_variable(c, node, rest, &name));
                (*k->items)[(*k->n)++] = (ContentItem) { name, node->value, node->size, node, i };
                TRY(bytes_sha256(node->value, node->size, value));
                content_digest(digest, node->key);
                content_digest(digest, value);
        }
        return digest->error;
}

/* By name, '/' before all other bytes, so that a file is followed by those in a folder of its name; then in
 * the order of the options. */
static int content_compare(const void *a, const void *b) {
        const ContentItem *x = a, *y = b;
        const unsigned char *s = (const unsigned char *) x->name, *t = (const unsigned char *) y->name;

        for (; *s && *s == *t; s++)
                t++;
        if (*s != *t)
                return (*s == '/' ? 1 : *s + (*s > 0)) - (*t == '/' ? 1 : *t + (*t > 0));
        if (x->path != y->path)
                return x->path < y->path ? -1 : 1;
        return x->node < y->node ? -1 : x->node > y->node;
}

/* Check two entries that are neighbours in that order. */
static int content_check_names(Content *c, const ContentKeys *k, const ContentItem *a, const ContentItem *b) {
        size_t size = strlen(a->name);
        char why[VERDICT_ARGS_SIZE];

        if (streq(a->name, b->name) && (k->directories || a->path == b->path))
                return content_refuse(c, VERDICT_INPUTS_COLLIDE, a->node->key, b->node->key, a->name);
        if (!k->directories || strncmp(a->name, b->name, size) != 0 || b->name[size] != '/')
                return 0;
        snprintf(why, sizeof(why), "its file is a folder for %s", b->node->key);
        return content_refuse(c, VERDICT_INPUT_INVALID, a->node->key, why, NULL);
}

/* Fill the list by the keys of all paths; of variables with one name, with the last one. */
static int content_take_keys(Content *c, ContentKeys *k, Text *digest) {
        size_t size = 0, kept = 0;

        for (size_t i = 0; i < k->paths->n; i++)
                TRY(content_take_path(c, k, i, digest));
        if (*k->n > 0)
                qsort(*k->items, *k->n, sizeof(**k->items), content_compare);
        for (size_t i = 0; i < *k->n; i++) {
                ContentItem *place = &(*k->items)[i], *next = i + 1 < *k->n ? place + 1 : NULL, item = *place;

                TRY(next ? content_check_names(c, k, place, next) : 0);
                place->name = NULL; /* it has one owner at each time */
                if (next && streq(item.name, next->name)) {
                        free((void *) item.name);
                        continue;
                }
                size += item.size + (k->directories ? 0 : strlen(item.name));
                (*k->items)[kept++] = item;
        }
        *k->n = kept;
        if (kept > k->max)
                return content_refuse_sum(c, k->option, k->max, k->of);
        return size > k->size_max ? content_refuse_sum(c, k->option, k->size_max, "bytes") : 0;
}

static int content_take(Content *c, const InputPolicy *policy, const char *unit, const InputValues *values) {
        ContentKeys variables = { .option = "EnvironmentKeys=",
                                  .of = "variables",
                                  .paths = &policy->environment,
                                  .listings = values->environment,
                                  .max = INPUT_VARIABLES_MAX,
                                  .size_max = INPUT_VARIABLES_SIZE_MAX,
                                  .items = &c->variables,
                                  .n = &c->n_variables };
        ContentKeys files = { .option = "ConfigKeys=",
                              .of = "files",
                              .paths = &policy->files,
                              .directories = &policy->directories,
                              .listings = values->files,
                              .max = INPUT_FILES_MAX,
                              .size_max = INPUT_FILES_SIZE_MAX,
                              .items = &c->files,
                              .n = &c->n_files };
        _cleanup_text_ Text digest = {};
        char whole[SHA256_SIZE];

        TRY(content_take_secrets(c, policy, unit, values->secrets, &digest));
        TRY(content_take_keys(c, &variables, &digest));
        TRY(content_take_keys(c, &files, &digest));
        TRY(digest.error);
        TRY(bytes_sha256(text_chars(&digest), digest.size, whole));
        snprintf(c->digest, sizeof(c->digest), "%.*s", (int) sizeof(c->digest) - 1, whole);
        return 0;
}

int content_build(const InputPolicy *policy, const char *unit, const InputValues *values, Content *ret) {
        _cleanup_content_ Content c = {};
        int r = content_take(&c, policy, unit, values);

        if (r == -EINVAL)
                content_lists_done(&c);
        else if (r < 0)
                return r;
        *ret = TAKE_STRUCT(c);
        return 0;
}

void content_append_environment(Text *t, const Content *content, bool container) {
        for (size_t k = 0; k < content->n_variables; k++) {
                const ContentItem *v = &content->variables[k];
                const char *value = v->value;

                text_append(t, v->name);
                text_append(t, container ? "=" : "=\"");
                for (size_t i = 0; i < v->size; i++) {
                        if (!container && strchr("\\\"$`", value[i]))
                                text_append_char(t, '\\');
                        text_append_char(t, value[i]);
                }
                text_append(t, container ? "\n" : "\"\n");
        }
}
