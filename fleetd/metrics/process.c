#include "fleetd/metrics/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "fleetd/metrics/writer.h"

enum { US_PER_S = NS_PER_S / NS_PER_US };

static uint64_t process_cpu_ns(void) {
        struct rusage usage;

        if (getrusage(RUSAGE_SELF, &usage) < 0)
                return 0;
        return ((uint64_t) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * US_PER_S +
                (uint64_t) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec)) *
               NS_PER_US;
}

static uint64_t process_resident_bytes(void) {
        _cleanup_close_ int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
        unsigned long pages = 0;
        char text[128];
        ssize_t n;

        n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
        if (n <= 0)
                return 0;
        text[n] = 0;
        return sscanf(text, "%*u %lu", &pages) == 1 ? pages * (uint64_t) sysconf(_SC_PAGESIZE) : 0;
}

/* Since Linux 6.2 the size of the folder is their number. */
static uint64_t process_open_fds(void) {
        struct stat st;
        uint64_t n = 0;
        DIR *folder;

        if (stat("/proc/self/fd", &st) == 0 && st.st_size > 0)
                return (uint64_t) st.st_size;
        folder = opendir("/proc/self/fd");
        if (!folder)
                return 0;
        for (const struct dirent *entry = readdir(folder); entry; entry = readdir(folder))
                n += entry->d_name[0] != '.';
        closedir(folder);
        return n - 1; /* without the folder's own */
}

void metrics_process_read(MetricsProcess *ret) {
        ret->cpu_ns = process_cpu_ns();
        ret->resident_bytes = process_resident_bytes();
        ret->open_fds = process_open_fds();
}
