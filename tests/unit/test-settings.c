/* Settings: files, options, precedence, and messages for invalid values. */
#include <sys/stat.h>

#include "tests/lib/test.h"
#include "base/log.h"
#include "base/memory.h"
#include "fleetd/host/settings.h"
#include "tests/lib/scratch.h"

#define MACHINE "--machine-id=0123456789abcdef0123456789abcdef"

typedef struct Fixture {
        char *scratch, *config;
        char option[600];
        Settings settings;
        Error err;
} Fixture;

static int fixture_setup(void **state) {
        Fixture *fixture = calloc(1, sizeof(*fixture));

        fixture->scratch = scratch_new();
        fixture->config = scratch_path(fixture->scratch, "fleetd.conf");
        snprintf(fixture->option, sizeof(fixture->option), "--config=%s", fixture->config);
        *state = fixture;
        return 0;
}

static int fixture_teardown(void **state) {
        Fixture *fixture = *state;

        settings_done(&fixture->settings);
        free(fixture->config);
        scratch_free(fixture->scratch);
        free(fixture);
        return 0;
}

static void config(Fixture *fixture, const char *text) {
        scratch_write(fixture->config, text);
}

/* Read the file and at most three more options (NULL ends them). */
static int load_settings(Fixture *fixture, const char *a, const char *b, const char *c) {
        char *argv[] = { (char *) "--help" /* the program's name is not an option */,
                         fixture->option,
                         (char *) MACHINE,
                         (char *) a,
                         (char *) b,
                         (char *) c,
                         NULL };
        int argc = 3;

        while (argv[argc])
                argc++;
        settings_done(&fixture->settings);
        fixture->err = (Error) {};
        return settings_read(&fixture->settings, argc, argv, &fixture->err);
}

static void assert_refused(Fixture *fixture, const char *message) {
        assert_non_null(strstr(fixture->err.message, message));
        assert_null(fixture->settings.state_directory);
}

static void without_settings_a_host_is_a_cluster_of_one(void **state) {
        Fixture *fixture = *state;
        const Settings *s = &fixture->settings;

        config(fixture, "");
        assert_int_equal(load_settings(fixture, NULL, NULL, NULL), 0);
        assert_string_equal(s->state_directory, "/var/lib/fleet");
        assert_string_equal(s->runtime_directory, "/run/fleet");
        assert_string_equal(s->unit_directory, "/etc/fleet/units");
        assert_string_equal(s->listen_client, "127.0.0.1:2379");
        assert_string_equal(s->listen_socket, "/run/fleet.sock");
        assert_string_equal(s->listen_peer, "");
        assert_string_equal(s->machine_id, "0123456789abcdef0123456789abcdef");
        assert_true(s->name[0] != 0);
        assert_true(s->agent && s->engine);
        assert_int_equal(settings_client_access(s), CLIENT_READ_WRITE);
        assert_int_equal(s->join.n, 0);
        assert_int_equal(s->brake_ms, 30000);
        assert_string_equal(s->service_address, "");
        assert_int_equal(s->port_first, 20000);
        assert_int_equal(s->port_last, 31999);
}

static void every_kind_of_value_is_read_from_the_file(void **state) {
        Fixture *fixture = *state;
        const Settings *s = &fixture->settings;

        config(fixture,
               "# a comment\n[Fleetd]\nName=alpha\nListenPeer=10.0.0.1:2380\nPeerKey=/k\nJoin=10.0.0.2:2380, "
               "10.0.0.3:2380\nJoin=10.0.0.3:2380\n"
               "Metadata=disk=ssd,zone=a\nMetadata=zone=b\nAgent=no\nBrakeSec=2min\nQuota=16M\nClientAccess="
               "read-only\nVoters=1\nListenClient=off\n"
               "AdvertiseClient=http://10.0.0.1:2379\nServiceAddress=fd00::1\nPortRange=1024-65535\n");
        assert_int_equal(load_settings(fixture, NULL, NULL, NULL), 0);
        assert_string_equal(s->name, "alpha");
        assert_string_equal(s->listen_peer, "10.0.0.1:2380");
        assert_string_equal(s->listen_client, "");
        assert_string_equal(s->advertise_client, "http://10.0.0.1:2379");
        assert_int_equal(s->join.n, 2);
        assert_string_equal(s->join.items[1], "10.0.0.3:2380");
        assert_int_equal(s->metadata.n, 2);
        assert_string_equal(s->metadata.items[1].value, "b");
        assert_false(s->agent);
        assert_int_equal(s->brake_ms, 120000);
        assert_int_equal(s->quota, 16 << 20);
        assert_int_equal(s->client_access, CLIENT_READ_ONLY);
        assert_int_equal(s->voters, 1);
        assert_string_equal(s->service_address, "fd00::1");
        assert_int_equal(s->port_first, 1024);
        assert_int_equal(s->port_last, 65535);
}

