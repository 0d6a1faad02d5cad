#include "tests/lib/alloc.h"
#include "tests/lib/test.h"
#include "fleetd/features/inputs/content.h"

/* A key of the store; its size 0: that of the string. A key that ends in '/' is a directory. */
typedef struct Key {
        const char *key, *value;
        size_t size;
} Key;

enum { KEYS_MAX = 8 };

/* What content_build() reads, and owns here. */
typedef struct Given {
        InputPolicy policy;
        InputSecret secrets[INPUT_SECRETS_MAX];
        InputListing environment[INPUT_PATHS_MAX], files[INPUT_PATHS_MAX];
} Given;

static void given_done(Given *g) {
        for (size_t i = 0; i < INPUT_PATHS_MAX; i++) {
                free((void *) g->environment[i].nodes);
                free((void *) g->files[i].nodes);
        }
        input_policy_done(&g->policy);
}

#define _cleanup_given_ _cleanup_(given_done)

/* List a path as the store does: the keys are sorted. */
static void list_path(InputListing *ret, const char *path, const Key keys[KEYS_MAX]) {
        InputNode *nodes = NEW0(InputNode, KEYS_MAX);
        size_t size = strlen(path);

        assert_non_null(nodes);
        ret->nodes = nodes;
        for (const Key *k = keys; k < keys + KEYS_MAX && k->key; k++) {
                if (strncmp(k->key, path, size) != 0 || (k->key[size] && k->key[size] != '/'))
                        continue;
                ret->exists = true;
                if (!ends_with(k->key, "/"))
                        nodes[ret->n++] = (InputNode) { k->key, k->value, k->size ?: strlen(k->value) };
        }
}

/* Add the words of each option. */
static void give(Given *g, const char *secrets, const char *environment, const char *files,
                 const Key keys[KEYS_MAX]) {
        _cleanup_names_ Names s = {}, e = {}, f = {};
        bool optional;

        assert_int_equal(secrets ? names_split(secrets, &s) : 0, 0);
        assert_int_equal(environment ? names_split(environment, &e) : 0, 0);
        assert_int_equal(files ? names_split(files, &f) : 0, 0);
        for (size_t i = 0; i < s.n; i++) {
                assert_int_equal(input_policy_add_secret(&g->policy, s.items[i], NULL), 0);
                g->secrets[i] = (InputSecret) { .version = i + 1, .set_ms = 7, .is_for = true, .value = "v" };
                g->secrets[i].size = 1;
        }
        for (size_t i = 0; i < e.n; i++) {
                assert_int_equal(input_policy_add_environment(&g->policy, e.items[i], NULL), 0);
                list_path(&g->environment[i], input_path(e.items[i], &optional), keys);
        }
        for (size_t i = 0; i < f.n; i++) {
                assert_int_equal(input_policy_add_files(&g->policy, f.items[i], NULL), 0);
                list_path(&g->files[i], input_path(g->policy.files.items[i], &optional), keys);
        }
}

static int build(const Given *g, const char *unit, Content *ret) {
        const InputValues values = { g->secrets, g->environment, g->files };

        return content_build(&g->policy, unit, &values, ret);
}

/* "NAME=VALUE|" of each. */
static char *printed(const ContentItem *items, size_t n) {
        Text t = {};

        text_append(&t, "");
        for (size_t i = 0; i < n; i++) {
                text_printf(&t, "%s=", items[i].name);
                text_append_bytes(&t, items[i].value, items[i].size);
                text_append(&t, "|");
        }
        return text_take(&t, NULL);
}

static void assert_items(const ContentItem *items, size_t n, const char *expected) {
        _cleanup_free_ char *all = printed(items, n);

        assert_string_equal(all, expected ?: "");
}

