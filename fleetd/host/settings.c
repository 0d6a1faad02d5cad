#include "fleetd/host/settings.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "base/file.h"
#include "base/log.h"
#include "fleetd/registry/local_rights.h"
#include "io/tls_roles.h"
#include "kvstore/command/command.h"

#define CONFIG_FILE     "/etc/fleet/fleetd.conf"
#define CONFIG_DROP_INS CONFIG_FILE ".d"

enum {
        SETTINGS_FILE_MAX = 64 * 1024,
        SETTINGS_DROP_INS_MAX = 256,
        SERVER_NAMES_MAX = TLS_NAMES_MAX - 1, /* and the address of ListenTLS= */
};

/* -- Values -- */

static int set_text(const char *value, void *field, Error *err) {
        char *copy = strdup(value);

        if (!copy)
                return -ENOMEM;
        free(*(char **) field);
        *(char **) field = copy;
        return 0;
}

static int set_path(const char *value, void *field, Error *err) {
        if (value[0] && value[0] != '/')
                return error_set(err, -EINVAL, "expected an absolute path, not '%s'", value);
        return set_text(value, field, err);
}

static int set_address(const char *value, void *field, Error *err) {
        char host[ADDRESS_SIZE];
        uint16_t port;

        if (streq(value, "off"))
                return set_text("", field, err);
        if (value[0] && parse_address(value, host, sizeof(host), &port) < 0)
                return error_set(err, -EINVAL, "expected ADDR:PORT, for example 127.0.0.1:2379, not '%s'",
                                 value);
        return set_text(value, field, err);
}

/* http://HOST:PORT, as etcd's clients expect: they drop a path. */
static int set_url(const char *value, void *field, Error *err) {
        const char *scheme = starts_with(value, "https://") ? "https://" : "http://";
        const char *host = starts_with(value, scheme) ? value + strlen(scheme) : NULL;
        const char *colon = host ? strrchr(host, ':') : NULL;
        uint64_t port;

        if (value[0] && (!colon || colon == host || strlen(value) > 200 || value[strcspn(value, ", \t")] ||
                         parse_u64(colon + 1, &port) < 0 || port == 0 || port > 65535))
                return error_set(err, -EINVAL,
                                 "expected http://HOST:PORT, for example http://10.0.0.1:2379, not '%s'",
                                 value);
        return set_text(value, field, err);
}

static int set_machine_id(const char *value, void *field, Error *err) {
        if (!machine_id_is_valid(value))
                return error_set(err, -EINVAL, "expected 32 lower-case hex digits, not '%s'", value);
        return set_text(value, field, err);
}

