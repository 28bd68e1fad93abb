/* A stand-in for NVIDIA's management library: the functions that we call, with answers set by a test.
 *
 * Every copy of the file is a library of its own with its own state, so a test takes its own copy.
 * -DNO_<function> leaves a function out. Values and return codes are set by name:
 *
 *   stub_set("power_mw", 412000)                  what a function answers
 *   stub_set("nvmlDeviceGetPowerUsage", 3)        what a function returns instead of 0
 *   stub_set("nvmlDeviceGetPowerUsage/ms", 30000) how long it takes
 *   stub_get("nvmlShutdown/calls")                how often it was called
 *   stub_event(device, type, data, instance)      an event to be waited for
 *
 * Devices: 1 is the GPU at 00000000:65:00.0 (GPU-1), 2 a MIG instance on it (MIG-1), instance 7.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

typedef unsigned int u32;
typedef unsigned long long u64;
typedef struct device *device_t;
typedef struct set *set_t;

enum { OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, INVALID = 2, TIMEOUT = 10, WRONG_VERSION = 25 };
enum { NAMES_MAX = 128, EVENTS_MAX = 16 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct { char name[80]; long long value; } cells[NAMES_MAX];
static struct event { u64 device, type, data; u32 instance; } events[EVENTS_MAX];
static int cells_used, events_first, events_used;

static long long *cell(const char *name)
{
    int i;
    for (i = 0; i < cells_used; i++)
        if (strcmp(cells[i].name, name) == 0)
            return &cells[i].value;
    if (cells_used == NAMES_MAX)
        return &cells[0].value;
    snprintf(cells[cells_used].name, sizeof cells[0].name, "%s", name);
    return &cells[cells_used++].value;
}

void stub_set(const char *name, long long value)
{
    pthread_mutex_lock(&lock);
    *cell(name) = value;
    pthread_mutex_unlock(&lock);
}

long long stub_get(const char *name)
{
    long long value;
    pthread_mutex_lock(&lock);
    value = *cell(name);
    pthread_mutex_unlock(&lock);
    return value;
}

void stub_event(u64 device, u64 type, u64 data, u32 instance)
{
    struct event event = { device, type, data, instance };
    pthread_mutex_lock(&lock);
    if (events_used < EVENTS_MAX)
        events[(events_first + events_used++) % EVENTS_MAX] = event;
    pthread_mutex_unlock(&lock);
}

static void sleep_ms(long long ms)
{
    struct timespec time = { ms / 1000, ms % 1000 * 1000000 };
    nanosleep(&time, NULL);
}

/* Counts the call, takes its time, gives its return code. "all" is the code of every device call. */
static int enter(const char *name)
{
    char key[80];
    long long ms, code;
    pthread_mutex_lock(&lock);
    snprintf(key, sizeof key, "%s/calls", name);
    ++*cell(key);
    snprintf(key, sizeof key, "%s/ms", name);
    ms = *cell(key);
    code = *cell(name);
    if (code == 0 && strncmp(name, "nvmlDeviceGet", 13) == 0)
        code = *cell("all");
    pthread_mutex_unlock(&lock);
    if (ms > 0)
        sleep_ms(ms);
    return (int)code;
}

#define ENTER                       \
    do {                            \
        int code = enter(__func__); \
        if (code != OK)             \
            return code;            \
    } while (0)

static int is_mig(device_t device) { return device == (device_t)2; }

static int copy(const char *text, char *out, u32 room)
{
    return snprintf(out, room, "%s", text) < (int)room ? OK : 7;
}

int nvmlInit_v2(void) { ENTER; return OK; }
int nvmlShutdown(void) { ENTER; return OK; }

const char *nvmlErrorString(int code)
{
    return code == NOT_FOUND ? "Not Found" : code == 9 ? "Driver Not Loaded" : "Some Error";
}

int nvmlSystemGetDriverVersion(char *out, u32 room) { ENTER; return copy("580.65.06", out, room); }

int nvmlDeviceGetHandleByPciBusId_v2(const char *id, device_t *out)
{
    ENTER;
    if (strcasecmp(id, "00000000:65:00.0") != 0)
        return NOT_FOUND;
    *out = (device_t)1;
    return OK;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, device_t *out)
{
    ENTER;
    *out = strcmp(uuid, "GPU-1") == 0 ? (device_t)1 : strcmp(uuid, "MIG-1") == 0 ? (device_t)2 : NULL;
    return *out ? OK : NOT_FOUND;
}

int nvmlDeviceGetName(device_t device, char *out, u32 room)
{
    ENTER;
    return copy(is_mig(device) ? "Stub 1g.10gb" : "Stub 80GB", out, room);
}

int nvmlDeviceGetUUID(device_t device, char *out, u32 room)
{
    ENTER;
    return copy(is_mig(device) ? "MIG-1" : "GPU-1", out, room);
}

int nvmlDeviceGetPciInfo_v3(device_t device, void *out)
{
    struct { char legacy[16]; u32 numbers[5]; char id[32]; } *pci = out;
    ENTER;
    (void)device;
    return copy("00000000:65:00.0", pci->id, sizeof pci->id);
}

