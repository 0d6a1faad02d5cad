/* The list of all verbs, in the order of the help. The row of a verb is in its file below client/verbs/. */
#include "client/verbs.h"

#define VERBS(VERB)             \
        VERB(backup)            \
        VERB(ca)                \
        VERB(cat)               \
        VERB(cert)              \
        VERB(cluster)           \
        VERB(cordon)            \
        VERB(destroy)           \
        VERB(diff)              \
        VERB(directory)         \
        VERB(drain)             \
        VERB(edit)              \
        VERB(events)            \
        VERB(export)            \
        VERB(fd_forward)        \
        VERB(help)              \
        VERB(history)           \
        VERB(import)            \
        VERB(init)              \
        VERB(is_active)         \
        VERB(is_failed)         \
        VERB(join)              \
        VERB(journal)           \
        VERB(kill)              \
        VERB(kv)                \
        VERB(leave)             \
        VERB(list_dependencies) \
        VERB(list_machines)     \
        VERB(list_members)      \
        VERB(list_unit_files)   \
        VERB(list_units)        \
        VERB(load)              \
        VERB(log)               \
        VERB(machine)           \
        VERB(move)              \
        VERB(plan)              \
        VERB(rebalance)         \
        VERB(reboot)            \
        VERB(recover)           \
        VERB(reload)            \
        VERB(remove)            \
        VERB(reset_failed)      \
        VERB(restart)           \
        VERB(restore)           \
        VERB(revert)            \
        VERB(rollout)           \
        VERB(scale)             \
        VERB(secret)            \
        VERB(services)          \
        VERB(show)              \
        VERB(ssh)               \
        VERB(start)             \
        VERB(status)            \
        VERB(stop)              \
        VERB(submit)            \
        VERB(token)             \
        VERB(top)               \
        VERB(uncordon)          \
        VERB(unload)            \
        VERB(verify)            \
        VERB(version)           \
        VERB(web)               \
        VERB(why)

#define DECLARE(name) extern const Verb verb_##name;
VERBS(DECLARE)

#define LIST(name) &verb_##name,
const Verb *const verbs[] = { VERBS(LIST) NULL };