static int set_name(const char *value, void *field, Error *err) {
        if (!value[0] || strlen(value) > 63 ||
            value[strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")])
                return error_set(
                        err, -EINVAL,
                        "expected a host name of at most 63 letters, digits, dots and dashes, not '%s'",
                        value);
        return set_text(value, field, err);
}

static int add_addresses(const char *value, void *field, Error *err) {
        Names *names = field;
        int r = 0;

        if (!value[0]) {
                names_done(names);
                *names = (Names) {};
                return 0;
        }
        for (const char *p = value + strspn(value, ", \t"); r == 0 && *p; p += strspn(p, ", \t")) {
                size_t size = strcspn(p, ", \t");
                char address[128], host[ADDRESS_SIZE];
                uint16_t port;

                snprintf(address, sizeof(address), "%.*s", (int) MIN(size, sizeof(address) - 1), p);
                if (parse_address(address, host, sizeof(host), &port) < 0)
                        return error_set(err, -EINVAL,
                                         "expected ADDR:PORT, for example 10.0.0.1:2380, not '%s'", address);
                if (!names_have(names, address))
                        r = names_add(names, address, strlen(address));
                p += size;
        }
        return r;
}

static int add_server_names(const char *value, void *field, Error *err) {
        Names *names = field;
        int r = 0;

        if (!value[0]) {
                names_done(names);
                *names = (Names) {};
                return 0;
        }
        for (const char *p = value + strspn(value, ", \t"); r == 0 && *p; p += strspn(p, ", \t")) {
                size_t size = strcspn(p, ", \t");
                _cleanup_free_ char *name = strndup(p, size);

                if (!name)
                        return -ENOMEM;
                if (!tls_name_is_valid(name))
                        return error_set(
                                err, -EINVAL,
                                "expected a DNS name without wildcard, or an IP address without port, not "
                                "'%.80s'",
                                name);
                if (!names_have(names, name))
                        r = names->n < SERVER_NAMES_MAX ?
                                    names_add(names, name, size) :
                                    error_set(err, -E2BIG, "at most %d names", SERVER_NAMES_MAX);
                p += size;
        }
        return r;
}

static int add_metadata(const char *value, void *field, Error *err) {
        Pairs *all = field;
        _cleanup_pairs_ Pairs more = {};
        int r;

        if (!value[0]) {
                pairs_done(all);
                *all = (Pairs) {};
                return 0;
        }
        r = machine_metadata_parse(value, &more, err);
        for (size_t i = 0; r >= 0 && i < more.n; i++)
                r = pairs_set(all, more.items[i].key, more.items[i].value);
        return r;
}

static int set_bool(const char *value, void *field, Error *err) {
        if (parse_bool(value, field) < 0)
                return error_set(err, -EINVAL, "expected yes or no, not '%s'", value);
        return 0;
}

static int set_span(const char *value, void *field, Error *err) {
        if (parse_span_ms(value, field) < 0)
                return error_set(err, -EINVAL, "expected a time span, for example 30s, not '%s'", value);
        return 0;
}

static int set_size(const char *value, void *field, Error *err) {
        if (parse_size(value, field) < 0)
                return error_set(err, -EINVAL, "expected a size, for example 256M, not '%s'", value);
        return 0;
}

static int set_count(const char *value, void *field, Error *err) {
        if (parse_u64(value, field) < 0)
                return error_set(err, -EINVAL, "expected a number, not '%s'", value);
        return 0;
}

static int set_voters(const char *value, void *field, Error *err) {
        uint64_t v;

        if (parse_u64(value, &v) < 0 || (v != 1 && v != 3 && v != 5))
                return error_set(err, -EINVAL, "expected 1, 3 or 5, not '%s'", value);
        *(uint64_t *) field = v;
        return 0;
}

static int set_access(const char *value, void *field, Error *err) {
        static const char *const names[] = { "read-write", "read-only", "off" };

        for (size_t i = 0; i < ELEMENTS(names); i++)
                if (streq(value, names[i])) {
                        *(ClientAccess *) field = i;
                        return 0;
                }
        return error_set(err, -EINVAL, "expected read-write, read-only or off, not '%s'", value);
}

static int set_service_address(const char *value, void *field, Error *err) {
        if (value[0] && !endpoint_address_is_valid(value))
                return error_set(err, -EINVAL,
                                 "expected the numeric address at which other hosts reach the services of "
                                 "this one, for example 10.0.0.1, not '%s'",
                                 value);
        if (!ip_address_canonical(value, field))
                *(char *) field = 0;
        return 0;
}

/* 'field' is port_first, which port_last follows. */
static int set_port_range(const char *value, void *field, Error *err) {
        size_t size = strcspn(value, "-");
        uint64_t first, last;
        char text[6] = "";

        if (size < sizeof(text))
                memcpy(text, value, size);
        if (!value[size] || parse_u64(text, &first) < 0 || parse_u64(value + size + 1, &last) < 0 ||
            first < PORT_DYNAMIC_MIN || first > last || last > UINT16_MAX)
                return error_set(err, -EINVAL, "expected FIRST-LAST of %d to %d, for example %d-%d, not '%s'",
                                 PORT_DYNAMIC_MIN, UINT16_MAX, PORT_RANGE_FIRST, PORT_RANGE_LAST, value);
        ((uint16_t *) field)[0] = (uint16_t) first;
        ((uint16_t *) field)[1] = (uint16_t) last;
        return 0;
}

static_assert(offsetof(Settings, port_last) == offsetof(Settings, port_first) + sizeof(uint16_t),
              "the row of PortRange= has both");

#define FIELD(member) offsetof(Settings, member), sizeof(((Settings *) NULL)->member)

/* One row for each key of fleetd.conf and option; fleetd.conf(5) documents the same names. */
static const struct {
        const char *key, *option, *argument, *help;
        int (*set)(const char *value, void *field, Error *err);
        size_t offset, size;
        /* When a change takes effect. AT_NEXT_START: only read at a start, no restart is requested. */
        enum { AT_RESTART, AT_RELOAD, AT_NEXT_START } applied;
        const char *min, *max; /* limits, written as the setting; NULL: none */
} table[] = {
        { "StateDirectory", "state-directory", "DIR", "log, tree and assignment records (/var/lib/fleet)",
          set_path, FIELD(state_directory) },
        { "RuntimeDirectory", "runtime-directory", "DIR", "unit files in force (/run/fleet)", set_path,
          FIELD(runtime_directory) },
        { "UnitDirectory", "unit-directory", "DIR",
          "watched folder of unit files (/etc/fleet/units); empty: none", set_path, FIELD(unit_directory) },
        { "ClusterFile", "cluster-file", "FILE", "addresses of the other hosts; empty: none", set_path,
          FIELD(cluster_file) },
        { "ListenClient", "listen-client", "ADDR:PORT", "listener of the key API (127.0.0.1:2379); off: none",
          set_address, FIELD(listen_client) },
        { "AdvertiseClient", "advertise-client", "URL",
          "URL of this host's key API for other machines (none)", set_url, FIELD(advertise_client),
          AT_RELOAD },
        { "ListenPeer", "listen-peer", "ADDR:PORT", "listener for other hosts (none); requires --peer-key",
          set_address, FIELD(listen_peer) },
        { "ListenSocket", "listen-socket", "PATH", "listener for root and group fleet (/run/fleet.sock)",
          set_path, FIELD(listen_socket) },
        { "ListenTLS", "listen-tls", "ADDR:PORT", "listener for users with certificates (none)", set_address,
          FIELD(listen_tls) },
        { "ServerNames", "server-names", "NAME,...",
          "names and addresses of ListenTLS in addition to its own; may be repeated", add_server_names,
          FIELD(server_names) },
        { "PeerKey", "peer-key", "FILE", "file with the key of the cluster, mode 0600", set_path,
          FIELD(peer_key) },
        { "Join", "join", "ADDR:PORT", "a host of the cluster to join; may be repeated", add_addresses,
          FIELD(join), AT_NEXT_START },
        { "Name", "name", "NAME", "name of this machine for people (its host name)", set_name, FIELD(name) },
        { "MachineID", "machine-id", "HEX", "identity (/etc/machine-id); for tests", set_machine_id,
          FIELD(machine_id) },
        { "Metadata", "metadata", "K=V,...", "attributes that units may require; may be repeated",
          add_metadata, FIELD(metadata), AT_RELOAD },
        { "Reserve", "reserve", "memory:SIZE cpu:PERCENT",
          "memory and CPU that units do not get (memory: 5%)", capacity_parse_reserve, FIELD(reserve),
          AT_RELOAD },
        { "Agent", "agent", "BOOL", "run units on this host (yes)", set_bool, FIELD(agent) },
        { "Engine", "engine", "BOOL", "place units while this host leads (yes)", set_bool, FIELD(engine) },
        { "ClientAccess", "client-access", "MODE", "of ListenClient: read-write, read-only, off", set_access,
          FIELD(client_access) },
        { "LocalRights", "local-rights", "GROUP:RIGHT,...", "rights of a local group; may be repeated",
          local_rights_set, FIELD(local_rights), AT_RELOAD },
        { "BrakeSec", "brake-sec", "SPAN", "pause before moving units when many hosts vanish (30s)", set_span,
          FIELD(brake_ms), AT_RELOAD },
        { "BootWaitSec", "boot-wait-sec", "SPAN", "wait for the cluster before assigned units start (30s)",
          set_span, FIELD(boot_wait_ms), AT_NEXT_START },
        { "Quota", "quota", "SIZE", "bytes of users' keys and values (256M)", set_size, FIELD(quota) },
        { "QuotaKeys", "quota-keys", "N", "users' keys and directories; 0: as Quota= permits (0)", set_count,
          FIELD(quota_keys), AT_RESTART, "0", "1000000000" },
        { "Voters", "voters", "N", "number of voters: 1, 3 or 5 (3 from three hosts on)", set_voters,
          FIELD(voters) },
        { "SingletonLeaseSec", "singleton-lease-sec", "SPAN", "lease of singletons in a new cluster (10s)",
          set_span, FIELD(singleton_lease_ms), AT_RESTART, "2s", "5min" },
        { "SealWith", "seal-with", "KEY", "seal the cluster key on disk: no, host, tpm2, host+tpm2 (no)",
          seal_with_set, FIELD(seal_with) },
        { "LimitAdmission", "limit-admission", "N", "connections of other hosts in a second (500)", set_count,
          FIELD(admission), AT_RESTART, "10", "100000" },
        { "LimitSessions", "limit-sessions", "N", "sessions that other hosts dial (20000)", set_count,
          FIELD(sessions), AT_RESTART, "100", "100000" },
        { "LimitKeySize", "limit-key-size", "SIZE", "of a key (8K)", set_size, FIELD(limits.key_size),
          AT_RELOAD, "64", "8K" },
        { "LimitValueSize", "limit-value-size", "SIZE", "of a value (240K)", set_size,
          FIELD(limits.value_size), AT_RELOAD, "1K", "240K" },
        { "LimitBodySize", "limit-body-size", "SIZE", "of a request's body (2M)", set_size,
          FIELD(limits.body_size), AT_RELOAD, "64K", "16M" },
        { "LimitAnswerNodes", "limit-answer-nodes", "N", "nodes in one answer (100000)", set_count,
          FIELD(limits.answer_nodes), AT_RELOAD, "1000", "10000000" },
        { "LimitAnswerSize", "limit-answer-size", "SIZE", "of one answer (32M)", set_size,
          FIELD(limits.answer_size), AT_RELOAD, "1M", "4G" },
        { "LimitWatches", "limit-watches", "N", "clients that wait for a key (100000)", set_count,
          FIELD(limits.watches), AT_RELOAD, "1", "100000" },
        { "LimitConnections", "limit-connections", "N", "connections at each listener (10000)", set_count,
          FIELD(http.connections), AT_RELOAD, "16", "1000000" },
        { "LimitConnectionsPerClient", "limit-connections-per-client", "N",
          "connections of one address, or of one user of the socket; 0: no such limit (0)", set_count,
          FIELD(http.connections_per_client), AT_RELOAD, "0", "1000000" },
        { "LimitLineSize", "limit-line-size", "SIZE", "of a request line (16K)", set_size,
          FIELD(http.line_size), AT_RELOAD, "1K", "64K" },
        { "LimitHeadSize", "limit-head-size", "SIZE", "of a request's head (32K)", set_size,
          FIELD(http.head_size), AT_RELOAD, "2K", "256K" },
        { "LimitFields", "limit-fields", "N", "header fields of a request (64)", set_count,
          FIELD(http.fields), AT_RELOAD, "8", "1000" },
        { "LimitAheadSize", "limit-ahead-size", "SIZE", "of pipelined requests on a connection (64K)",
          set_size, FIELD(http.ahead_size), AT_RELOAD, "1K", "16M" },
        { "LimitBacklogSize", "limit-backlog-size", "SIZE", "of a stream's unread events (256K)", set_size,
          FIELD(http.backlog_size), AT_RELOAD, "16K", "64M" },
        { "LimitBufferSize", "limit-buffer-size", "SIZE", "for all clients of a listener (64M)", set_size,
          FIELD(http.buffer_size), AT_RELOAD, "1M", "16G" },
        { "LimitHeadSec", "limit-head-sec", "SPAN", "until a request's head is complete (10s)", set_span,
          FIELD(http.head_ms), AT_RELOAD, "100ms", "10min" },
        { "LimitBodySec", "limit-body-sec", "SPAN", "in which 1 KiB of a body must arrive (10s)", set_span,
          FIELD(http.body_ms), AT_RELOAD, "100ms", "10min" },
        { "LimitAnswerSec", "limit-answer-sec", "SPAN", "in which 1 KiB of an answer must be taken (10s)",
          set_span, FIELD(http.answer_ms), AT_RELOAD, "100ms", "10min" },
        { "LimitIdleSec", "limit-idle-sec", "SPAN", "that a connection may be idle between requests (60s)",
          set_span, FIELD(http.idle_ms), AT_RELOAD, "100ms", "1d" },
        { "MetricsUnits", "metrics-units", "N", "units with figures in /metrics; 0: none (1000)", set_count,
          FIELD(metrics_units), AT_RELOAD, "0", "100000" },
        { "ServiceAddress", "service-address", "ADDR",
          "address of the services of this host (that of ListenPeer, or its first one)", set_service_address,
          FIELD(service_address), AT_RELOAD },
        { "PortRange", "port-range", "FIRST-LAST", "ports for Port=NAME:auto (20000-31999)", set_port_range,
          offsetof(Settings, port_first), 2 * sizeof(uint16_t), AT_RELOAD },
        { "Debug", "debug", "BOOL", "log checks without effect, too", set_bool, FIELD(debug), AT_RELOAD },
};

void settings_done(Settings *s) {
        free(s->state_directory);
        free(s->runtime_directory);
        free(s->unit_directory);
        free(s->cluster_file);
        free(s->listen_client);
        free(s->advertise_client);
        free(s->listen_peer);
        free(s->listen_socket);
        free(s->listen_tls);
        names_done(&s->server_names);
        free(s->peer_key);
        names_done(&s->join);
        free(s->name);
        free(s->machine_id);
        pairs_done(&s->metadata);
        names_done(&s->local_rights);
        free(s->backup);
        free(s->restore);
        free(s->backup_key);
        free(s->restore_key);
        *s = (Settings) {};
}

static int settings_defaults(Settings *s) {
        *s = (Settings) {
                .client_access = CLIENT_UNSET,
                .state_directory = strdup("/var/lib/fleet"),
                .runtime_directory = strdup("/run/fleet"),
                .unit_directory = strdup("/etc/fleet/units"),
                .cluster_file = strdup("/etc/fleet/fleetd.conf.d/50-cluster.conf"),
                .listen_client = strdup("127.0.0.1:2379"),
                .advertise_client = strdup(""),
                .listen_peer = strdup(""),
                .listen_socket = strdup("/run/fleet.sock"),
                .listen_tls = strdup(""),
                .peer_key = strdup(""),
                .agent = true,
                .engine = true,
                .brake_ms = 30000,
                .boot_wait_ms = 30000,
                .quota = 256 << 20,
                .metrics_units = 1000,
                .port_first = PORT_RANGE_FIRST,
                .port_last = PORT_RANGE_LAST,
                .limits = api_limits_default,
                .http = http_limits_default,
        };
        return s->state_directory && s->runtime_directory && s->unit_directory && s->cluster_file &&
                               s->listen_client && s->advertise_client && s->listen_peer &&
                               s->listen_socket && s->listen_tls && s->peer_key ?
                       0 :
                       -ENOMEM;
}

static int settings_set(Settings *s, size_t i, const char *value, Error *err) {
        void *field = (char *) s + table[i].offset;
        uint64_t given, min, max;

        if (!table[i].max)
                return table[i].set(value, field, err);
        TRY(table[i].set(value, &given, err));
        (void) table[i].set(table[i].min, &min, NULL);
        (void) table[i].set(table[i].max, &max, NULL);
        if (given < min || given > max)
                return error_set(err, -ERANGE, "expected %s to %s, not %s", table[i].min, table[i].max,
                                 value);
        *(uint64_t *) field = given;
        return 0;
}

/* -- Files -- */

/* Follow symbolic links, as systemd does with its settings: a link requires the same write access as a file.
 */
static int settings_read_file(Settings *s, const char *name, Error *err) {
        _cleanup_unit_file_ UnitFile file = {};
        _cleanup_free_ char *path = realpath(name, NULL), *text = NULL;
        size_t size;
        int r;

        r = path ? read_file_at(AT_FDCWD, path, SETTINGS_FILE_MAX, &text, &size) : -errno;
        if (r < 0)
                return error_set(err, r, "Failed to read %s: %s", name, strerror(-r));

        r = unit_file_parse(text, size, UNIT_FILE_SYSTEMD, &file, err);
        if (r < 0)
                return error_prefix(err, r, "%s", name);

        for (size_t o = 0; o < file.n_options; o++) {
                const UnitOption *option = &file.options[o];
                Error warning = {};
                size_t i = 0;

                if (!streq(option->section, "Fleetd"))
                        return error_set(err, -EINVAL,
                                         "%s: line %u: unknown section [%s]; settings belong in [Fleetd]",
                                         name, option->line, option->section);
                while (i < ELEMENTS(table) && !streq(table[i].key, option->name))
                        i++;
                if (i == ELEMENTS(table))
                        return error_set(err, -EINVAL, "%s: line %u: unknown setting %s=; see fleetd.conf(5)",
                                         name, option->line, option->name);
                r = settings_set(s, i, option->value, &warning);
                if (r < 0) {
                        if (err)
                                *err = warning;
                        return error_prefix(err, r, "%s: line %u: %s=", name, option->line, option->name);
                }
                if (r > 0)
                        log_warning(NO_FIELDS, "%s: line %u: %s=: %s", name, option->line, option->name,
                                    warning.message);
        }
        return 0;
}

static int settings_is_conf(const struct dirent *d) {
        return d->d_name[0] != '.' && ends_with(d->d_name, ".conf");
}

static int settings_read_drop_in(Settings *s, const char *dir, const char *name, Error *err) {
        _cleanup_free_ char *path = NULL;
        struct stat st = {};

        if (asprintf(&path, "%s/%s", dir, name) < 0)
                return -ENOMEM;
        if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode) && stat(path, &st) < 0 && errno == ENOENT) {
                log_warning(NO_FIELDS, "skipping %s: symbolic link to a file that does not exist", path);
                return 0;
        }
        if (S_ISCHR(st.st_mode)) /* /dev/null */
                return 0;
        return settings_read_file(s, path, err);
}

