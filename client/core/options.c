#include "client/core/options.h"

#include <ctype.h>

#include "base/parse.h"
#include "client/core/output.h"
#include "client/core/suggest.h"

typedef enum FlagType { FLAG_BOOL, FLAG_TEXT, FLAG_NUMBER, FLAG_LIMIT, FLAG_SECONDS, FLAG_TTL } FlagType;

typedef struct Flag {
        const char *name;
        char letter;
        const char *of; /* verbs, and groups of verbs, separated by spaces */
        FlagType type;
        size_t offset;
        const char *help;  /* NULL: accepted, but not in the help */
        const char *verbs; /* of kv, separated by spaces; NULL: all verbs of the groups */
} Flag;

static const struct {
        const char *word; /* in the help */
        const char *expected;
} types[] = {
        [FLAG_BOOL] = { "", "true or false" },
        [FLAG_TEXT] = { " string", "" },
        [FLAG_NUMBER] = { " int", "a number" },
        [FLAG_LIMIT] = { " int", "a number" },
        [FLAG_SECONDS] = { " float", "a number of seconds" },
        [FLAG_TTL] = { " int", "a number of seconds" },
};

#define AT(member) offsetof(Options, member)

/* fleetctl(1) documents the same names. Before the verb, the first flag of a name decides whether the next
 * argument is its value. */
