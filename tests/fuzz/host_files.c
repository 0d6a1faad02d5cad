/* Any bytes as a small file of this host's state: the agent's notes, the identity of the store, a marker of trust. Notes are taken, and
 * written are taken again, or they are moved aside; nothing else stops a start. The first byte says which file. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/file.h"
#include "base/log.h"
#include "fleetd/agent/notes.h"
#include "kvstore/raft/folder.h"
#include "tests/lib/scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static char *scratch;
static int dir_fd;

static void scratch_forget(void) {
        close(dir_fd);
        scratch = scratch_free(scratch);
}

static void put(const char *name, const uint8_t *bytes, size_t size) {
        int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert(fd >= 0 && write(fd, bytes, size) == (ssize_t) size);
        close(fd);
}

static void notes(const uint8_t *bytes, size_t size) {
        uint64_t lineage, floor;
        unsigned count;
        Notes n;

        put("assignment", bytes, size);
        assert(notes_open(&n, scratch, NULL) == 0);
        lineage = n.lineage;
        floor = n.floor;
        count = HASH_COUNT(n.table);
        for (const Note *note = n.table; note; note = note->hh.next)
                assert(note->unit && (note->kind == ORDER_RUN || note->kind == ORDER_LOAD) && note->index <= n.floor);
        n.dirty = true;
        assert(notes_save(&n) == 0);
        notes_close(&n);

        assert(notes_open(&n, scratch, NULL) == 0);
        assert(n.lineage == lineage && n.floor == floor && HASH_COUNT(n.table) == count);
        notes_close(&n);
}

static void identity(const uint8_t *bytes, size_t size) {
        Folder folder = { .fd = dir_fd };
        uint64_t cluster, lineage, again[2];

        put("identity", bytes, size);
        if (folder_read_identity(&folder, &cluster, &lineage) < 0)
                return;
        assert(folder_write_identity(&folder, cluster, lineage) == 0);
        assert(folder_read_identity(&folder, &again[0], &again[1]) == 0 && again[0] == cluster && again[1] == lineage);
}

/* Whatever it says, the folder opens: at worst the tree is made anew. */
static void trusted(const uint8_t *bytes, size_t size) {
        static unsigned turn;
        Tree *tree = NULL;
        Folder folder;
        int r;

        put("trusted", bytes, size);
        if (turn++ % 20 != 0)
                return; /* making a tree takes a thousand times as long as reading a marker */
        r = folder_open(&folder, scratch, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", 0, &tree, NULL);
        assert(r == 0);
        tree_close(tree);
        folder_done(&folder);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        static void (*const files[])(const uint8_t *bytes, size_t size) = { notes, identity, trusted };

        if (!scratch) {
                scratch = scratch_new();
                dir_fd = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                assert(dir_fd >= 0);
                atexit(scratch_forget);
                log_set_max_priority(LOG_EMERG);
        }
        if (size > 0)
                files[bytes[0] % ELEMENTS(files)](bytes + 1, size - 1);
        return 0;
}
