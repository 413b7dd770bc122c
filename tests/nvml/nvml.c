/* A stand-in for libnvidia-ml.so.1: enough of NVML for any generation of nvidia-ml-py, driven by variables.
 *
 * STAND_IN_GPUS        one GPU a line, fields `key=value` joined by `|`: name, cc, memory (MiB), uuid, bus, device
 *                      (hexadecimal), mig (number of instances; -1: MIG is off), slice (their profile), lost, missing (fields that
 *                      answer NotSupported, joined by `,`)
 * STAND_IN_NVML_INIT   what nvmlInit returns (0)          STAND_IN_DRIVER  driver version ("580.95.05")
 * STAND_IN_CUDA        newest CUDA as "13.0"              STAND_IN_NVML_FAULT  `crash:WHERE` or `hang:WHERE`, where
 *                      WHERE is init, driver, count or gpu
 * Signatures: NVIDIA's nvml.h, as nvidia-ml-py binds it.
 */
#define _GNU_SOURCE
#include "stand_in.h"

typedef struct { unsigned long long total, free, used; } memory_v1;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char text[32]; } pci_info;

enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, LOST = 15 };

static int ready;

/* A handle is the GPU's row number plus one; a MIG instance's adds a thousand for each place. */
static long row_of(void *handle) { return ((long)handle - 1) % 1000; }
static long place_of(void *handle) { return ((long)handle - 1) / 1000; }

EXPORT int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    fault("STAND_IN_NVML_FAULT", "init");
    int code = atoi(setting("STAND_IN_NVML_INIT", "0"));
    ready = code == 0;
    return code;
}
EXPORT int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
EXPORT int nvmlShutdown(void) { ready = 0; return OK; }
EXPORT const char *nvmlErrorString(int code) {
    static char text[64];
    snprintf(text, sizeof text, "stand-in error %d", code);
    return text;
}
EXPORT int nvmlSystemGetDriverVersion(char *out, unsigned size) {
    fault("STAND_IN_NVML_FAULT", "driver");
    if (!ready) return UNINITIALIZED;
    snprintf(out, size, "%s", setting("STAND_IN_DRIVER", "580.95.05"));
    return OK;
}
EXPORT int nvmlSystemGetNVMLVersion(char *out, unsigned size) {
    snprintf(out, size, "%s", setting("STAND_IN_LIBRARY", setting("STAND_IN_DRIVER", "580.95.05")));
    return OK;
}
EXPORT int nvmlSystemGetCudaDriverVersion(int *out) {
    if (!ready) return UNINITIALIZED;
    *out = cuda_number();
    return *out ? OK : 999;
}
EXPORT int nvmlSystemGetCudaDriverVersion_v2(int *out) { return nvmlSystemGetCudaDriverVersion(out); }
EXPORT int nvmlDeviceGetCount_v2(unsigned *out) {
    fault("STAND_IN_NVML_FAULT", "count");
    if (!ready) return UNINITIALIZED;
    *out = (unsigned)gpu_count();
    return OK;
}
EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out) {
    char value[96];
    fault("STAND_IN_NVML_FAULT", "gpu");
    if (!ready) return UNINITIALIZED;
    if ((int)index >= gpu_count()) return INVALID;
    if (field((int)index, "lost", value, sizeof value)) return LOST;
    *out = (void *)((long)index + 1);
    return OK;
}
static int text_field(void *handle, const char *key, char *out, unsigned size) {
    if (missing((int)row_of(handle), key)) return NOT_SUPPORTED;
    return field((int)row_of(handle), key, out, size) ? OK : NOT_SUPPORTED;
}
EXPORT int nvmlDeviceGetName(void *handle, char *out, unsigned size) {
    int code = text_field(handle, "name", out, size);
    if (code == OK && place_of(handle) > 0) {
        char slice[32] = "1g.10gb";
        field((int)row_of(handle), "slice", slice, sizeof slice);
        size_t used = strlen(out);
        snprintf(out + used, size - used, " MIG %s", slice);
    }
    return code;
}
EXPORT int nvmlDeviceGetUUID(void *handle, char *out, unsigned size) { return text_field(handle, "uuid", out, size); }
EXPORT int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) {
    char value[32];
    int code = text_field(handle, "cc", value, sizeof value);
    if (code == OK && sscanf(value, "%d.%d", major, minor) != 2) return NOT_SUPPORTED;
    return code;
}
EXPORT int nvmlDeviceGetMemoryInfo(void *handle, memory_v1 *out) {
    char value[32];
    int code = text_field(handle, "memory", value, sizeof value);
    if (code == OK) *out = (memory_v1){.total = strtoull(value, NULL, 10) << 20};
    return code;
}
EXPORT int nvmlDeviceGetMemoryInfo_v2(void *handle, memory_v2 *out) {
    memory_v1 old;
    if (out->version != 0x02000028 || missing((int)row_of(handle), "memory_v2")) return NOT_SUPPORTED;
    int code = nvmlDeviceGetMemoryInfo(handle, &old);
    if (code == OK) *out = (memory_v2){.version = out->version, .total = old.total};
    return code;
}
EXPORT int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    char value[32];
    int code = text_field(handle, "mig", value, sizeof value);
    if (code == OK) *current = *pending = atoi(value) >= 0;
    return code;
}
EXPORT int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *out) {
    char value[32];
    int code = text_field(handle, "mig", value, sizeof value);
    *out = code == OK && atoi(value) >= 0 ? 7 : 0;
    return code;
}
EXPORT int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned place, void **out) {
    char value[32];
    if (text_field(handle, "mig", value, sizeof value) != OK || (int)place >= atoi(value)) return NOT_FOUND;
    *out = (void *)((long)handle + 1000 * ((long)place + 1));
    return OK;
}
EXPORT int nvmlDeviceGetPciInfo_v3(void *handle, pci_info *out) {
    char value[32];
    unsigned function;
    memset(out, 0, sizeof *out);
    int code = text_field(handle, "bus", out->text, sizeof out->text);
    if (code != OK) return code;
    sscanf(out->text, "%x:%x:%x.%x", &out->domain, &out->bus, &out->device, &function);
    snprintf(out->legacy, sizeof out->legacy, "%04x:%02x:%02x.0", out->domain & 0xffff, out->bus, out->device);
    if (text_field(handle, "device", value, sizeof value) == OK)
        out->id = (unsigned)strtoul(value, NULL, 16) << 16 | 0x10de;
    return OK;
}