static const Flag flags[] = {
        { "block-attempts", 0, "attempts", FLAG_LIMIT, AT(block_attempts),
          "Wait for at most N times two seconds; 0 is no limit (default 0)" },
        { "timeout", 0, "attempts leave submit", FLAG_TEXT, AT(timeout),
          "End the wait after this time, with exit status 5; the cluster continues (default never)" },
        { "no-block", 0, "no-block", FLAG_BOOL, AT(no_block), "Do not wait for the new state" },
        { "no-block", 0, "status journal", FLAG_BOOL, AT(ignored_switch),
          NULL }, /* scripts for fleet pass it to status */
        { "wait", 0, "wait", FLAG_BOOL, AT(wait),
          "Wait until the units have ended again (stop: also for global units)" },
        { "wait", 0, "rollout", FLAG_BOOL, AT(wait),
          "Print each change, until the rollouts have ended, or wait for a command" },
        { "follow", 'f', "rollout", FLAG_BOOL, AT(follow),
          "The same; a rollout that is held or paused does not end it" },
        { "timeout", 0, "rollout", FLAG_TEXT, AT(timeout),
          "End the wait after this time; the rollout continues (default never)" },
        { "replace", 0, "replace", FLAG_BOOL, AT(replace),
          "Replace units of the cluster by the local files" },
        { "replace", 0, "import", FLAG_BOOL, AT(replace),
          "Replace units and keys that exist with another content" },
        { "all-at-once", 0, "replace", FLAG_BOOL, AT(all_at_once),
          "With --replace: all units together, not one after the other" },
        { "canary", 0, "update", FLAG_TEXT, AT(canary),
          "Hold this update after N instances, or after N percent (default Canary= of the unit)" },
        { "on-failure", 0, "update", FLAG_TEXT, AT(on_failure),
          "If this update fails: pause, revert or continue (default UpdateOnFailure= of the unit)" },
        { "sign", 0, "replace", FLAG_BOOL, AT(sign), NULL },
        { "fields", 0, "list", FLAG_TEXT, AT(fields), "Columns to print, separated by commas" },
        { "full", 'l', "list", FLAG_BOOL, AT(full), "Do not ellipsize fields on output" },
        { "full", 'l', "status", FLAG_BOOL, AT(full), "Do not cut the descriptions of problems" },
        { "l", 0, "list", FLAG_BOOL, AT(full), NULL },
        { "local", 0, "list-units", FLAG_BOOL, AT(local),
          "Only units of this host, as its daemon sees them; works without the cluster" },
        { "failed", 0, "list-units", FLAG_BOOL, AT(failed), "Only units that have failed: --state=failed" },
        { "no-legend", 0, "list", FLAG_BOOL, AT(no_legend), "Do not print a legend (column headers)" },
        { "lines", 'n', "status journal", FLAG_NUMBER, AT(lines),
          "Number of recent log lines (default 10, with --since all)" },
        { "lines", 'n', "events", FLAG_NUMBER, AT(last),
          "Print the last N of the past events (default all; with --follow 10)" },
        { "lines", 'n', "log", FLAG_NUMBER, AT(lines),
          "Print the last N entries (default all; with --follow 10)" },
        { "follow", 'f', "journal events log", FLAG_BOOL, AT(follow), "Print new entries as they arrive" },
        { "since", 'S', "journal events log", FLAG_TEXT, AT(since),
          "Print entries from this time on: \"-1h\", \"2026-01-31 12:00\"" },
        { "until", 'U', "journal events log", FLAG_TEXT, AT(until), "Print entries up to this time" },
        { "priority", 'p', "log", FLAG_TEXT, AT(priority),
          "Print entries of this priority and more important ones (err, warning, 4), or of a range" },
        { "grep", 'g', "log", FLAG_TEXT, AT(grep), "Print entries whose message matches this pattern" },
        { "output", 'o', "log", FLAG_TEXT, AT(journal_output), "short (default), json or cat" },
        { "once", 0, "top", FLAG_BOOL, AT(once), "Print the figures of one second, and end" },
        { "machines", 0, "top", FLAG_BOOL, AT(machines), "Print machines instead of units" },
        { "interval", 0, "top", FLAG_TEXT, AT(interval), "Time between two figures: 1s to 1h (default 2s)" },
        { "sort", 0, "top", FLAG_TEXT, AT(sort), "cpu (default), memory, io, tasks or name" },
        { "machine", 'm', "log top", FLAG_TEXT, AT(machine),
          "Machines, by name or the beginning of their IDs, separated by commas" },
        { "f", 0, "journal", FLAG_BOOL, AT(follow), NULL },
        { "output", 'o', "journal", FLAG_TEXT, AT(journal_output),
          "Output mode, as journalctl's (default \"short\")" },
        { "machine", 'm', "list-unit-files list-units", FLAG_TEXT, AT(machine),
          "Only units on this machine" },
        { "machine", 'm', "remote", FLAG_TEXT, AT(machine), "Machine, by name or the beginning of its ID" },
        { "etcd", 0, "import", FLAG_TEXT, AT(etcd), "URL of the etcd of fleet: http://HOST:2379" },
        { "verify", 0, "backup", FLAG_BOOL, AT(verify), "Verify an existing backup; needs no daemon" },
        { "cluster-key", 0, "backup", FLAG_TEXT, AT(cluster_key),
          "Instead of a backup, write the cluster keys of this host to this new file" },
        { "cluster-key", 0, "restore", FLAG_TEXT, AT(cluster_key),
          "Keys that backup has written: hosts return with their certificates" },
        { "force", 0, "remove", FLAG_BOOL, AT(force),
          "At once: also a machine that was lost less than an hour ago, is away, or is up with a "
          "certificate" },
        { "force", 0, "cluster", FLAG_BOOL, AT(force),
          "secure: leave out hosts that are down and have no certificate" },
        { "force", 0, "drain", FLAG_BOOL, AT(force), "Also move units with Move=no; not units with data" },
        { "force", 0, "move", FLAG_BOOL, AT(force),
          "Also a unit with Move=no, and a unit with data, without its data" },
        { "units", 0, "secret", FLAG_TEXT, AT(secret_units),
          "set: names or patterns of the units that may have it, separated by commas (default: as before; of "
          "a "
          "new one all)" },
        { "file", 0, "secret", FLAG_TEXT, AT(file), "set: read the value from this file; - is stdin" },
        { "force", 0, "secret", FLAG_BOOL, AT(force), "rm: also a secret that units name" },
        { "timeout", 0, "move", FLAG_TEXT, AT(timeout),
          "End the wait after this time; the move continues (default never)" },
        { "moves", 0, "rebalance", FLAG_NUMBER, AT(moves), "Plan at most N moves (default and maximum 100)" },
        { "plan", 0, "rebalance", FLAG_BOOL, AT(plan), "Print the moves, and move nothing" },
        { "timeout", 0, "rebalance", FLAG_TEXT, AT(timeout),
          "End the wait after this time; the moves continue (default never)" },
        { "deadline", 0, "drain reboot", FLAG_TEXT, AT(deadline),
          "Stop the units that are left after this time, for example 5min (default never)" },
        { "timeout", 0, "drain", FLAG_TEXT, AT(timeout),
          "End the wait after this time; the drain continues (default never)" },
        { "all", 0, "list-machines", FLAG_BOOL, AT(all), "Also machines that are lost or were shut down" },
        { "all", 0, "reboot", FLAG_BOOL, AT(all), "All machines that are up" },
        { "by", 0, "reboot", FLAG_TEXT, AT(by),
          "Key of metadata: hosts with one of its values at a time, for example zone" },
        { "if-needed", 0, "reboot", FLAG_BOOL, AT(if_needed),
          "Only machines whose system asks for a reboot, after an update" },
        { "kexec", 0, "reboot", FLAG_BOOL, AT(kexec), "Into the kernel that was loaded with kexec" },
        { "one-by-one", 0, "reboot", FLAG_BOOL, AT(one_by_one), "One host at a time (the default)" },
        { "parallel", 0, "reboot", FLAG_NUMBER, AT(parallel), "Number of hosts at a time (default 1)" },
        { "return", 0, "reboot", FLAG_TEXT, AT(return_in),
          "Stop the queue if a host is not back within this time (default 15min)" },
        { "soft", 0, "reboot", FLAG_BOOL, AT(soft), "Only the userspace; requires systemd 254" },
        { "status", 0, "reboot", FLAG_BOOL, AT(status), "Print the planned reboots" },
        { "resume", 0, "reboot", FLAG_BOOL, AT(resume), "Go on after the queue has stopped" },
        { "cancel", 0, "reboot", FLAG_BOOL, AT(cancel),
          "End the planned reboots, except of hosts that are about to reboot" },
        { "timeout", 0, "reboot", FLAG_TEXT, AT(timeout),
          "End the wait after this time; the reboots continue (default never)" },
        { "reason", 0, "cordon drain", FLAG_TEXT, AT(reason), "Text for status, events and the journal" },
        { "name", 0, "init", FLAG_TEXT, AT(cluster_name), "Name of the cluster" },
        { "spread", 0, "init", FLAG_TEXT, AT(spread),
          "Key of metadata: voters in as many of its values as possible" },
        { "sticky", 0, "init", FLAG_TEXT, AT(sticky),
          "Whether units with data stay where that is, without Sticky= in their file: yes or no" },
        { "voters", 0, "init", FLAG_TEXT, AT(voters), "Number of voters: 1, 3, 5 or auto" },
        { "restricted", 0, "init", FLAG_BOOL, AT(restricted),
          "Tokens are of restricted hosts, unless requested otherwise" },
        { "state", 0, "list-unit-files list-units", FLAG_TEXT, AT(state), "Only units in this state" },
        { "yes", 'y', "yes", FLAG_BOOL, AT(yes), "Do not ask for confirmation" },
        { "yes", 'y', "recover restore", FLAG_TEXT, AT(yes_name), "Name of this machine: do not ask for it" },
        { "uses", 0, "token", FLAG_NUMBER, AT(uses), "Number of hosts that may join with it (default 1)" },
        { "ttl", 0, "token", FLAG_TEXT, AT(token_ttl), "Life: 10min, 1h, 7d (default 1h)" },
        { "rights", 0, "cert", FLAG_TEXT, AT(rights),
          "Rights of the user, separated by commas: keys-read:/PREFIX, keys-write:/PREFIX, units-see, "
          "units-change, administer" },
        { "ttl", 0, "cert", FLAG_TEXT, AT(token_ttl),
          "Life of the certificate: 12h, 30d, 365d (default 30d)" },
        { "out", 0, "cert", FLAG_TEXT, AT(out), "Folder for NAME.pem, NAME.key and ca.pem (default \".\")" },
        { "replace", 0, "cert", FLAG_BOOL, AT(replace), "End the key that the user has" },
        { "restricted", 0, "token", FLAG_BOOL, AT(restricted),
          "The host holds no replica, and its users change nothing but itself" },
        { "write", 0, "token", FLAG_TEXT, AT(write),
          "Prefixes below which users of a restricted host write keys: /PREFIX, separated by commas" },
        { "replace", 0, "token", FLAG_TEXT, AT(token_replace),
          "For this machine, which was installed again with its former machine ID" },
        { "metadata", 0, "token", FLAG_TEXT, AT(token_metadata),
          "Metadata of the host that joins: KEY=VALUE, separated by commas" },
        { "from", 0, "token", FLAG_TEXT, AT(token_from),
          "Only for hosts that connect from this network: 10.0.0.0/8" },
        { "compromised", 0, "ca remove", FLAG_BOOL, AT(compromised),
          "Others may have the keys of the CA, or of this machine: end all that they are valid for" },
        { "listen", 0, "init join token", FLAG_TEXT, AT(listen),
          "Address at which other hosts reach this one: ADDR or ADDR:PORT (default port 2380)" },
        { "listen", 0, "web", FLAG_TEXT, AT(listen),
          "ADDR:PORT on this host (default 127.0.0.1:2381; port 0: a free one)" },
        { "url", 0, "web", FLAG_BOOL, AT(url), "Print the address of fleet-web.service (root)" },
        { "token-file", 0, "join", FLAG_TEXT, AT(token_file), "Read the token from this file" },
        { "discard", 0, "join", FLAG_BOOL, AT(discard),
          "Join even if this host has units and keys of its own, which are not taken along" },
        { "cancel", 0, "leave", FLAG_BOOL, AT(cancel), "Stay in the cluster: end a leave under way" },
        { "property", 'p', "show", FLAG_TEXT, AT(property),
          "Print only these properties, separated by commas" },
        { "signal", 's', "kill", FLAG_TEXT, AT(signal), "Signal to send (default \"SIGTERM\")" },
        { "kill-whom", 0, "kill", FLAG_TEXT, AT(kill_whom), "\"main\", \"control\" or \"all\" (default)" },
        { "source", 0, "cat", FLAG_BOOL, AT(source),
          "Print the submitted text: with comments, followed by its drop-ins" },
        { "rev", 0, "cat", FLAG_TEXT, AT(rev), "Print this revision" },
        { "from", 0, "diff", FLAG_TEXT, AT(from), "Compare this revision of a unit" },
        { "to", 0, "diff", FLAG_TEXT, AT(to), "with this one (default the wanted one)" },
        { "lines", 'n', "history", FLAG_NUMBER, AT(lines), "Print the newest N revisions (default all)" },
        { "quiet", 'q', "is-active is-failed", FLAG_BOOL, AT(quiet),
          "Print nothing; set the exit status only" },
        { "unit", 'u', "ssh", FLAG_TEXT, AT(unit), "Log in to the machine of this unit" },
        { "forward-agent", 'A', "ssh", FLAG_BOOL, AT(forward_agent), "Forward the ssh-agent to the machine" },
        { "A", 0, "ssh", FLAG_BOOL, AT(forward_agent), NULL },
        { "ssh-port", 0, "ssh", FLAG_TEXT, AT(ssh_port), "Port of the machine's sshd (default 22)" },
        { "ssh-port", 0, "remote", FLAG_TEXT, AT(ignored), NULL },
        { "sudo", 0, "remote", FLAG_BOOL, AT(ignored_switch), NULL },
        { "ttl", 0, "kv", FLAG_TTL, AT(ttl), "Seconds until the key expires (lock: default 30)",
          "set mk lock" },
        { "refresh", 0, "kv", FLAG_BOOL, AT(refresh),
          "set: only renew the time to live if the key has the value already; notifies no watcher", "set" },
        { "swap-with-value", 0, "kv", FLAG_TEXT, AT(swap_with_value), "set: only if the key has this value",
          "set" },
        { "swap-with-index", 0, "kv", FLAG_NUMBER, AT(swap_with_index),
          "set: only if the key has this modified index", "set" },
        { "with-value", 0, "kv", FLAG_TEXT, AT(with_value), "rm: only if the key has this value", "rm" },
        { "with-index", 0, "kv", FLAG_NUMBER, AT(with_index), "rm: only if the key has this modified index",
          "rm" },
        { "recursive", 'r', "kv", FLAG_BOOL, AT(recursive),
          "ls, rm, watch, exec-watch: include all keys below", "ls rm watch exec-watch" },
        { "dir", 0, "kv", FLAG_BOOL, AT(dir), "rm: also remove an empty directory; mk: make a directory",
          "rm mk" },
        { "in-order", 0, "kv", FLAG_BOOL, AT(in_order), "mk: add a key below, with a name that sorts last",
          "mk" },
        { "forever", 0, "kv", FLAG_BOOL, AT(forever), "watch: continue after the first change", "watch" },
        { "after-index", 0, "kv", FLAG_NUMBER, AT(after_index),
          "watch, exec-watch: report changes after this index", "watch exec-watch" },
        { "after-index", 0, "events", FLAG_NUMBER, AT(after_index), "Print events after this index" },
        { "machine", 'm', "events", FLAG_TEXT, AT(machine),
          "Print only events of this machine, by name or the beginning of its ID" },
        { "problems", 0, "events", FLAG_BOOL, AT(problems),
          "Print only failures, units that wait, and machines that were lost" },
        { "changes", 0, "events", FLAG_BOOL, AT(changes),
          "Print only what users and unit directories have requested" },
        { "after", 0, "kv", FLAG_NUMBER, AT(after_index), NULL },
        { "all", 0, "kv", FLAG_BOOL, AT(all),
          "watch: print every change of a key and all keys below, one per line", "watch" },
        { "file", 0, "kv", FLAG_TEXT, AT(file),
          "get, set: write or read the bytes of the value; - is stdout or stdin", "get set" },
        { "limit", 0, "kv", FLAG_NUMBER, AT(limit), "ls: at most N keys", "ls" },
        { "quorum", 'q', "kv", FLAG_BOOL, AT(quorum), "get, ls, export: read the state of a majority",
          "get ls export" },
        { "sort", 0, "kv", FLAG_BOOL, AT(ignored_switch), NULL },
        { "p", 'p', "kv", FLAG_BOOL, AT(ignored_switch), NULL },
        { "verbs", 0, "help", FLAG_BOOL, AT(verbs), "Print the verbs, one per line" },
        { "topics", 0, "help", FLAG_BOOL, AT(topics), "Print the topics, one per line" },

        { "endpoint", 0, "global", FLAG_TEXT, AT(endpoint),
          "Listener of fleetd (default \"unix:///run/fleet.sock\")" },
        { "request-timeout", 0, "global", FLAG_SECONDS, AT(request_timeout_ms),
          "Seconds until a request times out (default 3, kv 6, for a change 10)" },
        { "output", 'o', "json report", FLAG_TEXT, AT(output),
          "\"json\": complete and stable, for programs" },
        { "ca-file", 0, "global", FLAG_TEXT, AT(ca_file), "CA that verifies an https endpoint" },
        { "cert-file", 0, "global", FLAG_TEXT, AT(cert_file), "Client certificate for an https endpoint" },
        { "key-file", 0, "global", FLAG_TEXT, AT(key_file), "Key of the client certificate" },
        { "cacert", 0, "global", FLAG_TEXT, AT(ca_file), NULL },
        { "cert", 0, "global", FLAG_TEXT, AT(cert_file), NULL },
        { "key", 0, "global", FLAG_TEXT, AT(key_file), NULL },
        { "debug", 0, "global", FLAG_BOOL, AT(debug), "Print requests on stderr" },
        { "help", 'h', "global", FLAG_BOOL, AT(help), "Print usage information and exit" },
        { "h", 0, "global", FLAG_BOOL, AT(help), NULL },
        { "version", 'v', "global", FLAG_BOOL, AT(ignored_switch),
          "Print the version and exit; the first argument only" },
        { "driver", 0, "global", FLAG_TEXT, AT(driver), NULL },
        { "tunnel", 0, "global", FLAG_TEXT, AT(tunnel),
          "HOST[:PORT]: reach the endpoint through this host, by ssh" },
        { "etcd-key-prefix", 0, "import", FLAG_TEXT, AT(etcd_prefix),
          "Prefix of the keys of fleet (default \"/_coreos.com/fleet/\")" },
        { "etcd-key-prefix", 0, "global", FLAG_TEXT, AT(etcd_prefix), NULL },
        { "etcd-keyfile", 0, "global", FLAG_TEXT, AT(key_file), NULL },
        { "etcd-certfile", 0, "global", FLAG_TEXT, AT(cert_file), NULL },
        { "etcd-cafile", 0, "global", FLAG_TEXT, AT(ca_file), NULL },
        { "experimental-api", 0, "global", FLAG_BOOL, AT(ignored_switch), NULL },
        { "no-pager", 0, "global", FLAG_BOOL, AT(ignored_switch), NULL }, /* there is none */
        { "known-hosts-file", 0, "global", FLAG_TEXT, AT(known_hosts_file),
          "Known hosts file of ssh (default: the file of ssh)" },
        { "ssh-timeout", 0, "global", FLAG_SECONDS, AT(ssh_timeout_ms),
          "Seconds until connecting by ssh times out (default 10)" },
        { "ssh-username", 0, "global", FLAG_TEXT, AT(ssh_username),
          "User to log in as (default: that of ssh)" },
        { "strict-host-key-checking", 0, "global", FLAG_BOOL, AT(strict_host_keys),
          "Ask before connecting to an unknown host (default true)" },
};

