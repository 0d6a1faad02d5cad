/* The verbs of fleetctl, by file. Each verb returns the exit status of the program. */
#pragma once

#include <stddef.h>

typedef struct Client Client;

/* client/cluster.c */
int verb_cluster(Client *c, char **args, size_t n);

/* client/control.c */
int verb_load(Client *c, char **args, size_t n);
int verb_start(Client *c, char **args, size_t n);
int verb_stop(Client *c, char **args, size_t n);
int verb_unload(Client *c, char **args, size_t n);
int verb_destroy(Client *c, char **args, size_t n);
int verb_restart(Client *c, char **args, size_t n);

/* client/directory.c */
int verb_directory(Client *c, char **args, size_t n);

/* client/edit.c */
int verb_diff(Client *c, char **args, size_t n);
int verb_edit(Client *c, char **args, size_t n);

/* client/events.c */
int verb_events(Client *c, char **args, size_t n);

/* client/files.c */
int verb_submit(Client *c, char **args, size_t n);
int verb_cat(Client *c, char **args, size_t n);

/* client/import.c */
int verb_import(Client *c, char **args, size_t n);

/* client/inspect.c */
int verb_verify(Client *c, char **args, size_t n);
int verb_plan(Client *c, char **args, size_t n);
int verb_why(Client *c, char **args, size_t n);

/* client/journal.c */
int verb_journal(Client *c, char **args, size_t n);

/* client/kv.c */
int verb_kv(Client *c, char **args, size_t n);

/* client/list.c */
int verb_list_machines(Client *c, char **args, size_t n);
int verb_list_units(Client *c, char **args, size_t n);
int verb_list_unit_files(Client *c, char **args, size_t n);

/* client/ssh.c */
int verb_ssh(Client *c, char **args, size_t n);
int verb_fd_forward(Client *c, char **args, size_t n);

/* client/unit_status.c */
int verb_status(Client *c, char **args, size_t n);
int verb_show(Client *c, char **args, size_t n);
int verb_list_dependencies(Client *c, char **args, size_t n);
int verb_reload(Client *c, char **args, size_t n);
int verb_kill(Client *c, char **args, size_t n);
int verb_reset_failed(Client *c, char **args, size_t n);
int verb_is_active(Client *c, char **args, size_t n);
int verb_is_failed(Client *c, char **args, size_t n);