static void options_override_the_file(void **state) {
        Fixture *fixture = *state;

        config(fixture, "[Fleetd]\nName=alpha\nAgent=no\n");
        assert_int_equal(load_settings(fixture, "--name=beta", "--agent", "yes"), 0);
        assert_string_equal(fixture->settings.name, "beta");
        assert_true(fixture->settings.agent);
}

static void lists_of_the_command_line_replace_those_of_the_file(void **state) {
        Fixture *fixture = *state;
        const Settings *s = &fixture->settings;

        config(fixture, "[Fleetd]\nListenPeer=10.0.0.1:2380\nPeerKey=/k\nJoin=10.0.0.2:2380\nMetadata=a=1\n");
        assert_int_equal(
                load_settings(fixture, "--join=10.0.0.8:2380", "--join=10.0.0.9:2380", "--metadata=b=2"), 0);
        assert_int_equal(s->join.n, 2);
        assert_string_equal(s->join.items[0], "10.0.0.8:2380");
        assert_int_equal(s->metadata.n, 1);
        assert_string_equal(s->metadata.items[0].key, "b");
}

static void an_empty_value_in_the_file_clears_a_list(void **state) {
        Fixture *fixture = *state;

        config(fixture, "[Fleetd]\nListenPeer=10.0.0.1:2380\nPeerKey=/"
                        "k\nJoin=10.0.0.2:2380\nJoin=\nMetadata=a=1\nMetadata=\n");
        assert_int_equal(load_settings(fixture, NULL, NULL, NULL), 0);
        assert_int_equal(fixture->settings.join.n, 0);
        assert_int_equal(fixture->settings.metadata.n, 0);
}

static void rights_of_local_groups_add_up_and_an_unknown_group_is_a_warning(void **state) {
        Fixture *fixture = *state;

        config(fixture, "[Fleetd]\nLocalRights=root:units-see\nLocalRights=no-such-group:units-see\n"
                        "LocalRights=root:keys-read:/a\n");
        assert_int_equal(load_settings(fixture, NULL, NULL, NULL), 0);
        assert_int_equal(fixture->settings.local_rights.n, 3);
        config(fixture, "[Fleetd]\nLocalRights=root:units-see\nLocalRights=\n");
        assert_int_equal(load_settings(fixture, NULL, NULL, NULL), 0);
        assert_int_equal(fixture->settings.local_rights.n, 0);
        config(fixture, "[Fleetd]\nLocalRights=root:units-see\n");
        assert_int_equal(load_settings(fixture, "--local-rights=root:keys-read:/b", NULL, NULL), 0);
        assert_int_equal(fixture->settings.local_rights.n, 1);
        assert_string_equal(fixture->settings.local_rights.items[0], "root:keys-read:/b");
}

static void rights_to_keys_close_the_key_api_unless_its_access_is_set(void **state) {
        static const struct {
                const char *text;
                ClientAccess expected;
        } rows[] = {
                { "LocalRights=root:units-see", CLIENT_READ_WRITE },
                { "LocalRights=root:keys-read:/a", CLIENT_CLOSED },
                { "LocalRights=root:units-see,keys-write:/a", CLIENT_CLOSED },
                { "LocalRights=no-such-group:keys-read:/a", CLIENT_CLOSED },
                { "LocalRights=root:keys-read:/a\nLocalRights=", CLIENT_READ_WRITE },
                { "LocalRights=root:keys-read:/a\nClientAccess=read-write", CLIENT_READ_WRITE },
                { "LocalRights=root:keys-read:/a\nClientAccess=read-only", CLIENT_READ_ONLY },
                { "ClientAccess=off", CLIENT_OFF },
        };
        Fixture *fixture = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                char text[128];

                snprintf(text, sizeof(text), "[Fleetd]\n%s\n", rows[i].text);
                config(fixture, text);
                assert_int_equal(load_settings(fixture, NULL, NULL, NULL), 0);
                if (settings_client_access(&fixture->settings) != rows[i].expected)
                        fail_msg("%s", rows[i].text);
        }
}