/* Return whether one of these verbs or groups has the flag. */
static bool flag_is_of(const Flag *flag, const char *words) {
        char word[64];

        for (size_t n; *words; words += n + strspn(words + n, " ")) {
                n = strcspn(words, " ");
                snprintf(word, sizeof(word), "%.*s", (int) n, words);
                if (text_has_word(flag->of, word))
                        return true;
        }
        return false;
}

static int parse_seconds(const char *s, uint64_t *ret_ms) {
        char *end;
        double seconds;

        if (!isdigit((unsigned char) *s) && *s != '.')
                return -EINVAL;
        errno = 0;
        seconds = strtod(s, &end);
        if (errno != 0 || *end || !(seconds > 0 && seconds <= 86400))
                return -EINVAL;
        *ret_ms = MAX((uint64_t) (seconds * 1000), (uint64_t) 1);
        return 0;
}

static int flag_set(Options *o, const Flag *flag, const char *value) {
        void *field = (char *) o + flag->offset;
        uint64_t number;

        switch (flag->type) {
        case FLAG_BOOL:
                o->restricted_given |= flag->offset == AT(restricted);
                return parse_bool(value, field);
        case FLAG_TEXT:
                *(const char **) field = value;
                return 0;
        case FLAG_LIMIT: /* fleet accepts negative numbers: no limit */
                if (value[0] == '-' && parse_u64(value + 1, &number) >= 0)
                        value = "0";
                return parse_u64(value, field);
        case FLAG_TTL:
                o->ttl_given = true;
                return parse_u64(value, field);
        case FLAG_NUMBER:
                return parse_u64(value, field);
        case FLAG_SECONDS:
                return parse_seconds(value, field);
        }
        return -EINVAL;
}