int settings_read_drop_ins(Settings *s, const char *dir, Error *err) {
        struct dirent **names;
        int n, r = 0;

        n = scandir(dir, &names, settings_is_conf, alphasort);
        if (n < 0)
                return errno == ENOENT ?
                               0 :
                               error_set(err, -errno, "Failed to list %s: %s", dir, strerror(errno));

        if (n > SETTINGS_DROP_INS_MAX)
                r = error_set(err, -E2BIG, "%s: more than %d files", dir, SETTINGS_DROP_INS_MAX);
        for (int i = 0; i < n; i++) {
                r = r < 0 ? r : settings_read_drop_in(s, dir, names[i]->d_name, err);
                free(names[i]);
        }
        free(names);
        return r;
}

/* -- The command line -- */

static void settings_print_help(void) {
        printf("fleetd [OPTION...]\n\n"
               "The daemon of a fleet cluster: one on every host. Without any option this host is a cluster "
               "of one.\n\n"
               "  -h --help                    show this\n"
               "     --version                 show the version\n"
               "     --config=FILE             read FILE instead of /etc/fleet/fleetd.conf and "
               "fleetd.conf.d/*.conf\n"
               "     --backup=FILE             write the stopped daemon's tree to FILE, and exit\n"
               "     --backup-cluster-key=FILE write the cluster keys of this host to FILE, and exit\n"
               "     --verify=FILE             verify a backup, and exit; no other option is needed\n"
               "     --verify=FILE --cluster-key=KEYS    also that the keys are of the same cluster\n"
               "     --restore=FILE            create a cluster of one from FILE if there is no replica, and "
               "exit\n"
               "     --restore=FILE --cluster-key=KEYS   the same, with the keys of the former cluster\n"
               "     --restore=FILE --dry-run  only verify that this can be done\n"
               "     --reset                   move the stopped daemon's log and tree to old/, so that this "
               "host "
               "joins again\n"
               "                               or restores a backup, and exit\n"
               "     --recover                 show what --recover --force would do\n"
               "     --recover --force         after a permanent loss of the majority: make this host a "
               "cluster of one, and exit\n");
        for (size_t i = 0; i < ELEMENTS(table); i++) {
                char left[64];

                snprintf(left, sizeof(left), "--%s=%s", table[i].option, table[i].argument);
                printf("     %-25s %s%s\n", left,
                       strlen(left) > 25 ? "\n                               " : "", table[i].help);
        }
        printf("\nEach option is also a key of fleetd.conf. See fleetd(8), fleetd.conf(5).\n");
}