static void a_bad_line_of_the_file_is_named_with_its_remedy(void **state) {
        static const struct {
                const char *text, *message;
        } rows[] = {
                { "[Fleetd]\nNmae=x\n", "fleetd.conf: line 2: unknown setting Nmae=; see fleetd.conf(5)" },
                { "[Fleet]\nName=x\n",
                  "fleetd.conf: line 2: unknown section [Fleet]; settings belong in [Fleetd]" },
                { "Name=x\n", "line 1: " },
                { "[Fleetd]\nName=a b\n", "fleetd.conf: line 2: Name=: expected a host name" },
                { "[Fleetd]\n\nAgent=maybe\n",
                  "fleetd.conf: line 3: Agent=: expected yes or no, not 'maybe'" },
                { "[Fleetd]\nListenClient=2379\n", "line 2: ListenClient=: expected ADDR:PORT" },
                { "[Fleetd]\nListenClient=127.0.0.1:99999\n", "expected ADDR:PORT" },
                { "[Fleetd]\nAdvertiseClient=10.0.0.1:2379\n",
                  "AdvertiseClient=: expected http://HOST:PORT, for example http://10.0.0.1:2379, not" },
                { "[Fleetd]\nAdvertiseClient=http://10.0.0.1:2379/\n", "expected http://HOST:PORT" },
                { "[Fleetd]\nAdvertiseClient=http://10.0.0.1\n", "expected http://HOST:PORT" },
                { "[Fleetd]\nJoin=10.0.0.1:2380 nowhere\n",
                  "Join=: expected ADDR:PORT, for example 10.0.0.1:2380, not 'nowhere'" },
                { "[Fleetd]\nStateDirectory=var\n", "expected an absolute path, not 'var'" },
                { "[Fleetd]\nQuota=many\n", "expected a size, for example 256M" },
                { "[Fleetd]\nBrakeSec=soon\n", "expected a time span, for example 30s" },
                { "[Fleetd]\nVoters=2\n", "expected 1, 3 or 5, not '2'" },
                { "[Fleetd]\nServiceAddress=alpha\n",
                  "ServiceAddress=: expected the numeric address at which other hosts reach the services" },
                { "[Fleetd]\nServiceAddress=169.254.23.79\n", "10.0.0.1, not '169.254.23.79'" },
                { "[Fleetd]\nServiceAddress=127.0.0.1\n", "10.0.0.1, not '127.0.0.1'" },
                { "[Fleetd]\nPortRange=20000\n",
                  "PortRange=: expected FIRST-LAST of 1024 to 65535, for example 20000-31999, not '20000'" },
                { "[Fleetd]\nReserve=disk:1G\n", "Reserve=: expected memory:SIZE or memory:PERCENT, and "
                                                 "cpu:PERCENT of one core, for example "
                                                 "memory:2G cpu:50%, not 'disk:1G'" },
                { "[Fleetd]\nReserve=memory:-1\n", "not 'memory:-1'" },
                { "[Fleetd]\nReserve=memory:101%\n", "not 'memory:101%'" },
                { "[Fleetd]\nReserve=memory:1G memory:2G\n", "not 'memory:2G'" },
                { "[Fleetd]\nReserve=cpu:2\n", "not 'cpu:2'" },
                { "[Fleetd]\nPortRange=1023-2000\n", "not '1023-2000'" },
                { "[Fleetd]\nPortRange=2001-2000\n", "not '2001-2000'" },
                { "[Fleetd]\nPortRange=2000-65536\n", "not '2000-65536'" },
                { "[Fleetd]\nPortRange=0020000-30000\n", "not '0020000-30000'" },
                { "[Fleetd]\nPortRange=-\n", "not '-'" },
                { "[Fleetd]\nClientAccess=write\n", "expected read-write, read-only or off" },
                { "[Fleetd]\nLocalRights=root:units-sea\n",
                  "line 2: LocalRights=: there is no right 'units-sea': expected keys-read:PREFIX" },
                { "[Fleetd]\nLocalRights=root:keys-write:/_fleet\n",
                  "line 2: LocalRights=: no right extends to keys below /_fleet" },
                { "[Fleetd]\nLocalRights=root:administer\n",
                  "line 2: LocalRights=: no local group administers the cluster" },
                { "[Fleetd]\nLocalRights=root\n", "line 2: LocalRights=: expected GROUP:RIGHT,..." },
                { "[Fleetd]\nMachineID=ABC\n", "expected 32 lower-case hex digits" },
                { "[Fleetd]\nMetadata=novalue\n", "line 2: Metadata=: " },
                { "[Fleetd]\nName=\xff\n", "line 2: " },
                { "[Fleetd\n", "line 1: " },
        };
        Fixture *fixture = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                config(fixture, rows[i].text);
                assert_true(load_settings(fixture, NULL, NULL, NULL) < 0);
                assert_refused(fixture, rows[i].message);
        }
}

static void a_bad_option_is_named_with_its_remedy(void **state) {
        static const struct {
                const char *option, *message;
        } rows[] = {
                { "--nmae=x", "unknown option or missing value: --nmae=x; see fleetd --help" },
                { "--name", "unknown option or missing value: --name" },
                { "-x", "unknown option or missing value: -x" },
                { "start", "fleetd takes no arguments, but got 'start'; did you mean fleetctl?" },
                { "--voters=7", "--voters: expected 1, 3 or 5, not '7'" },
                { "--state-directory=x", "--state-directory: expected an absolute path" },
        };
        Fixture *fixture = *state;

        config(fixture, "");
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                assert_true(load_settings(fixture, rows[i].option, NULL, NULL) < 0);
                assert_refused(fixture, rows[i].message);
        }
}

