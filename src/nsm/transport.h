/* How a request reaches the NSM: two transports behind one function. */
#ifndef CLV_NSM_TRANSPORT_H
#define CLV_NSM_TRANSPORT_H

#include <claviger/nsm.h>

typedef struct clv_nsm_transport {
    int fd;
    bool device; /* ioctl on a device; otherwise frames on a socket */
} clv_nsm_transport;

CLV_NODISCARD clv_status clv_nsm_connect(const char *address, clv_nsm_transport *out,
                                         clv_error *err);
void clv_nsm_disconnect(clv_nsm_transport *transport);

/* Send request, append the answer to *response: at most CLV_NSM_RESPONSE_MAX bytes. */
CLV_NODISCARD clv_status clv_nsm_exchange(const clv_nsm_transport *transport, clv_bytes request,
                                          clv_buf *response, clv_error *err);

#endif
