/* The services that the parent offers its enclave: docs/protocol.md. */
#ifndef CLV_PARENT_SERVICES_H
#define CLV_PARENT_SERVICES_H

#include <pthread.h>
#include <stdatomic.h>

#include <channel/frame.h>
#include <parent/credentials.h>
#include <parent/store.h>

#define CLV_SERVICES        9 /* rows of the table of calls */
#define CLV_PARENT_PATH_MAX 512

/* One kind of call: how often, and how often it was answered with a fault. */
typedef struct clv_service_count {
    _Atomic uint64_t calls, faults;
} clv_service_count;

/* The longest that one state.watch waits; who wants more asks again. */
#define CLV_SERVICES_WAIT_MAX_MS 5000

/* Calls to the store at a time; an engine that hangs must leave room for the other calls. */
#define CLV_SERVICES_STORE_MAX 192

typedef struct clv_parent {
    clv_store *store;
    atomic_int storing; /* calls to the store under way */
    clv_provider *credentials;
    pthread_mutex_t lock; /* protects what follows */
    char baseline[CLV_PARENT_PATH_MAX], baseline_sig[CLV_PARENT_PATH_MAX]; /* "": none */
    /* The newest state that was stored: its generation, and when. 0: none since the start. */
    int64_t stored_generation;
    uint64_t stored_ms;
    clv_service_count count[CLV_SERVICES], unknown;
} clv_parent;

void clv_parent_init(clv_parent *parent);
void clv_parent_drop(clv_parent *parent);

/* Whether these can be the files of the baseline: both NULL for none, or both readable. */
CLV_NODISCARD clv_status clv_parent_check_baseline(const char *baseline, const char *signature,
                                                   clv_error *err);
/* The files of the baseline, which were checked; they are read again at each call. */
void clv_parent_set_baseline(clv_parent *parent, const char *baseline, const char *signature);

/* The name of call i, i < CLV_SERVICES. */
const char *clv_service_name(size_t i);

/* A clv_call_handler; context is a clv_parent. */
clv_status clv_services_answer(void *context, const clv_message *call, clv_message *answer,
                               clv_error *err);

#endif