static void settings_that_contradict_each_other_are_rejected(void **state) {
        Fixture *fixture = *state;

        config(fixture, "");
        assert_int_equal(load_settings(fixture, "--listen-peer=10.0.0.1:2380", NULL, NULL), -EINVAL);
        assert_refused(fixture, "requires PeerKey= or an identity of this host");
        assert_int_equal(load_settings(fixture, "--join=10.0.0.1:2380", NULL, NULL), -EINVAL);
        assert_refused(fixture, "Join=10.0.0.1:2380 requires ListenPeer=");
        assert_int_equal(load_settings(fixture, "--listen-peer=0.0.0.0:2380", "--peer-key=/k", NULL),
                         -EINVAL);
        assert_refused(fixture, "expected the one address at which other hosts reach this one");
}

static void limits_are_read_and_kept_within_their_bounds(void **state) {
        static const struct {
                const char *option, *message;
        } rows[] = {
                { "--limit-key-size=9K", "--limit-key-size: expected 64 to 8K, not 9K" },
                { "--limit-key-size=63", "expected 64 to 8K, not 63" },
                { "--limit-value-size=241K", "--limit-value-size: expected 1K to 240K, not 241K" },
                { "--limit-connections=15", "--limit-connections: expected 16 to 1000000, not 15" },
                { "--limit-connections=many", "--limit-connections: expected a number, not 'many'" },
                { "--limit-head-sec=0", "--limit-head-sec: expected 100ms to 10min, not 0" },
                { "--limit-buffer-size=16M", "LimitBufferSize= covers all requests and answers" },
                { "--limit-line-size=64K", "LimitLineSize= cannot be above LimitHeadSize=" },
        };
        Fixture *fixture = *state;
        const Settings *s = &fixture->settings;

        config(fixture, "[Fleetd]\nLimitAdmission=50\nLimitKeySize=64\nLimitWatches="
                        "7\nLimitConnectionsPerClient=3\nLimitHeadSec="
                        "2min\nLimitBufferSize=1G\n");
        assert_int_equal(load_settings(fixture, "--limit-answer-nodes=1000", "--limit-idle-sec=500ms",
                                       "--limit-fields=8"),
                         0);
        assert_int_equal(s->admission, 50);
        assert_int_equal(s->limits.key_size, 64);
        assert_int_equal(s->limits.watches, 7);
        assert_int_equal(s->limits.answer_nodes, 1000);
        assert_int_equal(s->limits.answer_size, 32 << 20);
        assert_int_equal(s->http.connections, 10000);
        assert_int_equal(s->http.connections_per_client, 3);
        assert_int_equal(s->http.head_ms, 120000);
        assert_int_equal(s->http.idle_ms, 500);
        assert_int_equal(s->http.fields, 8);
        assert_int_equal(s->http.buffer_size, 1 << 30);

        config(fixture, "");
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                assert_true(load_settings(fixture, rows[i].option, NULL, NULL) < 0);
                assert_refused(fixture, rows[i].message);
        }
}

static void a_file_that_was_named_must_exist(void **state) {
        Fixture *fixture = *state;

        assert_int_equal(load_settings(fixture, NULL, NULL, NULL), -ENOENT);
        assert_refused(fixture, "Failed to read ");
        assert_refused(fixture, "No such file");
}

static void an_oversized_file_is_rejected(void **state) {
        _cleanup_free_ char *text = calloc(1, 70 * 1024);
        Fixture *fixture = *state;

        memset(text, '#', 70 * 1024 - 1);
        config(fixture, text);
        assert_int_equal(load_settings(fixture, NULL, NULL, NULL), -EFBIG);
        assert_refused(fixture, "Failed to read ");
}

/* -- Reload in a running daemon -- */

static bool names(const Names *got, const char *wanted) {
        char text[300] = "";

        for (size_t i = 0; i < got->n; i++)
                snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", i ? " " : "",
                         got->items[i]);
        return streq(text, wanted);
}

static void a_running_daemon_applies_some_changes_and_names_those_that_require_a_restart(void **state) {
        Fixture *fixture = *state;
        _cleanup_settings_ Settings running = {};
        _cleanup_names_ Names taken = {}, restart = {};

        config(fixture, "[Fleetd]\nMetadata=disk=ssd\nServiceAddress=10.10.10.10\nDebug=no\n");
        assert_int_equal(load_settings(fixture, NULL, NULL, NULL), 0);
        running = fixture->settings;
        fixture->settings = (Settings) {};

        config(fixture,
               "[Fleetd]\nMetadata=disk=hdd\nBrakeSec=5s\nLimitValueSize=2K\nDebug=yes\nListenClient="
               "127.0.0.1:4001\nAgent=no\n"
               "ClientAccess=read-only\nQuota=1M\nBootWaitSec=1s\nAdvertiseClient=http://"
               "10.0.0.1:2379\nStateDirectory=/"
               "state\nServiceAddress=10.0.0.1\nPortRange=5000-5009\nReserve=cpu:50%\n");
        assert_int_equal(load_settings(fixture, NULL, NULL, NULL), 0);
        assert_int_equal(settings_take(&running, &fixture->settings, &taken, &restart), 0);
        assert_true(names(&taken, "AdvertiseClient Metadata Reserve BrakeSec LimitValueSize ServiceAddress "
                                  "PortRange Debug"));
        assert_true(names(&restart, "StateDirectory ListenClient Agent ClientAccess Quota"));

        assert_string_equal(running.metadata.items[0].value, "hdd");
        assert_string_equal(running.advertise_client, "http://10.0.0.1:2379");
        assert_int_equal(running.brake_ms, 5000);
        assert_int_equal(running.limits.value_size, 2048);
        assert_string_equal(running.service_address, "10.0.0.1");
        assert_int_equal(running.port_last - running.port_first, 9);
        assert_true(running.debug);
        assert_string_equal(running.listen_client, "127.0.0.1:2379");
        assert_true(running.agent);
        assert_int_equal(settings_client_access(&running), CLIENT_READ_WRITE);
        assert_int_equal(running.quota, 256 << 20);
}

