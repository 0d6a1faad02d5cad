/* The daemon's figures as Prometheus reads them (text, 0.0.4): fleet's names where fleet had them. Pure. */
#pragma once

#include "base/text.h"
#include "fleetd/engine/engine.h"
#include "fleetd/registry/registry.h"

void metrics_write(Text *t, const Loop *loop, const KvStore *store, const Registry *registry,
                   const Engine *engine); /* 'engine' may be NULL */
