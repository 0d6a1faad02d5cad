#include "tests/lib/scratch.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/file.h"
#include "base/memory.h"

char *scratch_new(void) {
        const char *base = getenv("TMPDIR") ?: "/tmp";
        char *path = NULL;

        if (asprintf(&path, "%s/fleetd-test-XXXXXX", base) < 0 || !mkdtemp(path))
                abort();
        return path;
}

char *scratch_free(char *path) {
        if (path) {
                int r = remove_tree_at(AT_FDCWD, path);

                assert(r == 0);
                free(path);
        }
        return NULL;
}

char *scratch_path(const char *scratch, const char *name) {
        char *path = NULL;

        if (asprintf(&path, "%s/%s", scratch, name) < 0)
                abort();
        return path;
}

void scratch_write(const char *path, const char *text) {
        FILE *f = fopen(path, "we");

        if (!f || fputs(text, f) < 0 || fclose(f) != 0)
                abort();
}
