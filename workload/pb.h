/* protobuf-c's messages, for who packs them. Its initializers cast a const string to a plain one. */
#ifndef WORKLOAD_PB_H
#define WORKLOAD_PB_H
#include "workload/sds.pb-c.h"
#include "workload/workload.pb-c.h"
#pragma GCC diagnostic ignored "-Wcast-qual"
#endif
