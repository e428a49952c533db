/* The command line of clavigerd. */
#ifndef CLV_ENCLAVE_OPTIONS_H
#define CLV_ENCLAVE_OPTIONS_H

#include <stdbool.h>

#include <base/log.h>
#include <claviger/policy.h>
#include <enclave/sandbox.h>

typedef struct clv_options {
    const char *policy;    /* the measured policy file */
    const char *nsm;       /* address of the NSM: claviger/nsm.h */
    const char *control;   /* where the parent's calls come in */
    const char *services;  /* where the parent's services are */
    const char *relay;     /* where the byte stream to KMS starts */
    const char *agent;     /* the agents' Unix socket */
    const char *dstack;    /* a socket for dstack's clients; NULL: none */
    const char *rofl;      /* a socket for ROFL's clients; NULL: none */
    const char *front_key; /* the policy key of those two; NULL: the only one */
    const char *witness_relay[CLV_WITNESS_ENDPOINTS_MAX]; /* of each of the policy's endpoints */
    size_t witness_relay_count;
    const char *ready_file; /* written once the daemon serves; NULL: none */
    unsigned agent_mode;    /* file mode of the agents' socket */
    unsigned agent_rate;    /* requests a second for each uid; 0: no limit */
    size_t agent_memory;    /* bytes for each uid */
    clv_sandbox_user user;  /* whom to become once the daemon serves */
    bool log_json;
    clv_log_level log_level;
    bool help, version; /* asked for: nothing else was looked at */
} clv_options;

/* Texts point into argv. CLV_USAGE names the option. */
CLV_NODISCARD clv_status clv_options_parse(int argc, char **argv, clv_options *out, clv_error *err);

/* The usage text, for --help. */
const char *clv_options_usage(void);

#endif
