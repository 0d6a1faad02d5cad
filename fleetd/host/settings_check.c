/* Checks of settings that concern several of them. */
#include "fleetd/host/settings.h"

#include "base/parse.h"
#include "fleetd/registry/local_rights.h"

const char *settings_option_value(const char *name, int argc, char *const argv[], int *i) {
        size_t size = strlen(name);

        if (!starts_with(argv[*i], "--") || strncmp(argv[*i] + 2, name, size) != 0)
                return NULL;
        if (argv[*i][2 + size] == '=')
                return argv[*i] + 3 + size;
        if (argv[*i][2 + size] == 0 && *i + 1 < argc)
                return argv[++*i];
        return NULL;
}

int settings_read_maintenance(Settings *s, int argc, char *const argv[], int *i) {
        const char *value;
        char **file = NULL;

        if (streq(argv[*i], "--recover"))
                s->recover = true;
        else if (streq(argv[*i], "--reset"))
                s->reset = true;
        else if (streq(argv[*i], "--force"))
                s->force = true;
        else if (streq(argv[*i], "--dry-run"))
                s->dry_run = true;
        else if ((value = settings_option_value("backup", argc, argv, i)))
                file = &s->backup;
        else if ((value = settings_option_value("restore", argc, argv, i)))
                file = &s->restore;
        else if ((value = settings_option_value("backup-cluster-key", argc, argv, i)))
                file = &s->backup_key;
        else if ((value = settings_option_value("cluster-key", argc, argv, i)))
                file = &s->restore_key;
        else
                return 0;
        if (!file)
                return 1;
        free(*file);
        *file = strdup(value);
        return *file ? 1 : -ENOMEM;
}

static int settings_check_maintenance(const Settings *s, Error *err) {
        if (s->recover + s->reset + !!s->backup + !!s->restore + !!s->backup_key > 1)
                return error_set(err, -EINVAL,
                                 "--recover, --reset, --backup, --backup-cluster-key and --restore exclude "
                                 "each other");
        if (s->force && !s->recover)
                return error_set(err, -EINVAL, "--force requires --recover");
        if ((s->restore_key || s->dry_run) && !s->restore)
                return error_set(err, -EINVAL, "%s requires --restore",
                                 s->dry_run ? "--dry-run" : "--cluster-key");
        if ((s->backup && !s->backup[0]) || (s->restore && !s->restore[0]) ||
            (s->backup_key && !s->backup_key[0]) || (s->restore_key && !s->restore_key[0]))
                return error_set(err, -EINVAL,
                                 "--backup, --backup-cluster-key, --restore and --cluster-key require a file "
                                 "name");
        return 0;
}

static bool settings_has_file(const Settings *s, const char *name) {
        _cleanup_free_ char *path = NULL;

        return asprintf(&path, "%s/%s", s->state_directory, name) >= 0 && access(path, F_OK) == 0;
}

int settings_agent_path(const Settings *s, char **ret) {
        return asprintf(ret, "%s/agent", s->state_directory) < 0 ? -ENOMEM : 0;
}

bool settings_has_replica(const Settings *s) {
        return settings_has_file(s, "tree/identity");
}

bool settings_has_cluster(const Settings *s) {
        return settings_has_file(s, "identity/certificate.pem") || settings_has_file(s, "cluster");
}

/* Return whether this host has an identity, or receives it: at this start, or, after a restore, as a cluster
 * of one. */
static bool settings_has_identity(const Settings *s) {
        return settings_has_file(s, "identity/key") || settings_has_file(s, "identity.new/entering") ||
               settings_has_replica(s) || s->restore;
}

/* A right to keys has no effect while each local user may write all keys. */
ClientAccess settings_client_access(const Settings *s) {
        if (s->client_access != CLIENT_UNSET)
                return s->client_access;
        return local_rights_have_keys(&s->local_rights) ? CLIENT_CLOSED : CLIENT_READ_WRITE;
}

int settings_check(const Settings *s, Error *err) {
        TRY(settings_check_maintenance(s, err));
        /* A host that has lost its identity starts, and waits for a token. */
        if (s->listen_peer[0] && !s->peer_key[0] && s->join.n == 0 && !settings_has_identity(s))
                return error_set(
                        err, -EINVAL,
                        "ListenPeer=%s requires PeerKey= or an identity of this host. To open its cluster: "
                        "remove the setting, start fleetd, and run fleetctl init --listen=%s",
                        s->listen_peer, s->listen_peer);
        if (s->join.n > 0 && !s->listen_peer[0])
                return error_set(err, -EINVAL,
                                 "Join=%s requires ListenPeer=: the other hosts connect to this one",
                                 s->join.items[0]);
        if (starts_with(s->listen_peer, "0.0.0.0:") || starts_with(s->listen_peer, "[::]:"))
                return error_set(
                        err, -EINVAL,
                        "ListenPeer=%s: expected the one address at which other hosts reach this one",
                        s->listen_peer);
        if ((starts_with(s->listen_tls, "0.0.0.0:") || starts_with(s->listen_tls, "[::]:")) &&
            s->server_names.n == 0)
                return error_set(err, -EINVAL,
                                 "ListenTLS=%s requires ServerNames=, the names and addresses with which "
                                 "clients reach "
                                 "this host",
                                 s->listen_tls);
        if (s->server_names.n > 0 && !s->listen_tls[0])
                return error_set(err, -EINVAL,
                                 "ServerNames=%s requires ListenTLS=", s->server_names.items[0]);
        if (s->http.buffer_size < s->limits.answer_size || s->http.buffer_size < s->limits.body_size)
                return error_set(err, -EINVAL,
                                 "LimitBufferSize= covers all requests and answers: expected at least "
                                 "LimitAnswerSize= and LimitBodySize=");
        if (s->http.line_size > s->http.head_size)
                return error_set(err, -EINVAL,
                                 "LimitLineSize= cannot be above LimitHeadSize=: the head contains the line");
        return 0;
}
