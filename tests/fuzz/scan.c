/* Arbitrary bytes as the watched folder of units: parts separated by 0x1e, each the name of a file, a
 * newline, and its contents; a name may be in a folder of drop-ins ("web.service.d/10.conf"). Each file gives
 * a unit that prints and reads unchanged, or a message; a second scan gives the same. */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "fleetd/directory/scan.h"
#include "tests/lib/scan_folder.h"
#include "tests/lib/scratch.h"
#include "units/stored_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum { SEPARATOR = 0x1e, FILES_MAX = 20 };

static char *scratch;

static void scratch_forget(void) {
        scratch = scratch_free(scratch);
}

/* No name leaves the folder. */
static void put(int dir_fd, const char *part, size_t size) {
        const char *newline = memchr(part, '\n', size);
        size_t name_size = newline ? (size_t) (newline - part) : 0;
        _cleanup_free_ char *name = NULL;
        _cleanup_close_ int fd = -1;
        char *slash;

        if (name_size == 0 || name_size > 300 || memchr(part, 0, name_size))
                return;
        name = strndup(part, name_size);
        assert(name);
        slash = strchr(name, '/');
        if (name[0] == '/' || strstr(name, "..") || (slash && strchr(slash + 1, '/')))
                return;
        if (slash) {
                *slash = 0;
                (void) mkdirat(dir_fd, name, 0700);
                *slash = '/';
        }
        fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd >= 0)
                assert(write(fd, newline + 1, size - name_size - 1) == (ssize_t) (size - name_size - 1));
}

static void check_message(const char *message) {
        for (const char *p = message ?: "."; *p; p++)
                assert((unsigned char) *p >= ' ' && *p != 0x7f);
}

static void check_unit(const Unit *unit) {
        _cleanup_unit_ Unit *again = NULL;
        _cleanup_text_ Text t = {};
        Error err = {};

        stored_unit_write(&t, unit);
        assert(t.error == 0 && t.size <= RECORD_SIZE_MAX);
        assert(stored_unit_read(unit->name, t.chars, t.size, &again, &err) == 0);
        assert(unit_equal(unit, again) && streq(unit->text, again->text) && streq(unit->owner, again->owner));
}

static void check(const DirectoryFolder *folder) {
        for (size_t i = 0; i < folder->n; i++) {
                const DirectoryFile *f = &folder->files[i];

                assert(i == 0 || strcmp(folder->files[i - 1].name, f->name) < 0);
                assert((directory_folder_name_is_unit(f->name) ||
                        directory_folder_name_is_misspelt(f->name)) &&
                       (f->unit || f->error || f->unfinished));
                if (f->unit && !f->fault)
                        check_unit(f->unit);
                check_message(f->fault);
                check_message(f->error);
        }
}

static bool no_writes(void *userdata, const char *name) {
        return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        static const char id[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
        _cleanup_directory_folder_ DirectoryFolder folder = {}, again = {};
        const char *p = (const char *) bytes, *end = p + size;
        _cleanup_close_ int dir_fd = -1;

        if (!scratch) {
                scratch = scratch_new();
                (void) atexit(scratch_forget);
                log_set_max_priority(LOG_EMERG);
        }
        assert(remove_tree_at(AT_FDCWD, scratch) == 0 && mkdir(scratch, 0700) == 0);
        dir_fd = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert(dir_fd >= 0);
        for (unsigned i = 0; i < FILES_MAX && p < end; i++) {
                const char *separator = memchr(p, SEPARATOR, end - p) ?: end;

                put(dir_fd, p, separator - p);
                p = separator + 1;
        }

        assert(scan_folder(dir_fd, "/units", id, no_writes, NULL, &folder) == 0 && folder.complete);
        check(&folder);
        for (size_t i = 0; i < folder.n; i++)
                directory_folder_write_error(dir_fd, "/units", &folder.files[i], 0, false);
        assert(scan_folder(dir_fd, "/units", id, no_writes, NULL, &again) ==
               0); /* what was written beside them is no unit */
        assert(again.n == folder.n);
        for (size_t i = 0; i < folder.n; i++) {
                assert(streq(folder.files[i].name, again.files[i].name) &&
                       !folder.files[i].unit == !again.files[i].unit);
                assert(!folder.files[i].unit || streq(folder.files[i].unit->text, again.files[i].unit->text));
        }
        return 0;
}