static void keys_become_variables_and_files(void **state) {
#define A20   "aaaaaaaaaaaaaaaaaaaa"
#define B20   "AAAAAAAAAAAAAAAAAAAA"
#define A80   A20 A20 A20 A20
#define A240  A80 A80 A80
#define A250  A240 "aaaaaaaaaa"
#define A1004 A250 "/" A250 "/" A250 "/" A250 "/"
        static const struct {
                const char *environment, *files;
                Key keys[KEYS_MAX];
                const char *variables, *written;
        } rows[] = {
                { .variables = "" },
                { "/c", NULL, { { "/c/" } } },
                { "-/c", "-/f", {} },
                { "/c", NULL, { { "/c/port", "80" } }, "PORT=80|" },
                { "/c", NULL, { { "/c/a/b-c.d", "1" }, { "/c/a/bx", "" } }, "A_BX=|A_B_C_D=1|" },
                { "/c", NULL, { { "/c/\303\244 =\n", "1" } }, "_____=1|" },
                { "/c/x/Log-level",
                  NULL,
                  { { "/c/x/Log-level", "7" }, { "/c/x/log", "8" } },
                  "LOG_LEVEL=7|" },
                { "/c", NULL, { { "/ca/x", "1" }, { "/c/y", "2" } }, "Y=2|" },
                { "/c", NULL, { { "/c/_x", "1" }, { "/c/a/_b/c", "2" }, { "/c/d_", "3" } }, "D_=3|" },
                /* A path that is hidden itself was named on purpose. */
                { "/_c /d/_e", NULL, { { "/_c/x", "1" }, { "/_c/_y", "2" }, { "/d/_e", "3" } }, "X=1|_E=3|" },
                { "/a /b -/c",
                  NULL,
                  { { "/a/x", "1" }, { "/a/y", "2" }, { "/b/x", "3" }, { "/c/X", "4" } },
                  "X=4|Y=2|" },
                { "/b /a", NULL, { { "/a/x", "1" }, { "/b/x", "3" } }, "X=1|" },
                { "/a /a", NULL, { { "/a/x", "1" } }, "X=1|" },
                { "/c",
                  NULL,
                  { { "/c/path_", "1" }, { "/c/envy", "2" }, { "/c/ldap", "3" }, { "/c/my_path", "4" } },
                  "ENVY=2|LDAP=3|MY_PATH=4|PATH_=1|" },
                { NULL,
                  "/f",
                  { { "/f/a/b", "1\n2" }, { "/f/a.conf", "" }, { "/f/_h", "3" } },
                  .written = "a/b=1\n2|a.conf=|" },
                { NULL,
                  "/f /g:d",
                  { { "/f/a", "1" }, { "/g/a", "2" }, { "/g/b/c", "3" } },
                  .written = "a=1|d/a=2|d/b/c=3|" },
                { NULL, "/f/x /f/y:y", { { "/f/x", "1" }, { "/f/y", "2" } }, .written = "x=1|y/y=2|" },
                { NULL, "/f /g:d", { { "/f/d/a", "1" }, { "/g/b", "2" } }, .written = "d/a=1|d/b=2|" },
                { NULL, "/f:...", { { "/f/..a", "1" } }, .written = ".../..a=1|" },
                { "/c", "/c", { { "/c/a", "1" } }, "A=1|", "a=1|" },
                { NULL, "/f", { { "/f/a", "1" }, { "/f/ab", "2" } }, .written = "a=1|ab=2|" },
                { NULL, "/f", { { "/f/" A250 "12345", "1" } }, .written = A250 "12345=1|" },
                { NULL,
                  "/f",
                  { { "/f/" A1004 "12345678901234567890", "1" } },
                  .written = A1004 "12345678901234567890=1|" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_given_ Given g = {};
                _cleanup_content_ Content c = {};

                give(&g, NULL, rows[i].environment, rows[i].files, rows[i].keys);
                assert_int_equal(build(&g, "a.service", &c), 0);
                assert_int_equal(c.problem.code, VERDICT_NONE);
                assert_int_equal(strlen(c.digest), UNIT_HASH_SIZE - 1);
                assert_items(c.variables, c.n_variables, rows[i].variables);
                assert_items(c.files, c.n_files, rows[i].written);
        }
}

static void assert_no_content(const Content *c, const char *message, bool waits) {
        _cleanup_text_ Text t = {};

        verdict_append(&t, &c->problem);
        assert_string_equal(text_chars(&t), message);
        assert_int_equal(c->waits, waits);
        assert_int_equal(c->n_credentials + c->n_variables + c->n_files, 0);
        assert_string_equal(c->digest, "");
}

/* The record of the content (units/stored_inputs.h) is written again only if it differs. */
static void assert_kept_by_a_record(const Verdict *problem) {
        _cleanup_json_ JsonValue *read = NULL;
        _cleanup_text_ Text t = {};
        Verdict again = {};

        json_open(&t, NULL, '{');
        verdict_write(&t, "v", problem);
        json_close(&t, '}');
        assert_int_equal(json_object_parse(t.chars, t.size, &read, NULL), 0);
        assert_int_equal(verdict_read(json_value_member(read, "v"), &again, NULL), 0);
        assert_true(verdict_equal(problem, &again));
}

static void the_first_problem_of_the_inputs_is_the_answer(void **state) {
#define VARIABLE(name, what)                                                                                \
        {                                                                                                   \
                "/c", NULL, { { "/c/" name, "1" } },                                                        \
                        "/c/" name ": a unit cannot get " what " from a key: it changes how programs start" \
        }
#define VALUE(value, size, why) \
        { "/c", NULL, { { "/c/x", value, size } }, "/c/x: " why }
#define NAMED ": a file is named by 1 to 255 bytes, with its folders 1024, and not \".\" or \"..\""
        static const struct {
                const char *environment, *files;
                Key keys[KEYS_MAX];
                const char *message;
                bool waits;
        } rows[] = {
                { "/c", NULL, {}, "waiting for /c: no such key", true },
                { "-/c /d", NULL, {}, "waiting for /d: no such key", true },
                { NULL, "/f:x", {}, "waiting for /f: no such key", true },
                { "/c", "/f", { { "/f/" } }, "waiting for /c: no such key", true },
                { "/c/1 /d", NULL, { { "/c/1", "x" } }, "/c/1: a variable cannot begin with a digit" },
                { "/c", "/f", { { "/c/2x", "x" } }, "/c/2x: a variable cannot begin with a digit" },
                { "/c", NULL, { { "/c/a/b", "1" }, { "/c/a_b", "2" } }, "/c/a/b and /c/a_b are both A_B" },
                { "/d /c",
                  NULL,
                  { { "/c/A", "1" }, { "/c/a", "2" }, { "/d/a", "3" } },
                  "/c/A and /c/a are both A" },
                VARIABLE("ld_preload", "LD_PRELOAD"),
                VARIABLE("LD/x", "LD_X"),
                VARIABLE("Gconv.path", "GCONV_PATH"),
                VARIABLE("path", "PATH"),
                VARIABLE("ifs", "IFS"),
                VARIABLE("env", "ENV"),
                VARIABLE("bash_env", "BASH_ENV"),
                VARIABLE("bash-func", "BASH_FUNC"),
                VARIABLE("shellopts", "SHELLOPTS"),
                VARIABLE("bashopts", "BASHOPTS"),
                VARIABLE("ps4", "PS4"),
                VARIABLE("glibc_tunables", "GLIBC_TUNABLES"),
                VARIABLE("perllib", "PERLLIB"),
                VARIABLE("rubyopt", "RUBYOPT"),
                VARIABLE("rubylib", "RUBYLIB"),
                VARIABLE("lua_init_5_4", "LUA_INIT_5_4"),
                VARIABLE("node.path", "NODE_PATH"),
                VARIABLE("java_tool_options", "JAVA_TOOL_OPTIONS"),
                VARIABLE("jdk/java/options", "JDK_JAVA_OPTIONS"),
                VARIABLE("-java_options", "_JAVA_OPTIONS"),
                VARIABLE("python", "PYTHON"),
                VARIABLE("pythonpath", "PYTHONPATH"),
                VARIABLE("perl5lib", "PERL5LIB"),
                VARIABLE("node/options", "NODE_OPTIONS"),
                VARIABLE("fleet_config", "FLEET_CONFIG"),
                VARIABLE("credentials/directory", "CREDENTIALS_DIRECTORY"),
                VARIABLE("notify_socket", "NOTIFY_SOCKET"),
                VARIABLE("listen_fds", "LISTEN_FDS"),
                VARIABLE("mainpid", "MAINPID"),
                VARIABLE("watchdog_usec", "WATCHDOG_USEC"),
                VARIABLE("invocation_id", "INVOCATION_ID"),
                VALUE("a\0b", 3, "the value of a variable is UTF-8 without NUL"),
                VALUE("", 1, "the value of a variable is UTF-8 without NUL"),
                VALUE("a\377", 0, "the value of a variable is UTF-8 without NUL"),
                VALUE("\355\240\200", 0, "the value of a variable is UTF-8 without NUL"),
                VALUE("\303", 0, "the value of a variable is UTF-8 without NUL"),
                VALUE("a\n", 0, "the value of a variable is one line"),
                VALUE("\n", 0, "the value of a variable is one line"),
                VALUE("a\rb\r", 0, "the value of a variable cannot end with a carriage return"),
                VALUE("x\357\277\276", 0, "systemd reads no variable with a Unicode noncharacter"),
                VALUE("\357\277\277x", 0, "systemd reads no variable with a Unicode noncharacter"),
                VALUE("\357\267\220", 0, "systemd reads no variable with a Unicode noncharacter"),
                VALUE("\303\244\357\267\257", 0, "systemd reads no variable with a Unicode noncharacter"),
                VALUE("\360\237\277\276", 0, "systemd reads no variable with a Unicode noncharacter"),
                VALUE("\364\217\277\277", 0, "systemd reads no variable with a Unicode noncharacter"),
                /* Before names that two keys have. */
                { "/c",
                  NULL,
                  { { "/c/A", "1" }, { "/c/a", "\n" } },
                  "/c/a: the value of a variable is one line" },
                { NULL, "/f", { { "/f/.", "1" } }, "/f/." NAMED },
                { NULL, "/f", { { "/f/a/../b", "1" } }, "/f/a/../b" NAMED },
                { NULL, "/f", { { "/f/a//b", "1" } }, "/f/a//b" NAMED },
                { NULL, "/f", { { "/f/" A250 "123456", "1" } }, "/f/" A80 A20 A20 "..." NAMED },
                { NULL,
                  "/f",
                  { { "/f/" A1004 "123456789012345678901", "1" } },
                  "/f/" A80 A20 A20 "..." NAMED },
                { NULL, "/f /g", { { "/f/a/b", "1" }, { "/g/a/b", "2" } }, "/f/a/b and /g/a/b are both a/b" },
                { NULL, "/f /f", { { "/f/a", "1" } }, "/f/a and /f/a are both a" },
                { NULL, "/f /g:d", { { "/f/d/a", "1" }, { "/g/a", "2" } }, "/f/d/a and /g/a are both d/a" },
                /* '-' is before '/' in ASCII. */
                { NULL,
                  "/f /g",
                  { { "/f/a", "1" }, { "/f/a-", "2" }, { "/g/a/b", "3" } },
                  "/f/a: its file is a folder for /g/a/b" },
                { NULL,
                  "/g:a /f",
                  { { "/f/a", "1" }, { "/g/b/c", "3" } },
                  "/f/a: its file is a folder for /g/b/c" },
                /* A key of any bytes, and of any length. */
                { "/c",
                  NULL,
                  { { "/c/1\033[7m\037\377", "x" } },
                  "/c/1\\x1b[7m\\x1f\\xff: a variable cannot begin with a digit" },
                { "/c",
                  NULL,
                  { { "/c/" A250 "/x", "1" }, { "/c/" A250 "_x", "2" } },
                  "/c/" A20 A20 A20 "aaaaaaaaaaaaaaaaa... and /c/" A20 A20 A20
                  "aaaaaaaaaaaaaaaaa... are both " B20 B20 B20 B20 "..." },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_given_ Given g = {};
                _cleanup_content_ Content c = {};

                give(&g, NULL, rows[i].environment, rows[i].files, rows[i].keys);
                assert_int_equal(build(&g, "a.service", &c), 0);
                assert_no_content(&c, rows[i].message, rows[i].waits);
                assert_kept_by_a_record(&c.problem);
        }
}

static void a_secret_that_is_set_for_the_unit_is_a_credential(void **state) {
        static const struct {
                size_t at; /* of the secret that differs */
                InputSecret secret;
                const char *message;
                bool waits;
        } rows[] = {
                { 0, { .is_for = true }, "waiting for secret db: not set", true },
                { 1, {}, "waiting for secret tls: not set", true },
                { 1,
                  { .version = 1, .units = "web* shop@*" },
                  "secret tls is not for a.service: its units are web* shop@*" },
                { 0, { .version = 1 }, "secret db is not for a.service: its units are others" },
        };
        static const Key keys[KEYS_MAX] = { { "/c/1", "x" } };
        _cleanup_given_ Given g = {};
        _cleanup_content_ Content c = {}, closed = {};

        give(&g, "db tls:server.key", NULL, NULL, keys);
        g.secrets[1].value = "a\0\n";
        g.secrets[1].size = 3;
        assert_int_equal(build(&g, "a.service", &c), 0);
        assert_int_equal(c.n_credentials, 2);
        assert_string_equal(c.credentials[0].name, "db");
        assert_string_equal(c.credentials[1].name, "server.key");
        assert_int_equal(c.credentials[1].size, 3);
        assert_memory_equal(c.credentials[1].value, "a\0\n", 3);

        /* The digest is that of the versions: it is known where no value is. */
        g.secrets[0].value = g.secrets[1].value = NULL;
        assert_int_equal(build(&g, "a.service", &closed), 0);
        assert_string_equal(closed.digest, c.digest);
        assert_null(closed.credentials[0].value);

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_given_ Given other = {};
                _cleanup_content_ Content none = {};

                give(&other, "db tls:server.key", "/c", NULL, keys);
                other.secrets[rows[i].at] = rows[i].secret;
                assert_int_equal(build(&other, "a.service", &none), 0);
                assert_no_content(&none, rows[i].message, rows[i].waits);
                assert_kept_by_a_record(&none.problem);
        }
}