static void unchanged_settings_are_not_applied(void **state) {
        Fixture *fixture = *state;
        _cleanup_settings_ Settings running = {};
        _cleanup_names_ Names taken = {}, restart = {};

        config(fixture, "[Fleetd]\nMetadata=disk=ssd\nLimitLineSize=2K\nServiceAddress=10.0.0.1\n");
        assert_int_equal(load_settings(fixture, NULL, NULL, NULL), 0);
        running = fixture->settings;
        fixture->settings = (Settings) {};
        assert_int_equal(load_settings(fixture, NULL, NULL, NULL), 0);
        assert_int_equal(settings_take(&running, &fixture->settings, &taken, &restart), 0);
        assert_int_equal(taken.n + restart.n, 0);
}

static void warned(void *userdata, int priority, const LogFields *fields, const char *message) {
        if (priority == LOG_WARNING)
                snprintf(userdata, 600, "%s", message);
}

static void a_dangling_drop_in_is_skipped_with_a_warning(void **state) {
        Fixture *fixture = *state;
        _cleanup_free_ char *dir = scratch_path(fixture->scratch, "fleetd.conf.d"),
                            *before = scratch_path(dir, "10-a.conf"),
                            *dangling = scratch_path(dir, "20-b.conf"),
                            *after = scratch_path(dir, "30-c.conf");
        char warning[600] = "";

        config(fixture, "");
        assert_int_equal(load_settings(fixture, NULL, NULL, NULL), 0);
        assert_int_equal(mkdir(dir, 0700), 0);
        scratch_write(before, "[Fleetd]\nName=one\nAgent=no\n");
        assert_int_equal(symlink("/nonexistent/20-b.conf", dangling), 0);
        scratch_write(after, "[Fleetd]\nName=three\n");
        log_set_sink(warned, warning);
        assert_int_equal(settings_read_drop_ins(&fixture->settings, dir, &fixture->err), 0);
        log_set_sink(NULL, NULL);
        assert_string_equal(fixture->settings.name, "three");
        assert_false(fixture->settings.agent);
        assert_non_null(strstr(warning, "/20-b.conf"));
        assert_non_null(strstr(warning, "symbolic link to a file that does not exist"));

        /* Other errors end the daemon. */
        scratch_write(after, "[Fleetd]\nName=three\nNoSuch=1\n");
        assert_true(settings_read_drop_ins(&fixture->settings, dir, &fixture->err) < 0);
}

/* As systemd reads its own drop-ins. */
static void a_linked_drop_in_is_read_and_one_to_dev_null_is_skipped(void **state) {
        Fixture *fixture = *state;
        _cleanup_free_ char *dir = scratch_path(fixture->scratch, "fleetd.conf.d"),
                            *elsewhere = scratch_path(fixture->scratch, "elsewhere"),
                            *link = scratch_path(dir, "10-a.conf"), *masked = scratch_path(dir, "20-b.conf"),
                            *self = scratch_path(dir, "30-c.conf");

        config(fixture, "");
        assert_int_equal(load_settings(fixture, NULL, NULL, NULL), 0);
        assert_int_equal(mkdir(dir, 0700), 0);
        scratch_write(elsewhere, "[Fleetd]\nName=one\n");
        assert_int_equal(symlink("../elsewhere", link), 0);
        assert_int_equal(symlink("/dev/null", masked), 0);
        errno = ENOENT; /* of an earlier call */
        assert_int_equal(settings_read_drop_ins(&fixture->settings, dir, &fixture->err), 0);
        assert_string_equal(fixture->settings.name, "one");
        assert_int_equal(symlink("30-c.conf", self), 0);
        assert_int_equal(settings_read_drop_ins(&fixture->settings, dir, &fixture->err), -ELOOP);
        assert_non_null(strstr(fixture->err.message, "/30-c.conf"));
}

#define AT(member) offsetof(Settings, member)

