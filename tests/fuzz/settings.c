/* Arbitrary bytes as fleetd.conf: the daemon gets consistent settings, or one message that names the file. */
#include <fcntl.h>

#include "base/log.h"
#include "fleetd/host/settings.h"
#include "tests/lib/scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static char *scratch;

static void scratch_forget(void) {
        scratch = scratch_free(scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        char path[300], option[320];
        char *arguments[] = { (char *) "fleetd", option,
                              (char *) "--machine-id=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL };
        _cleanup_settings_ Settings s = {};
        Error err = {};
        int fd, r;

        if (!scratch) {
                scratch = scratch_new();
                atexit(scratch_forget);
                log_set_max_priority(LOG_EMERG);
        }
        snprintf(path, sizeof(path), "%s/fleetd.conf", scratch);
        snprintf(option, sizeof(option), "--config=%s", path);
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        assert(fd >= 0 && write(fd, bytes, size) == (ssize_t) size);
        close(fd);

        r = settings_read(&s, 3, arguments, &err);
        if (r < 0) {
                assert(err.message[0] && !strchr(err.message, '\n'));
                return 0;
        }
        assert(r == 0 && s.state_directory && s.runtime_directory && s.listen_socket && s.name &&
               s.machine_id);
        assert(strlen(s.machine_id) == 32);
        assert(!s.listen_peer[0] || s.peer_key[0]); /* the listener for peers always needs a key */
        assert(s.join.n == 0 || s.listen_peer[0]);
        return 0;
}