static void the_digest_is_that_of_what_a_unit_gets(void **state) {
        static const struct {
                const char *secrets, *environment, *files;
                Key keys[KEYS_MAX];
                uint64_t version, set_ms; /* of the first secret; 0: as it is */
                bool as_first;
        } rows[] = {
                { "db", "/c", "/f", { { "/c/a", "1" }, { "/f/b", "2" } } },
                { "db", "/c -/x", "/f -/y", { { "/c/a", "1" }, { "/f/b", "2" }, { "/z", "3" } } },
                { "db",
                  "/c",
                  "/f",
                  { { "/c/_h", "0" }, { "/c/a", "1" }, { "/f/b", "2" } },
                  .as_first = true },
                { "db", "-/c", "/f", { { "/c/a", "1" }, { "/f/b", "2" } }, .as_first = true },
                { "db", "/c", "/f", { { "/c/a", "1" }, { "/f/b", "2" } }, .version = 2 },
                { "db", "/c", "/f", { { "/c/a", "1" }, { "/f/b", "2" } }, .set_ms = 8 },
                { "db:b", "/c", "/f", { { "/c/a", "1" }, { "/f/b", "2" } } },
                { "dx:db", "/c", "/f", { { "/c/a", "1" }, { "/f/b", "2" } } },
                { "d:b", "/c", "/f", { { "/c/a", "1" }, { "/f/b", "2" } } },
                { "ab:c", "/c", "/f", { { "/c/a", "1" }, { "/f/b", "2" } } },
                { "a:bc", "/c", "/f", { { "/c/a", "1" }, { "/f/b", "2" } } },
                { "db x", "/c", "/f", { { "/c/a", "1" }, { "/f/b", "2" } } },
                { NULL, "/c", "/f", { { "/c/a", "1" }, { "/f/b", "2" } } },
                { "db", "/c", "/f", { { "/c/a", "2" }, { "/f/b", "2" } } },
                { "db", "/c", "/f", { { "/c/a", "1\0", 2 }, { "/f/b", "2" } } },
                { "db", "/c", "/f", { { "/c/b", "1" }, { "/f/b", "2" } } },
                { "db", "/c", "/f", { { "/c/a", "1" }, { "/c/b", "" }, { "/f/b", "2" } } },
                { "db", "/c", "/f", { { "/c/", NULL }, { "/f/b", "2" } } },
                { "db", "/c", "/f", { { "/c/a", "1" }, { "/f/b", "3" } } },
                { "db", "/c", "/f", { { "/c/a", "1" }, { "/f/a/b", "2" } } },
                { "db", "/c", "/f:d", { { "/c/a", "1" }, { "/f/b", "2" } } },
                { "db", "/c", "/f/b", { { "/c/a", "1" }, { "/f/b", "2" } } },
                { "db", NULL, "/c /f", { { "/c/a", "1" }, { "/f/b", "2" } } },
                { "db", "/c /f", NULL, { { "/c/a", "1" }, { "/f/b", "2" } } },
                { "db", "/f", "/c", { { "/c/a", "1" }, { "/f/b", "2" } } },
                { "db", "/f /c", NULL, { { "/c/a", "1" }, { "/f/b", "2" } } },
        };
        char digests[ELEMENTS(rows)][UNIT_HASH_SIZE];

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_given_ Given g = {};
                _cleanup_content_ Content c = {};

                give(&g, rows[i].secrets, rows[i].environment, rows[i].files, rows[i].keys);
                g.secrets[0].version = rows[i].version ?: g.secrets[0].version;
                g.secrets[0].set_ms = rows[i].set_ms ?: g.secrets[0].set_ms;
                assert_int_equal(build(&g, "a.service", &c), 0);
                snprintf(digests[i], sizeof(digests[i]), "%s", c.digest);
                if (rows[i].keys[0].size > 0) /* no value of a variable: a problem */
                        assert_string_equal(c.digest, "");
                for (size_t j = 0; j < i; j++)
                        if (streq(digests[i], digests[j]) !=
                            (rows[i].as_first && (j == 0 || rows[j].as_first)))
                                fail_msg("digests of rows %zu and %zu", j, i);
        }
}