void options_init(Options *o) {
        *o = (Options) { .endpoint = ENDPOINT_DEFAULT,
                         .driver = "API",
                         .output = "",
                         .journal_output = "short",
                         .lines = LINES_ALL,
                         .uses = 1,
                         .moves = 100,
                         .tunnel = "",
                         .ssh_username = "",
                         .known_hosts_file = "",
                         .ssh_port = "",
                         .etcd_prefix = "",
                         .ssh_timeout_ms = 10000,
                         .strict_host_keys = true };

        for (size_t i = 0; i < ELEMENTS(flags); i++) {
                char name[64] = "FLEETCTL_";
                const char *value;
                size_t n = strlen(name);

                if (!flag_is_of(&flags[i], "global json"))
                        continue;
                for (const char *s = flags[i].name; *s && n < sizeof(name) - 1; s++)
                        name[n++] = *s == '-' ? '_' : (char) toupper((unsigned char) *s);
                name[n] = 0;

                value = getenv(name);
                if (value && *value && (flags[i].offset != AT(help)))
                        (void) flag_set(o, &flags[i], value);
        }
}

/* Return the first flag of 'words' (NULL: of all) that an argument sets, or NULL: flags of a verb precede
 * global ones. *ret_value is its value within the argument, or NULL. */
static const Flag *flag_of(const char *words, const char *argument, const char **ret_value) {
        bool is_long = argument[1] == '-';
        const char *rest = argument + 2;
        size_t size = is_long ? strcspn(rest, "=") : 0;

        *ret_value = rest[size] ? rest + size + (rest[size] == '=') : NULL;
        for (size_t i = 0; i < ELEMENTS(flags); i++)
                if ((!words || flag_is_of(&flags[i], words)) &&
                    (is_long ? strlen(flags[i].name) == size && memcmp(flags[i].name, rest, size) == 0 :
                               flags[i].letter == argument[1]))
                        return &flags[i];
        return NULL;
}