static const struct {
        const char *option;
        size_t at;
        uint64_t usual;
        const char *least, *below, *most, *above;
        uint64_t least_value, most_value;
} limits[] = {
        { "quota-keys", AT(quota_keys), 0, "0", NULL, "1000000000", "1000000001", 0, 1000000000 },
        { "limit-key-size", AT(limits.key_size), 8192, "64", "63", "8K", "8193", 64, 8192 },
        { "limit-value-size", AT(limits.value_size), 240 * 1024, "1K", "1023", "240K", "245761", 1024,
          240 * 1024 },
        { "limit-body-size", AT(limits.body_size), 2 << 20, "64K", "65535", "16M", "16777217", 65536,
          16 << 20 },
        { "limit-answer-nodes", AT(limits.answer_nodes), 100000, "1000", "999", "10000000", "10000001", 1000,
          10000000 },
        { "limit-answer-size", AT(limits.answer_size), 32 << 20, "1M", "1048575", "64M", "4294967297",
          1 << 20, 64 << 20 },
        { "limit-watches", AT(limits.watches), 100000, "1", "0", "100000", "100001", 1, 100000 },
        { "limit-connections", AT(http.connections), 10000, "16", "15", "1000000", "1000001", 16, 1000000 },
        { "limit-connections-per-client", AT(http.connections_per_client), 0, "0", NULL, "1000000", "1000001",
          0, 1000000 },
        { "limit-line-size", AT(http.line_size), 16 << 10, "1K", "1023", "32K", "65537", 1024, 32 << 10 },
        { "limit-head-size", AT(http.head_size), 32 << 10, "16K", "2047", "256K", "262145", 16 << 10,
          256 << 10 },
        { "limit-fields", AT(http.fields), 64, "8", "7", "1000", "1001", 8, 1000 },
        { "limit-ahead-size", AT(http.ahead_size), 64 << 10, "1K", "1023", "16M", "16777217", 1024,
          16 << 20 },
        { "limit-backlog-size", AT(http.backlog_size), 256 << 10, "16K", "16383", "64M", "67108865", 16 << 10,
          64 << 20 },
        { "limit-buffer-size", AT(http.buffer_size), 64 << 20, "32M", "1048575", "16G", "17179869185",
          32 << 20, 16ull << 30 },
        { "limit-head-sec", AT(http.head_ms), 10000, "100ms", "99ms", "10min", "601s", 100, 600000 },
        { "limit-body-sec", AT(http.body_ms), 10000, "100ms", "99ms", "10min", "601s", 100, 600000 },
        { "limit-answer-sec", AT(http.answer_ms), 10000, "100ms", "99ms", "10min", "601s", 100, 600000 },
        { "limit-idle-sec", AT(http.idle_ms), 60000, "100ms", "99ms", "1d", "86401s", 100, 86400000 },
        { "brake-sec", AT(brake_ms), 30000, "0", NULL, "1h", NULL, 0, 3600000 },
        { "boot-wait-sec", AT(boot_wait_ms), 30000, "0", NULL, "1h", NULL, 0, 3600000 },
        { "quota", AT(quota), 256 << 20, "1", NULL, "1G", NULL, 1, 1 << 30 },
        { "voters", AT(voters), 0, "1", "0", "5", "6", 1, 5 },
};

/* Each is read by its own name into its own member, within its bounds. */
static void every_limit_has_its_default_its_bounds_and_its_place(void **state) {
        Fixture *fixture = *state;

        config(fixture, "");
        for (size_t i = 0; i < ELEMENTS(limits); i++) {
                const char *given[] = { NULL, limits[i].least, limits[i].most, limits[i].below,
                                        limits[i].above };
                const uint64_t values[] = { limits[i].usual, limits[i].least_value, limits[i].most_value };

                for (size_t k = 0; k < ELEMENTS(given); k++) {
                        bool buffer = streq(limits[i].option, "limit-answer-size") &&
                                      k == 2; /* one bounds the other */
                        char option[100];

                        if (k > 0 && !given[k])
                                continue;
                        snprintf(option, sizeof(option), "--%s=%s", limits[i].option, given[k] ?: "");
                        if (k >= ELEMENTS(values)) {
                                assert_true(load_settings(fixture, option, NULL, NULL) < 0);
                                assert_refused(fixture, limits[i].option);
                                continue;
                        }
                        if (load_settings(fixture, k > 0 ? option : NULL,
                                          buffer ? "--limit-buffer-size=64M" : NULL, NULL) < 0)
                                fail_msg("%s: %s", option, fixture->err.message);
                        if (*(uint64_t *) ((char *) &fixture->settings + limits[i].at) != values[k])
                                fail_msg("%s is not %llu", option, (unsigned long long) values[k]);
                }
        }
        /* Both. */
        assert_int_equal(
                load_settings(fixture, "--limit-answer-size=64M", "--limit-buffer-size=67108863", NULL),
                -EINVAL);
        assert_int_equal(load_settings(fixture, "--limit-answer-size=1M", "--limit-body-size=2M",
                                       "--limit-buffer-size=2097151"),
                         -EINVAL);
        assert_int_equal(load_settings(fixture, "--limit-answer-size=1M", "--limit-body-size=2M",
                                       "--limit-buffer-size=2M"),
                         0);
        assert_int_equal(load_settings(fixture, "--limit-line-size=16K", "--limit-head-size=16383", NULL),
                         -EINVAL);
        assert_int_equal(load_settings(fixture, "--limit-line-size=16K", "--limit-head-size=16K", NULL), 0);
        assert_int_equal(load_settings(fixture, "--limit-line-size=1K", "--limit-head-size=2K", NULL), 0);
        assert_int_equal(load_settings(fixture, "--limit-line-size=64K", "--limit-head-size=64K", NULL), 0);
        assert_int_equal(load_settings(fixture, "--limit-answer-size=4G", "--limit-buffer-size=4G", NULL), 0);
        assert_int_equal(load_settings(fixture, "--limit-answer-size=1M", "--limit-body-size=64K",
                                       "--limit-buffer-size=1M"),
                         0);
}

