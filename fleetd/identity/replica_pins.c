#include "fleetd/identity/replica_pins.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"

#define NAME "replicas"

enum { FILE_MAX = KV_MEMBERS_MAX * (MACHINE_ID_SIZE + PINS_MAX * DIGEST_SIZE), FOLDER_SIZE = 4096 };

static int replica_compare(const void *a, const void *b) {
        return strcmp((*(const ClusterMachine *const *) a)->id, (*(const ClusterMachine *const *) b)->id);
}

void replica_pins_of(const Cluster *c, ReplicaPins *ret) {
        const ClusterMachine *members[KV_MEMBERS_MAX];
        size_t n = 0;

        for (const ClusterMachine *m = LIST_FIRST(&c->members); m && n < KV_MEMBERS_MAX;
             m = LIST_NEXT(m, of_members))
                if (m->host && m->member.raft_id != 0 && !m->removed)
                        members[n++] = m;
        qsort(members, n, sizeof(*members), replica_compare);
        *ret = (ReplicaPins) { .n = n };
        for (size_t i = 0; i < n; i++) {
                memcpy(ret->items[i].machine, members[i]->id, sizeof(ret->items[i].machine));
                ret->items[i].pins = members[i]->host->pins;
        }
}

const Pins *replica_pins_find(const ReplicaPins *pins, const char *machine_id) {
        for (size_t i = 0; i < pins->n; i++)
                if (streq(pins->items[i].machine, machine_id))
                        return &pins->items[i].pins;
        return NULL;
}

bool replica_pins_equal(const ReplicaPins *a, const ReplicaPins *b) {
        return a->n == b->n && memcmp(a->items, b->items, sizeof(a->items)) == 0;
}

/* -- The file -- */

/* Take one word of a line into 'ret', if it has exactly this size with its terminator. */
static bool replica_take(const char **at, const char *end, char *ret, size_t ret_size) {
        const char *s = *at;

        while (*at < end && **at != ' ')
                (*at)++;
        if ((size_t) (*at - s) != ret_size - 1 || memchr(s, 0, ret_size - 1))
                return false;
        memcpy(ret, s, ret_size - 1);
        ret[ret_size - 1] = 0;
        return *at == end || ++*at < end; /* a word follows the space */
}

static bool replica_read_line(const char *at, const char *end, ReplicaPins *ret) {
        char *machine = ret->items[ret->n].machine;
        Pins *pins = &ret->items[ret->n].pins;

        if (!replica_take(&at, end, machine, MACHINE_ID_SIZE) || !machine_id_is_valid(machine))
                return false;
        while (at < end && pins->n < PINS_MAX) {
                if (!replica_take(&at, end, pins->items[pins->n], DIGEST_SIZE) ||
                    !digest_is_valid(pins->items[pins->n]))
                        return false;
                pins->n++;
        }
        return at == end && pins->n > 0;
}

int replica_pins_parse(const char *text, size_t size, ReplicaPins *ret) {
        const char *at = text, *end = text + size;
        ReplicaPins pins = {};

        while (at < end) {
                const char *newline = memchr(at, '\n', end - at);

                if (!newline || pins.n == KV_MEMBERS_MAX || !replica_read_line(at, newline, &pins))
                        return -EBADMSG;
                pins.n++;
                at = newline + 1;
        }
        *ret = pins;
        return 0;
}

static int replica_open(const char *state_directory) {
        char folder[FOLDER_SIZE];
        int fd;

        if (snprintf(folder, sizeof(folder), "%s/identity", state_directory) >= (int) sizeof(folder))
                return -ENAMETOOLONG;
        fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        return fd < 0 ? -errno : fd;
}

static int replica_read(int fd, ReplicaPins *ret) {
        _cleanup_free_ char *text = NULL;
        struct stat st;
        size_t size = 0;
        int r;

        TRY(read_file_at(fd, NAME, FILE_MAX, &text, &size));
        if (fstatat(fd, NAME, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        r = replica_pins_parse(text, size, ret);
        if (r >= 0 && st.st_mtim.tv_sec > 0)
                ret->confirmed_ms = (uint64_t) st.st_mtim.tv_sec * 1000 +
                                    (uint64_t) st.st_mtim.tv_nsec / 1000000;
        return r;
}

/* After a crash between the two steps, the list has the time of this host. */
static int replica_write(int fd, const char *text, size_t size, uint64_t confirmed_ms) {
        struct timespec times[2] = { { .tv_nsec = UTIME_OMIT },
                                     { .tv_sec = (time_t) (confirmed_ms / 1000),
                                       .tv_nsec = (long) (confirmed_ms % 1000 * 1000000) } };
        int r;

        r = write_file_at(fd, NAME, text, size, 0600);
        if (r < 0 || confirmed_ms == 0)
                return r;
        return utimensat(fd, NAME, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

int replica_pins_read(const char *state_directory, ReplicaPins *ret, Error *err) {
        _cleanup_close_ int fd = replica_open(state_directory);
        int r = fd < 0 ? fd : replica_read(fd, ret);

        return r < 0 ? error_set(err, r, "Failed to read %s/identity/" NAME ": %s", state_directory,
                                 strerror(-r)) :
                       0;
}

int replica_pins_write(const char *state_directory, const ReplicaPins *pins, Error *err) {
        _cleanup_close_ int fd = replica_open(state_directory);
        _cleanup_text_ Text text = {};
        int r;

        text_append(&text, "");
        for (size_t i = 0; i < pins->n; i++) {
                text_append(&text, pins->items[i].machine);
                for (size_t k = 0; k < pins->items[i].pins.n; k++)
                        text_printf(&text, " %s", pins->items[i].pins.items[k]);
                text_append(&text, "\n");
        }
        r = text.error < 0 ? text.error :
            fd < 0         ? fd :
                             replica_write(fd, text.chars, text.size, pins->confirmed_ms);
        return r < 0 ? error_set(err, r, "Failed to write %s/identity/" NAME ": %s", state_directory,
                                 strerror(-r)) :
                       0;
}