static void each_parser_reads_the_value_of_the_key(void **state) {
        static const struct {
                const char *value, *service, *container;
        } rows[] = {
                { "", "X=\"\"\n", "X=\n" },
                { " a b ", "X=\" a b \"\n", "X= a b \n" },
                { "\"q\" 'r'", "X=\"\\\"q\\\" 'r'\"\n", "X=\"q\" 'r'\n" },
                { "$HOME ${a}", "X=\"\\$HOME \\${a}\"\n", "X=$HOME ${a}\n" },
                { "`id`", "X=\"\\`id\\`\"\n", "X=`id`\n" },
                { "a\\nb\\", "X=\"a\\\\nb\\\\\"\n", "X=a\\nb\\\n" },
                { "%n %%", "X=\"%n %%\"\n", "X=%n %%\n" },
                { "# a ; b", "X=\"# a ; b\"\n", "X=# a ; b\n" },
                { "a=b", "X=\"a=b\"\n", "X=a=b\n" },
                { "a\tb\rc\033\177", "X=\"a\tb\rc\033\177\"\n", "X=a\tb\rc\033\177\n" },
                { "\357\273\277\303\244\355\237\277\357\277\275\360\236\277\276",
                  "X=\"\357\273\277\303\244\355\237\277\357\277\275\360\236\277\276\"\n",
                  "X=\357\273\277\303\244\355\237\277\357\277\275\360\236\277\276\n" },
        };
        static const Key two[KEYS_MAX] = { { "/c/b", "1" }, { "/c/a", "2" } };
        _cleanup_given_ Given several = {};
        _cleanup_content_ Content c = {};
        _cleanup_text_ Text t = {};

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                const Key keys[KEYS_MAX] = { { "/c/x", rows[i].value } };
                _cleanup_given_ Given g = {};
                _cleanup_content_ Content one = {};
                _cleanup_text_ Text service = {}, container = {};

                give(&g, NULL, "/c", NULL, keys);
                assert_int_equal(build(&g, "a.service", &one), 0);
                content_append_environment(&service, &one, false);
                content_append_environment(&container, &one, true);
                assert_string_equal(text_chars(&service), rows[i].service);
                assert_string_equal(text_chars(&container), rows[i].container);
        }
        give(&several, NULL, "/c", NULL, two);
        assert_int_equal(build(&several, "a.service", &c), 0);
        content_append_environment(&t, &c, false);
        assert_string_equal(text_chars(&t), "A=\"2\"\nB=\"1\"\n");
}