static int settings_read_options(Settings *s, int argc, char *const argv[], Error *err) {
        bool seen[ELEMENTS(table)] = {};
        int r;

        for (int i = 1; i < argc; i++) {
                const char *value = NULL;
                size_t t;

                if (settings_option_value("config", argc, argv, &i))
                        continue;
                r = TRY(settings_read_maintenance(s, argc, argv, &i));
                if (r > 0)
                        continue;
                for (t = 0; t < ELEMENTS(table) && !value; t++)
                        value = settings_option_value(table[t].option, argc, argv, &i);
                if (!value)
                        return error_set(
                                err, -EINVAL,
                                starts_with(argv[i], "-") ?
                                        "unknown option or missing value: %s; see fleetd --help" :
                                        "fleetd takes no arguments, but got '%s'; did you mean fleetctl?",
                                argv[i]);
                t--;
                if (!seen[t] && (table[t].set == add_addresses || table[t].set == add_metadata ||
                                 table[t].set == add_server_names || table[t].set == local_rights_set))
                        (void) settings_set(s, t, "", err); /* clear it */
                seen[t] = true;
                r = settings_set(s, t, value, err);
                if (r < 0)
                        return error_prefix(err, r, "--%s", table[t].option);
                if (r > 0)
                        log_warning(NO_FIELDS, "--%s: %s", table[t].option, error_text(err, 0));
        }
        return 0;
}

