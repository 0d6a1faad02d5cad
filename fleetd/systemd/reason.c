/* Why a unit failed, from the properties of systemd. */
#include <signal.h>

#include "fleetd/systemd/systemd.h"

/* Exit statuses of systemd itself, before it executes the program. */
enum { EXIT_STATUS_MIN = 200 };

static const char *const reason_statuses[] = {
        "CHDIR",
        "NICE",
        "FDS",
        "EXEC",
        "MEMORY",
        "LIMITS",
        "OOM_ADJUST",
        "SIGNAL_MASK",
        "STDIN",
        "STDOUT",
        "CHROOT",
        "IOPRIO",
        "TIMERSLACK",
        "SECUREBITS",
        "SETSCHEDULER",
        "CPUAFFINITY",
        "GROUP",
        "USER",
        "CAPABILITIES",
        "CGROUP",
        "SETSID",
        "CONFIRM",
        "STDERR",
        NULL,
        "PAM",
        "NETWORK",
        "NAMESPACE",
        "NO_NEW_PRIVILEGES",
        "SECCOMP",
        "SELINUX_CONTEXT",
        "PERSONALITY",
        "APPARMOR",
        "ADDRESS_FAMILIES",
        "RUNTIME_DIRECTORY",
        NULL,
        "CHOWN",
        "SMACK_PROCESS_LABEL",
        "KEYRING",
        "STATE_DIRECTORY",
        "CACHE_DIRECTORY",
        "LOGS_DIRECTORY",
        "CONFIGURATION_DIRECTORY",
        "NUMA_POLICY",
        "CREDENTIALS",
        "BPF",
};

/* The usual mistakes of a unit file; the journal does not name the cause of each. */
static const struct {
        int status;
        const char *meaning;
} reason_meanings[] = {
        { 200, "the directory of WorkingDirectory= cannot be entered" },
        { 203, "the program of ExecStart= does not exist or cannot be executed" },
        { 216, "the group of Group= does not exist" },
        { 217, "the user of User= does not exist" },
        { 226, "a path of a setting such as ReadWritePaths= or PrivateTmp= cannot be set up" },
};

static void reason_append_status(Text *t, int status) {
        size_t i = (size_t) status - EXIT_STATUS_MIN;

        text_printf(t, "exit status %d", status);
        if (status >= EXIT_STATUS_MIN && i < ELEMENTS(reason_statuses) && reason_statuses[i])
                text_printf(t, "/%s", reason_statuses[i]);
        for (i = 0; i < ELEMENTS(reason_meanings); i++)
                if (reason_meanings[i].status == status)
                        text_printf(t, " (%s)", reason_meanings[i].meaning);
}

static void reason_append_signal(Text *t, const char *what, int signal) {
        const char *name = sigabbrev_np(signal);

        text_printf(t, "%s %d%s%s", what, signal, name ? "/" : "", name ?: "");
}

/* Append the message of a value of Result. A result of a control process (ExecStartPre=) or of a unit that is
 * no service has no status. */
static void reason_append_result(Text *t, const SystemdUnit *u) {
        static const struct {
                const char *result, *message;
        } rows[] = {
                { "exit-code", "a control process failed" },
                { "signal", "a control process was killed by a signal" },
                { "core-dump", "core dumped" },
                { "start-limit-hit", "start request repeated too quickly (start limit)" },
                { "oom-kill", "killed by the kernel: out of memory" },
                { "protocol", "the service did not follow the protocol of its Type=" },
                { "resources", "systemd failed to provide its resources" },
                { "success", "" },
        };

        if (streq(u->result, "exit-code") && u->exec_code == CLD_EXITED && u->exec_status != 0) {
                reason_append_status(t, u->exec_status);
                return;
        }
        if (streq(u->result, "signal") && u->exec_code == CLD_KILLED) {
                reason_append_signal(t, "killed by signal", u->exec_status);
                return;
        }
        if (streq(u->result, "core-dump") && u->exec_code == CLD_DUMPED) {
                reason_append_signal(t, "core dumped, signal", u->exec_status);
                return;
        }
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                if (streq(u->result, rows[i].result)) {
                        text_append(t, rows[i].message);
                        return;
                }
        text_append(t, u->result); /* "timeout", "watchdog", and those of other types and versions */
}

bool systemd_is_restarting(const SystemdUnit *u) {
        return streq(u->sub, "auto-restart") || streq(u->sub, "auto-restart-queued");
}

void systemd_append_reason(Text *t, const SystemdUnit *u) {
        if (streq(u->active, "failed") || systemd_is_restarting(u)) {
                size_t size = t->size;

                reason_append_result(t, u);
                if (t->size > size && u->n_restarts > 0 && streq(u->active, "failed"))
                        text_printf(t, ", after %u restart%s", u->n_restarts, plural(u->n_restarts));
        } else if (streq(u->active, "inactive"))
                text_append(t, u->load_error);
}

bool systemd_is_refusal(int error) {
        static const int of_host[] = { ETIMEDOUT, ECONNRESET, ECANCELED, ENOTCONN, ENOMEM, ENOSPC,
                                       EDQUOT,    EROFS,      EIO,       EMFILE,   ENFILE, ENOBUFS };

        for (size_t i = 0; i < ELEMENTS(of_host); i++)
                if (error == -of_host[i])
                        return false;
        return error < 0;
}
