#include "base/fault_point.h"

#ifdef FAULT_POINTS
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>

#include "base/memory.h"

enum { NAME_SIZE_MAX = 300, SEEN_MAX = 256 };

/* Append 'whole' to the file. A name without a subject is a literal: its address identifies it, and one line
 * is enough. A name with a subject is appended each time. */
static void fault_point_record(const char *path, const char *name, const char *whole) {
        static const char *seen[SEEN_MAX];
        static unsigned n_seen;
        char line[NAME_SIZE_MAX + 1];
        int fd, size;

        for (unsigned i = 0; i < n_seen; i++)
                if (seen[i] == name)
                        return;
        if (name == whole && n_seen < SEEN_MAX)
                seen[n_seen++] = name;

        fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0)
                return;
        size = snprintf(line, sizeof(line), "%s\n", whole);
        (void) !write(fd, line, size);
        close(fd);
}

void fault_point_of(const char *name, const char *subject) {
        static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
        static unsigned n_passed;
        const char *chosen = getenv("FAULT_POINT"), *seen = getenv("FAULT_POINTS_SEEN"), *whole = name;
        char buffer[NAME_SIZE_MAX];
        size_t size;

        if (!chosen && !seen)
                return;
        if (subject) {
                snprintf(buffer, sizeof(buffer), "%s %s", name, subject);
                whole = buffer;
        }

        pthread_mutex_lock(&lock);
        if (seen)
                fault_point_record(seen, name, whole);
        size = strlen(whole);
        if (chosen && starts_with(chosen, whole) && (chosen[size] == 0 || chosen[size] == '#')) {
                unsigned wanted = chosen[size] ? (unsigned) strtoul(chosen + size + 1, NULL, 10) : 1;

                if (++n_passed == wanted)
                        (void) kill(getpid(), SIGKILL);
        }
        pthread_mutex_unlock(&lock);
}
#endif