/* -- Facts of the machine -- */

static int settings_complete(Settings *s, Error *err) {
        int r;

        if (!s->machine_id) {
                _cleanup_free_ char *text = NULL;

                r = read_file_at(AT_FDCWD, "/etc/machine-id", 128, &text, NULL);
                if (r == 0) {
                        text[strcspn(text, "\n")] = 0;
                        r = set_machine_id(text, &s->machine_id, err);
                }
                if (r < 0)
                        return error_set(err, r,
                                         "no machine ID in /etc/machine-id; run systemd-machine-id-setup, or "
                                         "set --machine-id=");
        }
        if (!s->name) {
                struct utsname host;

                if (uname(&host) < 0 || set_name(host.nodename, &s->name, NULL) < 0)
                        return error_set(err, -EINVAL, "the host name is invalid; set --name=");
        }
        return 0;
}

static int settings_read_files(Settings *s, const char *config, Error *err) {
        if (config)
                return settings_read_file(s, config, err);
        if (access(CONFIG_FILE, F_OK) == 0)
                TRY(settings_read_file(s, CONFIG_FILE, err));
        return settings_read_drop_ins(s, CONFIG_DROP_INS, err);
}

const char *settings_source(int argc, char *const argv[]) {
        const char *config = NULL;

        for (int i = 1; i < argc; i++)
                config = settings_option_value("config", argc, argv, &i) ?: config;
        return config ?: CONFIG_FILE " and " CONFIG_DROP_INS;
}

