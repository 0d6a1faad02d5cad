#include "fleetd/systemd/guard.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "fleetd/systemd/drop_in.h"
#include "units/singleton.h"

enum { GUARD_PATH_SIZE = 1024 };

#define GUARD_SERVICE SINGLETON_GUARD ".service"
#define GUARD_LEASES  ".leases"

/* Return the path of this program, which systemd is to start; after an upgrade, that of the new one. */
static int guard_program(char ret[static GUARD_PATH_SIZE]) {
        static const char deleted[] = " (deleted)";
        ssize_t n = readlink("/proc/self/exe", ret, GUARD_PATH_SIZE - 1);

        if (n < 0)
                return -errno;
        ret[n] = 0;
        if (ends_with(ret, deleted))
                ret[n - (ssize_t) strlen(deleted)] = 0;
        return strpbrk(ret, "%$\"\\ ") ? -EINVAL : 0;
}

static int guard_write_service(const char *systemd, const char *folder) {
        char program[GUARD_PATH_SIZE];
        _cleanup_close_ int fd = -EBADF;
        _cleanup_text_ Text t = {};

        TRY(guard_program(program));
        text_printf(&t,
                    "# Written by fleetd. It runs while %%i may run on this host, and %%i is bound to it.\n"
                    "[Unit]\n"
                    "Description=Lease of %%i\n"
                    "Documentation=man:fleet.unit(5)\n"
                    "StopWhenUnneeded=yes\n"
                    "CollectMode=inactive-or-failed\n"
                    "StartLimitIntervalSec=0\n"
                    "\n"
                    "[Service]\n"
                    "Type=notify\n"
                    "ExecStart=%s --guard=%s/" GUARD_LEASES "/%%i\n"
                    "WatchdogSec=%d\n"
                    "WatchdogSignal=SIGKILL\n"
                    "TimeoutStartSec=%d\n"
                    "TimeoutStopSec=1\n"
                    "OOMScoreAdjust=-900\n",
                    program, folder, SINGLETON_WATCHDOG_MS / 1000, SINGLETON_WATCHDOG_MS / 1000);
        if (t.error < 0)
                return t.error;
        fd = TRY(open_dir(systemd, 0755));
        return file_holds_at(fd, GUARD_SERVICE, t.chars, t.size) ?
                       0 : /* a change would make systemd ask for a reload */
                       write_file_at(fd, GUARD_SERVICE, t.chars, t.size, 0644);
}

int guard_bind(const char *systemd, const char *folder, const char *name, const UnitFile *file) {
        char link[GUARD_PATH_SIZE];
        _cleanup_text_ Text t = {};
        uint64_t timeout_ms;
        int r;

        snprintf(link, sizeof(link), "%s/%s", systemd, name);
        TRY(guard_write_service(systemd, folder));
        (void) singleton_stop_ms(file, &timeout_ms);
        text_printf(&t,
                    "# Written by fleetd: Singleton=yes.\n"
                    "[Unit]\n"
                    "BindsTo=" SINGLETON_GUARD "%%n.service\n"
                    "After=" SINGLETON_GUARD "%%n.service\n"
                    "\n"
                    "[Service]\n"
                    "EnvironmentFile=-%s/" GUARD_LEASES "/%%n.env\n",
                    folder);
        if (timeout_ms == 0) /* not the default of this host */
                text_printf(&t, "TimeoutStopSec=%d\n", SINGLETON_STOP_MS / 1000);
        r = t.error < 0 ? t.error : drop_in_put(link, DROP_IN_SINGLETON, t.chars);
        return MIN(r, 0);
}

void guard_unbind(const char *folder, const char *name) {
        char path[GUARD_PATH_SIZE];
        int n = snprintf(path, sizeof(path), "%s/" GUARD_LEASES "/%s.env", folder, name);

        if (n >= (int) sizeof(path))
                return;
        (void) unlink(path);
        path[n - (int) strlen(".env")] = 0;
        (void) unlink(path);
}

int guard_set_lease(const char *folder, const char *name, uint64_t until_ms, uint64_t token) {
        char path[GUARD_PATH_SIZE], text[64];
        _cleanup_close_ int fd = -EBADF;
        int r;

        r = snprintf(path, sizeof(path), "%s/" GUARD_LEASES, folder);
        if (r >= (int) sizeof(path))
                return -ENAMETOOLONG;
        fd = TRY(open_dir(path, 0755));
        if (until_ms == 0)
                return unlinkat(fd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
        if (token > 0) {
                r = snprintf(path, sizeof(path), "%s.env", name);
                r = r < (int) sizeof(path) ?
                            snprintf(text, sizeof(text), "FLEET_TOKEN=%llu\n", (unsigned long long) token) :
                            -ENAMETOOLONG;
                if (r >= 0)
                        r = write_file_at(fd, path, text, strlen(text), 0644);
                if (r < 0)
                        return r;
        }
        snprintf(text, sizeof(text), "%llu\n", (unsigned long long) until_ms);
        return write_file_at(fd, name, text, strlen(text), 0644);
}