/* Give 'n' keys with a value of 'size' bytes to one path: /PATH/x0000 and so on. */
static void give_many(InputListing *ret, const char *path, size_t n, size_t size, char (*names)[16]) {
        static const char zeros[INPUT_FILES_SIZE_MAX + 1];
        static char letters[INPUT_VARIABLE_SIZE_MAX + 2];
        InputNode *nodes = NEW0(InputNode, n + 1);

        assert_non_null(nodes);
        memset(letters, 'a', sizeof(letters));
        for (size_t i = 0; i < n; i++) {
                snprintf(names[i], sizeof(names[i]), "%s/x%04zu", path, i);
                nodes[i] = (InputNode) { names[i], size < sizeof(letters) ? letters : zeros, size };
        }
        *ret = (InputListing) { true, nodes, n };
}

static void each_list_has_a_limit(void **state) {
        enum { NAME = 5 }; /* bytes of "X0000" */
        static const struct {
                bool files;
                size_t n_one, n_two, size; /* keys at two paths */
                const char *message;       /* NULL: all are taken */
                size_t n;                  /* then */
        } rows[] = {
                { false, 500, 0, 1, NULL, 500 },
                { false, 501, 0, 1, "EnvironmentKeys=: more than 500 variables" },
                { false, 500, 500, 1, NULL, 500 }, /* the same names */
                { false, 400, 501, 1, "EnvironmentKeys=: more than 500 variables" },
                { false, 1, 0, INPUT_VARIABLE_SIZE_MAX, NULL, 1 },
                { false, 1, 0, INPUT_VARIABLE_SIZE_MAX + 1,
                  "/1/x0000: the value of a variable has at most 32 KiB" },
                { false, 4, 4, INPUT_VARIABLE_SIZE_MAX - NAME, NULL, 4 },
                { false, 4, 4, INPUT_VARIABLE_SIZE_MAX - NAME + 1,
                  "EnvironmentKeys=: more than 131072 bytes" },
                { true, 1000, 0, 1, NULL, 1000 },
                { true, 1001, 0, 1, "ConfigKeys=: more than 1000 files" },
                { true, 500, 500, 1, NULL, 1000 },
                { true, 500, 501, 1, "ConfigKeys=: more than 1000 files" },
                { true, 1, 0, INPUT_FILES_SIZE_MAX, NULL, 1 },
                { true, 1, 0, INPUT_FILES_SIZE_MAX + 1, "ConfigKeys=: more than 1048576 bytes" },
                { true, 8, 8, INPUT_FILES_SIZE_MAX / 16, NULL, 16 },
                { true, 8, 8, INPUT_FILES_SIZE_MAX / 16 + 1, "ConfigKeys=: more than 1048576 bytes" },
        };
        static char names[2][INPUT_FILES_MAX + 1][16];

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_given_ Given g = {};
                _cleanup_content_ Content c = {};
                InputListing *lists = rows[i].files ? g.files : g.environment;

                for (int k = 0; k < 2; k++)
                        assert_int_equal(
                                rows[i].files ?
                                        input_policy_add_files(&g.policy, k ? "/2:b" : "/1:a", NULL) :
                                        input_policy_add_environment(&g.policy, k ? "/2" : "/1", NULL),
                                0);
                give_many(&lists[0], "/1", rows[i].n_one, rows[i].size, names[0]);
                give_many(&lists[1], "/2", rows[i].n_two, rows[i].size, names[1]);
                assert_int_equal(build(&g, "a.service", &c), 0);
                if (rows[i].message)
                        assert_no_content(&c, rows[i].message, false);
                else
                        assert_int_equal(c.problem.code, VERDICT_NONE);
                assert_int_equal(c.n_variables + c.n_files, rows[i].n);
        }
}

