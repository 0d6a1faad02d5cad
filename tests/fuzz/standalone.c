/* Run a fuzz target without a fuzzer: over its corpus, and over mutated copies of it from a seed.
 *
 *   fuzz-NAME [--mutate=N] [--seed=S] FILE-OR-FOLDER...
 *
 * With clang the same targets run under libFuzzer: compile them with -fsanitize=fuzzer and without this file.
 */
#include <dirent.h>
#include <fcntl.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/parse.h"

enum { INPUT_MAX = 1024 * 1024, GROWTH_MAX = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

typedef struct Run {
        uint64_t mutations; /* of each input */
        uint64_t seed;
        uint64_t n_runs;
} Run;

/* A copy of exactly its size: the sanitizer then detects each read after the end. */
static void run_once(Run *run, const uint8_t *bytes, size_t size) {
        _cleanup_free_ uint8_t *copy = malloc(size > 0 ? size : 1);

        if (!copy)
                abort();
        if (size > 0)
                memcpy(copy, bytes, size);
        LLVMFuzzerTestOneInput(copy, size);
        run->n_runs++;
}

static uint8_t likely_byte(Random *random) {
        static const uint8_t likely[] = "\0\xff\x7f\x80\x01 \n\\\"=[]{},:/";

        return random_below(random, 2) ? likely[random_below(random, sizeof(likely) - 1)] :
                                         random_below(random, 256);
}

/* Make one change: a bit, a byte, an omitted or a repeated piece. Return the new size. */
static size_t change(Random *random, uint8_t *bytes, size_t size, size_t capacity) {
        size_t at = random_below(random, size + 1), n;

        switch (random_below(random, 5)) {
        case 0:
                if (at < size)
                        bytes[at] ^= 1u << random_below(random, 8);
                return size;
        case 1:
                if (at < size)
                        bytes[at] = likely_byte(random);
                return size;
        case 2:
                n = random_below(random, MIN(size - at, (size_t) 32) + 1);
                memmove(bytes + at, bytes + at + n, size - at - n);
                return size - n;
        case 3:
                n = random_below(random, MIN(MIN(size - at, (size_t) 16), capacity - size) + 1);
                memmove(bytes + at + n, bytes + at, size - at);
                return size + n;
        default:
                if (size == capacity)
                        return size;
                memmove(bytes + at + 1, bytes + at, size - at);
                bytes[at] = likely_byte(random);
                return size + 1;
        }
}

static int run_file(Run *run, int dir_fd, const char *name) {
        _cleanup_free_ char *text = NULL;
        uint8_t *bytes;
        Random random;
        size_t size;
        int r;

        r = read_file_at(dir_fd, name, INPUT_MAX, &text, &size);
        if (r < 0) {
                fprintf(stderr, "cannot read %s: %s\n", name, strerror(-r));
                return r;
        }
        run_once(run, (const uint8_t *) text, size);

        bytes = malloc(size + GROWTH_MAX);
        if (!bytes)
                return -ENOMEM;
        random_seed(&random, run->seed);
        for (uint64_t i = 0; i < run->mutations; i++) {
                size_t n = size;

                if (size > 0)
                        memcpy(bytes, text, size);
                for (uint64_t changes = 1 + random_below(&random, 4); changes > 0; changes--)
                        n = change(&random, bytes, n, size + GROWTH_MAX);
                run_once(run, bytes, n);
        }
        free(bytes);
        return 0;
}

static int run_path(Run *run, const char *path) {
        struct dirent *entry;
        DIR *dir = opendir(path);
        int r = 0;

        if (!dir)
                return run_file(run, AT_FDCWD, path);
        while (r >= 0 && (entry = readdir(dir)))
                if (entry->d_name[0] != '.')
                        r = run_file(run, dirfd(dir), entry->d_name);
        closedir(dir);
        return r;
}

int main(int argc, char **argv) {
        Run run = { .seed = 1 };

        for (int i = 1; i < argc; i++) {
                bool is_option = starts_with(argv[i], "--");

                if (is_option && starts_with(argv[i], "--mutate=") &&
                    parse_u64(argv[i] + 9, &run.mutations) == 0)
                        continue;
                if (is_option && starts_with(argv[i], "--seed=") && parse_u64(argv[i] + 7, &run.seed) == 0)
                        continue;
                if (is_option) {
                        fprintf(stderr, "usage: %s [--mutate=N] [--seed=S] FILE-OR-FOLDER...\n", argv[0]);
                        return 2;
                }
                if (run_path(&run, argv[i]) < 0)
                        return 1;
        }
        printf("%" PRIu64 " inputs, seed %" PRIu64 "\n", run.n_runs, run.seed);
        return run.n_runs > 0 ? 0 : 1;
}