int settings_read(Settings *ret, int argc, char *const argv[], Error *err) {
        _cleanup_settings_ Settings s = {};
        const char *config = NULL;

        for (int i = 1; i < argc; i++) {
                if (streq(argv[i], "--help") || streq(argv[i], "-h")) {
                        settings_print_help();
                        return 1;
                }
                if (streq(argv[i], "--version") || (i == 1 && streq(argv[i], "version"))) {
                        printf("fleetd version %s\n", PACKAGE_VERSION);
                        return 1;
                }
                config = settings_option_value("config", argc, argv, &i) ?: config;
        }

        TRY(settings_defaults(&s));
        TRY(settings_read_files(&s, config, err));
        TRY(settings_read_options(&s, argc, argv, err));
        TRY(settings_complete(&s, err));
        TRY(settings_check(&s, err));
        *ret = s;
        s = (Settings) {};
        return 0;
}

/* -- A running daemon -- */

static bool settings_equal(size_t i, const void *a, const void *b) {
        bool is_number = table[i].set == set_span || table[i].set == set_size || table[i].set == set_count ||
                         table[i].set == set_voters;

        if (table[i].set == add_metadata)
                return pairs_equal(a, b);
        if (table[i].set == add_addresses || table[i].set == add_server_names ||
            table[i].set == local_rights_set)
                return names_equal(a, b);
        return is_number || table[i].size != sizeof(char *) ? memcmp(a, b, table[i].size) == 0 :
                                                              streq(*(char *const *) a, *(char *const *) b);
}

int settings_take(Settings *s, Settings *now, Names *ret_taken, Names *ret_restart) {
        _cleanup_names_ Names applied = {}, restart = {};
        int r = 0;

        for (size_t i = 0; r == 0 && i < ELEMENTS(table); i++) {
                char *mine = (char *) s + table[i].offset, *other = (char *) now + table[i].offset,
                     before[MAX(MAX(sizeof(Pairs), sizeof(Names)), (size_t) ENDPOINT_ADDRESS_SIZE)];
                Names *names = table[i].applied == AT_RELOAD ? &applied : &restart;

                if (settings_equal(i, mine, other) || table[i].applied == AT_NEXT_START)
                        continue;
                r = names_add(names, table[i].key, strlen(table[i].key));
                if (r < 0 || table[i].applied != AT_RELOAD)
                        continue;
                memcpy(before, mine, table[i].size); /* swap them: the caller frees 'now' */
                memcpy(mine, other, table[i].size);
                memcpy(other, before, table[i].size);
        }
        if (r < 0)
                return r;
        *ret_taken = applied;
        *ret_restart = restart;
        applied = restart = (Names) {};
        return 0;
}
