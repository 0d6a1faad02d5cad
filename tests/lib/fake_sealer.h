/* A sealer whose host has a number: what one host has sealed opens on no other one. */
#pragma once

#include "fleetd/host/sealer.h"
#include "io/loop.h"

typedef struct FakeSealer {
        Sealer base;
        Loop *loop;              /* borrowed */
        uint8_t host;            /* a change of it makes what was sealed unreadable */
        bool broken;             /* calls fail */
        bool damages;            /* what is sealed now opens as another key */
        uint64_t delay_ms;       /* until 'done' */
        unsigned sealed, opened; /* calls so far */

        Timer timer;
        SealerDone *done;
        void *userdata;
        char bytes[SEALED_MAX];
        size_t size;
        int error;
} FakeSealer;

void fake_sealer_init(FakeSealer *s, Loop *loop, uint8_t host);
