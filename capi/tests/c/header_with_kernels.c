// Both headers in one program: the device handle of stepscope.h is complete with stepscope.cuh.
#include "stepscope.h"

#include "../../../kernels/stepscope.cuh"

int main(void) {
    stepscope_handle handle = {1, 1};
    // Without a lane nothing is written.
    return stepscope_lane_device_handle(NULL, &handle) == STEPSCOPE_ERROR_NULL && handle.ring == 1 ? 0 : 1;
}
