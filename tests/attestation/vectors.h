/* Third parties' documents: where they are, when they are there. */
#ifndef CLV_TESTS_ATTESTATION_VECTORS_H
#define CLV_TESTS_ATTESTATION_VECTORS_H

#include <claviger/attestation.h>

/* The path of a folder of the vectors. */
void vectors_path(const char *folder, char out[512]);

/* false when the file is not there. */
bool vectors_read(const char *folder, const char *name, clv_buf *out);

#endif