static const struct {
        const char *option, *value;
        size_t at;
} places[] = {
        { "state-directory", "/a", AT(state_directory) },
        { "runtime-directory", "/b", AT(runtime_directory) },
        { "unit-directory", "", AT(unit_directory) },
        { "cluster-file", "/d", AT(cluster_file) },
        { "listen-client", "[::1]:1", AT(listen_client) },
        { "advertise-client", "https://h:65535", AT(advertise_client) },
        { "advertise-client", "http://h:1", AT(advertise_client) },
        { "listen-socket", "/e", AT(listen_socket) },
        { "peer-key", "/f", AT(peer_key) },
        { "name", "a-B.9_z", AT(name) },
        { "machine-id", "00000000000000000000000000000001", AT(machine_id) },
        { "backup", "x", AT(backup) },
        { "restore", "y", AT(restore) },
};

static void every_path_and_name_has_its_place(void **state) {
        static const char *const refused[] = {
                "--advertise-client=http://h:65536",
                "--advertise-client=http://h:0",
                "--advertise-client=http://:1",
                "--advertise-client=http://h",
                "--advertise-client=ftp://h:1",
                "--advertise-client=http://a b:1",
                "--advertise-client=http://h:x",
                "--name=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                "--name=a/b",
                "--listen-peer=[::]:1",
                "--backup=",
                "--restore=",
                "--force",
                "--voters=x",
                "--agent=",
                "--config",
        };
        static const char long_name[] =
                "--name=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
        char long_url[240] = "--advertise-client=http://";
        Fixture *fixture = *state;

        config(fixture, "");
        for (size_t i = 0; i < ELEMENTS(places); i++) {
                char option[100], name[100];

                snprintf(option, sizeof(option), "--%s=%s", places[i].option, places[i].value);
                if (load_settings(fixture, option, NULL, NULL) < 0)
                        fail_msg("%s: %s", option, fixture->err.message);
                assert_string_equal(*(char **) ((char *) &fixture->settings + places[i].at), places[i].value);
                snprintf(name, sizeof(name), "--%s", places[i].option);
                assert_int_equal(load_settings(fixture, name, places[i].value, NULL), 0);
                assert_string_equal(*(char **) ((char *) &fixture->settings + places[i].at), places[i].value);
        }
        for (size_t i = 0; i < ELEMENTS(refused); i++)
                if (load_settings(fixture, refused[i], NULL, NULL) >= 0)
                        fail_msg("%s is taken", refused[i]);
        assert_int_equal(load_settings(fixture, long_name, NULL, NULL), 0);
        memset(long_url + strlen(long_url), 'h', strlen("--advertise-client=") + 200 - 2 - strlen(long_url));
        strcat(long_url, ":1");
        assert_int_equal(load_settings(fixture, long_url, NULL, NULL), 0);
        memcpy(long_url + strlen(long_url) - 2, "h:1", 4);
        assert_int_equal(load_settings(fixture, long_url, NULL, NULL), -EINVAL);

        assert_int_equal(load_settings(fixture, "--recover", "--force", NULL), 0);
        assert_true(fixture->settings.recover && fixture->settings.force);
        assert_int_equal(load_settings(fixture, "--recover", NULL, NULL), 0);
        assert_true(fixture->settings.recover && !fixture->settings.force);
        assert_int_equal(load_settings(fixture, "--recover", "--backup=x", NULL), -EINVAL);
        assert_refused(fixture, "--recover, --reset, --backup, --backup-cluster-key and --restore "
                                "exclude each other");
        assert_int_equal(load_settings(fixture, "--restore=y", "--backup=x", NULL), -EINVAL);
        assert_int_equal(load_settings(fixture, "--backup=", NULL, NULL), -EINVAL);
        assert_refused(fixture,
                       "--backup, --backup-cluster-key, --restore and --cluster-key require a file name");
        assert_int_equal(load_settings(fixture, "--restore=x", "--cluster-key=", NULL), -EINVAL);
        assert_int_equal(load_settings(fixture, "--cluster-key=x", NULL, NULL), -EINVAL);
        assert_refused(fixture, "--cluster-key requires --restore");
        assert_int_equal(load_settings(fixture, "--backup-cluster-key=x", "--backup=y", NULL), -EINVAL);
        assert_int_equal(load_settings(fixture, "--restore=x", "--cluster-key", "y"), 0);
        assert_string_equal(fixture->settings.restore_key, "y");
        assert_int_equal(load_settings(fixture, "--force", NULL, NULL), -EINVAL);
        assert_refused(fixture, "--force requires --recover");
        assert_int_equal(load_settings(fixture, "--engine=no", "--debug=yes", "--client-access=off"), 0);
        assert_true(!fixture->settings.engine && fixture->settings.debug && fixture->settings.agent);
        assert_int_equal(fixture->settings.client_access, CLIENT_OFF);
}

