#include "tests/sim/seeds.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

bool seeds_parse(Seeds *s, int argc, char *argv[]) {
        static const struct option table[] = {
                { "seed", required_argument, NULL, 's' },
                { "runs", required_argument, NULL, 'r' },
                { "trace", no_argument, NULL, 't' },
                {},
        };
        int c;

        while ((c = getopt_long(argc, argv, "", table, NULL)) >= 0)
                switch (c) {
                case 's':
                        s->seed = strtoull(optarg, NULL, 10);
                        break;
                case 'r':
                        s->runs = strtoull(optarg, NULL, 10);
                        break;
                case 't':
                        s->trace = true;
                        break;
                default:
                        return false;
                }
        setvbuf(stdout, NULL, _IOLBF, 0);
        return true;
}
