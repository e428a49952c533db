/* What the two directions of a stream share, and what only tests need of them. */
#ifndef CLV_SEAL_SEALER_H
#define CLV_SEAL_SEALER_H

#include <claviger/seal.h>

/* data-format/message-body.md, "Sequence Number End" */
#define CLV_SEAL_END_MARKER UINT32_MAX

/*
 * Go on with the frame of this number. For tests of the last numbers: 2^32 frames would take an
 * hour.
 */
void clv_sealer_skip_to(clv_sealer *sealer, uint32_t sequence);
void clv_unsealer_skip_to(clv_unsealer *unsealer, uint32_t sequence);

#endif