char **options_find_verb(char **args, size_t n) {
        for (size_t i = 0; i < n; i++) {
                const char *a = args[i], *value;
                const Flag *flag;

                if (streq(a, "--"))
                        return i + 1 < n ? &args[i + 1] : NULL;
                if (a[0] != '-' || !a[1])
                        return &args[i];
                flag = flag_of(NULL, a, &value);
                if (flag && flag->type != FLAG_BOOL && !value)
                        i++;
        }
        return NULL;
}

int options_parse(Options *o, const char *words, char **args, size_t *n, Error *err) {
        size_t n_kept = 0, i;

        for (i = 0; i < *n; i++) {
                const char *value;
                char *a = args[i];
                const Flag *flag;

                if (streq(a, "--")) {
                        i++;
                        break;
                }
                if (a[0] != '-' || !a[1] ||
                    (isdigit((unsigned char) a[1]) && text_has_word(words, "scale"))) {
                        args[n_kept++] = a;
                        continue;
                }

                flag = flag_of(words, a, &value);
                if (!flag && a[1] == '-')
                        return error_set(err, -ENOENT, "unknown flag: %.*s", (int) strcspn(a, "="), a);
                if (!flag || (flag->type == FLAG_BOOL && a[1] != '-' && a[2]))
                        return error_set(err, -ENOENT, "unknown shorthand flag: '%c' in %s",
                                         flag ? a[2] : a[1], a);
                if (!value && flag->type == FLAG_BOOL)
                        value = "true";
                if (!value && i + 1 < *n)
                        value = args[++i];
                if (!value)
                        return error_set(err, -EINVAL, "flag needs an argument: %s", a);
                if (flag_set(o, flag, value) < 0)
                        return error_set(err, -EINVAL, "invalid argument \"%s\" for --%s: expected %s", value,
                                         flag->name, types[flag->type].expected);
        }
        for (; i < *n; i++)
                args[n_kept++] = args[i];
        if (n_kept < *n)
                args[n_kept] = NULL; /* kv lock and exec-watch pass the tail to execvp() */
        *n = n_kept;
        return 0;
}

