/* The component of inputs: secrets, and the contents of units (content.h). inputs.c has its row and its duty;
 * secrets.c sets, opens and seals secrets, secrets_v1.c has their routes; watcher.c is the leader's half;
 * resolver.c reads the content of a unit, resolver_call.c asks a replica for it; provider.c brings it into
 * files; drop_in.c has the sections that name them. */
#pragma once

#include "fleetd/api/fleet_v1.h"
#include "fleetd/engine/controller.h"
#include "fleetd/features/inputs/content.h"
#include "fleetd/features/inputs/input_files.h"
#include "fleetd/problems/problems.h"
#include "units/named.h"

typedef struct Inputs Inputs;
typedef struct Watcher Watcher;
typedef struct Resolver Resolver;
typedef struct Provider Provider;

struct Inputs {
        ComponentHost *host; /* borrowed */
        Watcher *watcher;
        Resolver *resolver;
        Provider *provider; /* NULL: no agent */
};

/* -- secrets.c: of hosts with a replica -- */

/* Seal a value with the present cluster key, for this cluster, name, version and these patterns, which are
 * members of 'record': set cluster_key, size and sealed, which the caller frees. -EAGAIN: the key is being
 * opened; -ENOKEY, and other errors: with a message. */
int secret_seal(const ComponentHost *host, const char *name, const void *value, size_t size,
                SecretRecord *record, Error *err);
/* Read the value of a secret from the tree of this host, with what it says beside it. 0; -ENOENT: it is not
 * set; -EAGAIN: the cluster key is being opened; -ENOKEY, -EBADMSG: with a message. The caller frees
 * *ret_value by tls_secret_free() with its size, which is ret->size. */
int secret_open(const ComponentHost *host, const char *name, SecretRecord *ret, char **ret_value, Error *err);

/* Write a secret, whose record was decided on the present cluster view and cluster key; NULL: delete it.
 * 'user' for the history. KV_COMPARE_FAILED: one of them has changed. */
int secret_write(Registry *r, const char *name, const SecretRecord *record, const char *user,
                 RegistryDone done, void *userdata);
/* Component.reseal: seal one secret with the present key; or record that its key is lost, or has returned. */
int secrets_reseal(void *inputs, RegistryDone done, void *userdata, Error *err);

/* -- secrets_v1.c -- */

enum { SECRETS_ROUTES = 3 };

extern const Route secrets_routes[SECRETS_ROUTES];
extern const ProblemRow inputs_problems[];
void inputs_write_why(Text *t, const Request *request, const ClusterUnit *u); /* Component.write_why */

/* -- watcher.c: on the leader -- */

int watcher_new(Watcher **ret, ComponentHost *host); /* 0 or -ENOMEM */
Watcher *watcher_free(Watcher *w);                   /* NULL allowed; returns NULL */
int watcher_step(Control *control);                  /* Controller.step */

/* -- resolver.c -- */

/* The content of a unit, with the values that it borrows. */
typedef struct Resolved {
        Content content;
        uint64_t index; /* of the store at which it was read */
} Resolved;

/* 'r' is borrowed for the call; NULL: it could not be read for now. */
typedef void ResolverDone(void *userdata, const Resolved *r);

int resolver_new(Resolver **ret, ComponentHost *host); /* 0 or -ENOMEM */
Resolver *resolver_free(Resolver *r);                  /* NULL allowed; returns NULL */
/* Resolve the content of a unit that is assigned to this host with this text, at an index of the store that
 * is not below 'index': from the tree and the key of this host, or by a replica. One call for a unit at a
 * time. 0: 'done' follows, from the loop; -EAGAIN: not now. */
int resolver_begin(Resolver *r, const Unit *text, uint64_t index, ResolverDone *done, void *userdata);
void resolver_cancel(Resolver *r, const char *unit); /* without 'done' */
/* The same of the tree of this host for any unit, at once. Values of secrets only with 'open'. 0, -EAGAIN,
 * -ENOMEM. The content borrows from *ret_values, which the caller frees by resolver_values_free(). */
typedef struct ResolverValues ResolverValues;
int resolver_read(const ComponentHost *host, const char *unit, const InputPolicy *policy, bool open,
                  Resolved *ret, ResolverValues **ret_values);
ResolverValues *resolver_values_free(ResolverValues *v); /* wipes secrets; NULL allowed; returns NULL */

/* -- provider.c: on each host with an agent -- */

int provider_new(Provider **ret, ComponentHost *host, Resolver *resolver); /* 0 or -ENOMEM */
Provider *provider_free(Provider *p);                                      /* NULL allowed; returns NULL */
/* Duty.provide, Duty.provided, Duty.stage, Duty.publish, Duty.gone */
int provider_provide(Provider *p, const Unit *text, uint64_t number, Verdict *why);
uint64_t provider_provided(const Provider *p, const Unit *text, Verdict *problem);
int provider_stage(Provider *p, const Unit *text, Error *err);
void provider_publish(Provider *p, const DutyUnit *unit);
void provider_gone(Provider *p, const char *unit);

/* -- drop_in.c -- */

/* Append the sections of fleet-inputs.conf: a function of the text alone. Pure. */
void inputs_append_drop_in(Text *t, const Unit *text);
/* Write the name of a unit for paths: other bytes than letters, digits, '.', '_', '-', '@' as "+XX". Pure. */
enum { INPUTS_NAME_SIZE = 3 * UNIT_NAME_MAX + 1, INPUTS_LISTS_SIZE = 9 /* '~', digits */ };
void inputs_name(const char *unit, char ret[static INPUTS_NAME_SIZE]);
/* Write the folder of the files of a text: that name, '~', and 8 hex digits of a CRC-32C of the lists of the
 * text. So texts with other lists have other files, and neither touches those of the other. Pure. */
enum { INPUTS_FOLDER_SIZE = INPUTS_NAME_SIZE + INPUTS_LISTS_SIZE };
void inputs_folder(const Unit *text, char ret[static INPUTS_FOLDER_SIZE]);
/* Return whether this is the folder of a unit, whose name is in *ret. Pure. */
bool inputs_unit_of(const char *folder, char ret[static UNIT_NAME_MAX + 1]);
