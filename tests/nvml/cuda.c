/* A stand-in for libcuda.so.1: what detection asks of the CUDA driver, driven by the variables of nvml.c and
 *
 * STAND_IN_CUDA_INIT   what cuInit returns (0; 100 where no GPU is visible)
 * STAND_IN_CUDA_FAULT  `crash:WHERE` or `hang:WHERE`, where WHERE is version, init or gpu
 * CUDA_VISIBLE_DEVICES is obeyed for plain numbers and UUID beginnings, as CUDA does: the list ends at the first entry
 * that names no GPU.
 */
#define _GNU_SOURCE
#include "stand_in.h"

enum { NO_DEVICE = 100, INVALID_DEVICE = 101, INVALID_VALUE = 1 };

static int visible[64], visible_count = -1;

static void look(void) {
    const char *chosen = getenv("CUDA_VISIBLE_DEVICES");
    char uuid[96];
    visible_count = 0;
    if (!chosen) {
        for (int row = 0; row < gpu_count() && row < 64; row++)
            if (!field(row, "lost", uuid, sizeof uuid)) visible[visible_count++] = row;
        return;
    }
    char *list = strdup(chosen);
    for (char *word = strtok(list, ","); word && visible_count < 64; word = strtok(NULL, ",")) {
        int found = -1;
        char *end;
        long number = strtol(word, &end, 10);
        for (int row = 0; row < gpu_count(); row++)
            if (*end == 0 ? row == number : field(row, "uuid", uuid, sizeof uuid) && !strncmp(uuid, word, strlen(word)))
                found = row;
        if (found < 0) break;
        visible[visible_count++] = found;
    }
    free(list);
}

EXPORT int cuDriverGetVersion(int *out) {
    fault("STAND_IN_CUDA_FAULT", "version");
    *out = cuda_number();
    return 0;
}
EXPORT int cuInit(unsigned flags) {
    (void)flags;
    fault("STAND_IN_CUDA_FAULT", "init");
    int code = atoi(setting("STAND_IN_CUDA_INIT", "0"));
    if (code) return code;
    look();
    return visible_count ? 0 : NO_DEVICE;
}
EXPORT int cuGetErrorName(int code, const char **out) {
    static const struct { int code; const char *name; } names[] = {
        {34, "CUDA_ERROR_STUB_LIBRARY"}, {100, "CUDA_ERROR_NO_DEVICE"}, {101, "CUDA_ERROR_INVALID_DEVICE"},
        {802, "CUDA_ERROR_SYSTEM_NOT_READY"}, {803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"},
        {804, "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE"}, {999, "CUDA_ERROR_UNKNOWN"}};
    for (size_t place = 0; place < sizeof names / sizeof *names; place++)
        if (names[place].code == code) {
            *out = names[place].name;
            return 0;
        }
    return INVALID_VALUE;
}
EXPORT int cuDeviceGetCount(int *out) {
    *out = visible_count;
    return 0;
}
EXPORT int cuDeviceGet(int *out, int place) {
    fault("STAND_IN_CUDA_FAULT", "gpu");
    if (place >= visible_count) return INVALID_DEVICE;
    *out = visible[place];
    return 0;
}
EXPORT int cuDeviceGetName(char *out, int size, int device) {
    return field(device, "name", out, (size_t)size) ? 0 : INVALID_VALUE;
}
EXPORT int cuDeviceGetAttribute(int *out, int which, int device) {
    int major, minor;
    char value[32];
    if (!field(device, "cc", value, sizeof value) || sscanf(value, "%d.%d", &major, &minor) != 2) return INVALID_VALUE;
    if (which != 75 && which != 76) return INVALID_VALUE;
    *out = which == 75 ? major : minor;
    return 0;
}
EXPORT int cuDeviceTotalMem_v2(size_t *out, int device) {
    char value[32];
    if (!field(device, "memory", value, sizeof value)) return INVALID_VALUE;
    *out = (size_t)strtoull(value, NULL, 10) << 20;
    return 0;
}
EXPORT int cuDeviceGetPCIBusId(char *out, int size, int device) {
    char value[64];
    unsigned domain, bus, slot, function;
    if (!field(device, "bus", value, sizeof value)) return INVALID_VALUE;
    if (sscanf(value, "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4) return INVALID_VALUE;
    snprintf(out, (size_t)size, "%04X:%02X:%02X.%X", domain & 0xffff, bus, slot, function);
    return 0;
}
