/* The parent's way to an etcd cluster: a configuration file, and HTTP from here. */
#ifndef CLV_PARENT_ETCD_CONFIG_H
#define CLV_PARENT_ETCD_CONFIG_H

#include <etcd/etcd.h>

/*
 * The configuration file, strict JSON: {"endpoints": ["https://host:2379", …], "prefix": text,
 * "ca_file", "cert_file", "key_file"}. The prefix comes before every key ("claviger/" where it is
 * absent); files are PEM, and needed for https endpoints alone.
 */
CLV_NODISCARD clv_status clv_etcd_open(const char *path, clv_etcd **out, clv_error *err);

#endif
