/* The CA certificates that KMS's certificate must chain to (R11). */
#ifndef CLV_KMS_TRUST_H
#define CLV_KMS_TRUST_H

#include <openssl/x509_vfy.h>

#include <claviger/bytes.h>

/*
 * Every certificate of a PEM file. The file is read once: what is verified against later is what
 * was measured, and one store serves every connection. A chain may end at whatever certificate the
 * store holds, as with libcurl's own. CLV_KMS_TLS: there is none, or one is malformed. *out is set
 * even then; X509_STORE_free().
 */
CLV_NODISCARD clv_status clv_trust_load(const char *path, X509_STORE **out, clv_error *err);

#endif
