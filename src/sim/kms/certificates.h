/* The TLS certificates of the local KMS: a CA of its own and a server certificate under it. */
#ifndef CLV_SIM_KMS_CERTIFICATES_H
#define CLV_SIM_KMS_CERTIFICATES_H

#include <claviger/bytes.h>

typedef struct clv_tls_files {
    clv_buf ca;     /* PEM certificate, for clients */
    clv_buf server; /* PEM certificate */
    clv_buf key;    /* PEM private key of the server */
} clv_tls_files;

void clv_tls_files_drop(clv_tls_files *files);

/* names: host names, and literal addresses. The CA's private key is not kept. */
CLV_NODISCARD clv_status clv_tls_files_make(const char *const *names, size_t count,
                                            clv_tls_files *out, clv_error *err);

#endif