static void drop_in(const char *dir, unsigned number, const char *ending) {
        _cleanup_free_ char *path = NULL;
        char name[40], text[40];

        snprintf(name, sizeof(name), "%s%03u%s", number == 0 ? "." : "", number, ending);
        snprintf(text, sizeof(text), "[Fleetd]\nName=n%u\n", number);
        path = scratch_path(dir, name);
        scratch_write(path, text);
}

static void drop_ins_are_read_in_order_and_counted(void **state) {
        Fixture *fixture = *state;
        _cleanup_free_ char *dir = scratch_path(fixture->scratch, "fleetd.conf.d");

        config(fixture, "");
        assert_int_equal(load_settings(fixture, NULL, NULL, NULL), 0);
        assert_int_equal(settings_read_drop_ins(&fixture->settings, dir, &fixture->err),
                         0); /* it does not exist */
        assert_int_equal(settings_read_drop_ins(&fixture->settings, fixture->config, &fixture->err),
                         -ENOTDIR);
        assert_non_null(strstr(fixture->err.message, "Failed to list "));
        assert_int_equal(mkdir(dir, 0700), 0);
        drop_in(dir, 0, ".conf");
        drop_in(dir, 1, ".cnf");
        for (unsigned i = 0; i < 256; i++)
                drop_in(dir, 2 + i, ".conf");
        assert_int_equal(settings_read_drop_ins(&fixture->settings, dir, &fixture->err), 0);
        assert_string_equal(fixture->settings.name, "n257");
        drop_in(dir, 999, ".conf");
        assert_int_equal(settings_read_drop_ins(&fixture->settings, dir, &fixture->err), -E2BIG);
        assert_non_null(strstr(fixture->err.message, ": more than 256 files"));
}

static void the_source_of_the_settings_is_named(void **state) {
        static char *const without[] = { (char *) "fleetd", (char *) "--agent=no" };
        static char *const with[] = { (char *) "fleetd", (char *) "--config=/a", (char *) "--config",
                                      (char *) "/b", (char *) "--agent=no" };

        assert_string_equal(settings_source(2, without),
                            "/etc/fleet/fleetd.conf and /etc/fleet/fleetd.conf.d");
        assert_string_equal(settings_source(5, with), "/b");
        assert_string_equal(settings_source(2, with), "/a");
}

int main(void) {
#define in_fixture(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = {
                in_fixture(without_settings_a_host_is_a_cluster_of_one),
                in_fixture(every_kind_of_value_is_read_from_the_file),
                in_fixture(options_override_the_file),
                in_fixture(lists_of_the_command_line_replace_those_of_the_file),
                in_fixture(an_empty_value_in_the_file_clears_a_list),
                in_fixture(rights_to_keys_close_the_key_api_unless_its_access_is_set),
                in_fixture(rights_of_local_groups_add_up_and_an_unknown_group_is_a_warning),
                in_fixture(a_bad_line_of_the_file_is_named_with_its_remedy),
                in_fixture(a_bad_option_is_named_with_its_remedy),
                in_fixture(settings_that_contradict_each_other_are_rejected),
                in_fixture(limits_are_read_and_kept_within_their_bounds),
                in_fixture(a_file_that_was_named_must_exist),
                in_fixture(an_oversized_file_is_rejected),
                in_fixture(a_dangling_drop_in_is_skipped_with_a_warning),
                in_fixture(a_linked_drop_in_is_read_and_one_to_dev_null_is_skipped),
                in_fixture(a_running_daemon_applies_some_changes_and_names_those_that_require_a_restart),
                in_fixture(unchanged_settings_are_not_applied),
                in_fixture(every_limit_has_its_default_its_bounds_and_its_place),
                in_fixture(every_path_and_name_has_its_place),
                in_fixture(drop_ins_are_read_in_order_and_counted),
                cmocka_unit_test(the_source_of_the_settings_is_named),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