static void the_secrets_of_a_unit_have_a_limit_in_all(void **state) {
        static const Key none[KEYS_MAX];
        _cleanup_given_ Given g = {};
        _cleanup_content_ Content c = {}, above = {};

        give(&g, "1 2 3 4 5 6 7 8 9", NULL, NULL, none);
        for (size_t i = 0; i < 8; i++)
                g.secrets[i] = (InputSecret) { .version = 1, .is_for = true, .size = SECRET_SIZE_MAX };
        g.secrets[8].size = 0;
        assert_int_equal(build(&g, "a.service", &c), 0);
        assert_int_equal(c.n_credentials, 9);
        g.secrets[8].size = 1;
        assert_int_equal(build(&g, "a.service", &above), 0);
        assert_no_content(&above, "Secret=: more than 524288 bytes", false);
}

static const Key kept[KEYS_MAX] = { { "/c/a", "1" }, { "/c/b", "2" }, { "/f/a", "3" }, { "/f/b/c", "4" } };

static int build_and_print(void *userdata) {
        _cleanup_content_ Content c = {};
        _cleanup_text_ Text t = {};
        int r = build(userdata, "a.service", &c);

        if (r < 0)
                return r;
        content_append_environment(&t, &c, false);
        if (c.problem.code == VERDICT_NONE && t.error == 0)
                assert_string_equal(text_chars(&t), "A=\"1\"\nB=\"2\"\n");
        return t.error;
}

static void a_failing_allocation_is_no_problem_of_the_inputs(void **state) {
        _cleanup_given_ Given good = {}, bad = {};

        give(&good, "x y:z", "/c", "/f", kept);
        assert_true(alloc_fail_each("a content", build_and_print, &good, 1) >= 20);
        give(&bad, "x y:z", "/c", "/f /f", kept);
        assert_true(alloc_fail_each("a problem", build_and_print, &bad, 1) >= 20);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(keys_become_variables_and_files),
                cmocka_unit_test(the_first_problem_of_the_inputs_is_the_answer),
                cmocka_unit_test(a_secret_that_is_set_for_the_unit_is_a_credential),
                cmocka_unit_test(the_digest_is_that_of_what_a_unit_gets),
                cmocka_unit_test(each_parser_reads_the_value_of_the_key),
                cmocka_unit_test(each_list_has_a_limit),
                cmocka_unit_test(the_secrets_of_a_unit_have_a_limit_in_all),
                cmocka_unit_test(a_failing_allocation_is_no_problem_of_the_inputs),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
