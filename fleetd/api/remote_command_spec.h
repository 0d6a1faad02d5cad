/* A command of systemctl or journalctl for one unit, or for fleetd itself, or the usage of a host: as
 * parameters, as bytes between hosts, as a command line. Pure. */
#pragma once

#include "base/bytes.h"
#include "fleetd/api/callers.h"
#include "units/name.h"

#define CALL_NOT_HERE UINT32_MAX /* status of PEER_CALL_END: the replica has no session to the host */

enum {
        CALL_VERSION = 2,
        CALL_LINES_MAX = 100000,
        CALL_MATCHES_MAX = 16,
        CALL_ARGUMENTS_MAX = 40,
};
#define CALL_LINES_ALL UINT32_MAX /* log: no limit */

typedef enum RemoteCommandKind {
        CALL_JOURNAL,
        CALL_STATUS,
        CALL_SHOW,
        CALL_DEPENDENCIES,
        CALL_RELOAD,
        CALL_KILL,
        CALL_RESET_FAILED,
        CALL_LOG,   /* the journal of fleetd itself, as JSON */
        CALL_USAGE, /* what the units of the host use, as lines of JSON without end */
        _CALL_MAX
} RemoteCommandKind;

typedef struct RemoteCommandSpec {
        RemoteCommandKind kind;
        bool follow;
        bool cluster_only; /* the sender may read the units of the cluster, and none of the host's own */
        uint32_t lines;
        char unit[UNIT_NAME_MAX + 1]; /* log, usage: empty, or fleetd.service */
        char output[32];              /* journal: as journalctl's */
        char since[64], until[64];    /* journal, log: as journalctl takes them; "": no bound */
        char properties[512];         /* show: names with commas between; "": all */
        char signal[32], whom[16];    /* kill */
        char priority[32];            /* log: one or a range; "": all */
        char grep[256];               /* log: a regular expression; "": none */
        char fields[256];             /* log: fields of the output with commas between; "": all */
        char matches[1024];           /* log: FIELD=VALUE with newlines between */
        char interval[32];            /* usage: between two lines; "": the default */
} RemoteCommandSpec;

/* The members that are texts, in their order on the wire. Except for the unit, which is the first, they are
 * parameters of a request. */
typedef struct RemoteCommandText {
        const char *name;
        size_t offset, size;
        unsigned kinds;     /* that have it as an option */
        const char *option; /* NULL: no option */
} RemoteCommandText;

enum { REMOTE_COMMAND_TEXTS = 12 };
extern const RemoteCommandText remote_command_texts[REMOTE_COMMAND_TEXTS];

bool remote_command_changes(RemoteCommandKind kind);    /* it changes the unit, which must be the cluster's */
bool remote_command_is_of_host(RemoteCommandKind kind); /* it is about no unit */
CallerWork remote_command_work(RemoteCommandKind kind);
const char *remote_command_program(RemoteCommandKind kind);

/* Set defaults and check all parameters: 0, or -EINVAL with a message that begins with the name of the
 * parameter. */
int remote_command_spec_check(RemoteCommandSpec *spec, Error *err);

void remote_command_spec_write(const RemoteCommandSpec *spec, Writer *w);
/* Read and check what another host sent. -EBADMSG: invalid, or of another version. */
int remote_command_spec_read(Reader *r, RemoteCommandSpec *ret);

/* The command line; strings borrow from the spec and from 'buffers'. */
typedef struct RemoteCommandLine {
        const char *argv[CALL_ARGUMENTS_MAX];
        char buffers[7][640];
        char matches[1024];
        char unit[UNIT_NAME_MAX + 32]; /* its name in systemd */
} RemoteCommandLine;

void remote_command_spec_command(const RemoteCommandSpec *spec, RemoteCommandLine *ret);