int nvmlDeviceIsMigDeviceHandle(device_t device, u32 *out) { ENTER; *out = is_mig(device); return OK; }
int nvmlDeviceGetGpuInstanceId(device_t device, u32 *out) { ENTER; (void)device; *out = 7; return OK; }

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device_t device, device_t *out)
{
    ENTER;
    (void)device;
    *out = (device_t)1;
    return OK;
}

int nvmlDeviceGetMigMode(device_t device, u32 *now, u32 *pending)
{
    ENTER;
    (void)device;
    *now = *pending = (u32)stub_get("mig_mode");
    return OK;
}

/* Answers 0 in MIG mode: a reader must not believe it. */
int nvmlDeviceGetUtilizationRates(device_t device, u32 *out)
{
    ENTER;
    (void)device;
    out[0] = (u32)stub_get("utilization");
    out[1] = 1;
    return OK;
}

#ifndef NO_nvmlDeviceGetMemoryInfo_v2
int nvmlDeviceGetMemoryInfo_v2(device_t device, void *out)
{
    struct { u32 version; u64 total, reserved, free, used; } *memory = out;
    ENTER;
    if (memory->version != (sizeof *memory | 2u << 24))
        return WRONG_VERSION;
    memory->total = is_mig(device) ? 10000 : 80000;
    memory->used = is_mig(device) ? 3000 : (u64)stub_get("memory_used");
    return OK;
}
#endif

int nvmlDeviceGetMemoryInfo(device_t device, u64 *out)
{
    ENTER;
    out[0] = is_mig(device) ? 10000 : 80000;
    out[1] = 0;
    out[2] = 555;
    return OK;
}

#define READS(function, type, key)              \
    int function(device_t device, type *out)    \
    {                                           \
        ENTER;                                  \
        if (is_mig(device))                     \
            return NOT_SUPPORTED;               \
        *out = (type)stub_get(key);             \
        return OK;                              \
    }

#ifndef NO_nvmlDeviceGetPowerUsage
READS(nvmlDeviceGetPowerUsage, u32, "power_mw")
#endif
READS(nvmlDeviceGetEnforcedPowerLimit, u32, "power_limit_mw")
#ifndef NO_nvmlDeviceGetCurrentClocksEventReasons
READS(nvmlDeviceGetCurrentClocksEventReasons, u64, "reasons")
#endif
READS(nvmlDeviceGetCurrentClocksThrottleReasons, u64, "reasons")
READS(nvmlDeviceGetTotalEnergyConsumption, u64, "energy_mj")
READS(nvmlDeviceGetPcieReplayCounter, u32, "replays")

int nvmlDeviceGetTemperature(device_t device, u32 sensor, u32 *out)
{
    ENTER;
    if (is_mig(device) || sensor != 0)
        return NOT_SUPPORTED;
    *out = (u32)stub_get("temperature");
    return OK;
}

int nvmlDeviceGetClockInfo(device_t device, u32 which, u32 *out)
{
    ENTER;
    if (is_mig(device))
        return NOT_SUPPORTED;
    *out = which == 1 ? 1980 : which == 2 ? 2619 : 0;
    return OK;
}

int nvmlDeviceGetTotalEccErrors(device_t device, u32 kind, u32 since, u64 *out)
{
    ENTER;
    if (is_mig(device))
        return NOT_SUPPORTED;
    *out = kind == 1 && since == 0 ? (u64)stub_get("ecc") : 999999;
    return OK;
}

int nvmlDeviceGetSupportedEventTypes(device_t device, u64 *out)
{
    ENTER;
    if (is_mig(device))
        return NOT_SUPPORTED;
    *out = 0x1f;
    return OK;
}

#ifndef NO_nvmlEventSetCreate
int nvmlEventSetCreate(set_t *out) { ENTER; *out = (set_t)1; return OK; }
#endif
int nvmlEventSetFree(set_t set) { ENTER; (void)set; return OK; }

int nvmlDeviceRegisterEvents(device_t device, u64 types, set_t set)
{
    ENTER;
    if (is_mig(device) || set != (set_t)1)
        return NOT_SUPPORTED;
    stub_set("registered", (long long)types);
    return OK;
}

int nvmlEventSetWait_v2(set_t set, void *out, u32 wait_ms)
{
    struct { device_t device; u64 type, data; u32 instance, compute; } *event = out;
    ENTER;
    (void)set;
    for (;; wait_ms--, sleep_ms(1)) {
        int there;
        pthread_mutex_lock(&lock);
        there = events_used > 0;
        if (there) {
            event->device = (device_t)events[events_first].device;
            event->type = events[events_first].type;
            event->data = events[events_first].data;
            event->instance = events[events_first].instance;
            event->compute = ~0u;
            events_first = (events_first + 1) % EVENTS_MAX;
            events_used--;
        }
        pthread_mutex_unlock(&lock);
        if (there)
            return OK;
        if (wait_ms == 0)
            return TIMEOUT;
    }
}