const char *options_nearest(const char *words, const char *name) {
        Suggestion suggestion = { .typed = name };

        for (size_t i = 0; i < ELEMENTS(flags); i++)
                if (flag_is_of(&flags[i], words) && flags[i].help)
                        suggest_consider(&suggestion, flags[i].name);
        return suggestion.nearest;
}

bool options_any(const char *words) {
        for (size_t i = 0; i < ELEMENTS(flags); i++)
                if (flag_is_of(&flags[i], words))
                        return true;
        return false;
}

void options_print(const char *words, const char *verb) {
        _cleanup_text_ Text line = {};
        int width = 0;

        for (int pass = 0; pass < 2; pass++)
                for (size_t i = 0; i < ELEMENTS(flags); i++) {
                        const Flag *flag = &flags[i];
                        char letter[8] = "    ";
                        int size = (int) (strlen(flag->name) + strlen(types[flag->type].word));

                        if (!flag_is_of(flag, words) || !flag->help ||
                            (verb && flag->verbs && !text_has_word(flag->verbs, verb)))
                                continue;
                        width = MAX(width, size);
                        if (flag->letter)
                                snprintf(letter, sizeof(letter), "-%c, ", flag->letter);
                        if (pass == 0)
                                continue;
                        text_clear(&line);
                        text_printf(&line, "  %s--%s%-*s   %s", letter, flag->name,
                                    width - (int) strlen(flag->name), types[flag->type].word, flag->help);
                        output_words(&line, (size_t) width + strlen("      --   "));
                }
}
