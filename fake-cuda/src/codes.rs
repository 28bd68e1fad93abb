//! The driver's status codes that can be returned here, with their names.

use std::ffi::{CStr, c_int};

/// A CUresult that is not success.
pub type Code = c_int;

pub const SUCCESS: c_int = 0;
/// Only for `fakecuda_fail`: the call reports success and does nothing.
pub const DROPPED: Code = -1;

macro_rules! codes {
    ($($name:ident = $value:literal, $text:literal;)*) => {
        $(
            #[allow(dead_code)] // Some are only named, for those who inject them.
            pub const $name: Code = $value;
        )*

        /// `CUDA_ERROR_…`, or `None` for a number that is no code of this driver.
        pub fn name(code: c_int) -> Option<&'static CStr> {
            match code {
                SUCCESS => Some(c"CUDA_SUCCESS"),
                $($value => Some($text),)*
                _ => None,
            }
        }
    };
}

codes! {
    INVALID_VALUE = 1, c"CUDA_ERROR_INVALID_VALUE";
    OUT_OF_MEMORY = 2, c"CUDA_ERROR_OUT_OF_MEMORY";
    NOT_INITIALIZED = 3, c"CUDA_ERROR_NOT_INITIALIZED";
    DEINITIALIZED = 4, c"CUDA_ERROR_DEINITIALIZED";
    STUB_LIBRARY = 34, c"CUDA_ERROR_STUB_LIBRARY";
    NO_DEVICE = 100, c"CUDA_ERROR_NO_DEVICE";
    INVALID_DEVICE = 101, c"CUDA_ERROR_INVALID_DEVICE";
    INVALID_CONTEXT = 201, c"CUDA_ERROR_INVALID_CONTEXT";
    UNSUPPORTED_PTX_VERSION = 222, c"CUDA_ERROR_UNSUPPORTED_PTX_VERSION";
    INVALID_HANDLE = 400, c"CUDA_ERROR_INVALID_HANDLE";
    ILLEGAL_STATE = 401, c"CUDA_ERROR_ILLEGAL_STATE";
    NOT_FOUND = 500, c"CUDA_ERROR_NOT_FOUND";
    NOT_READY = 600, c"CUDA_ERROR_NOT_READY";
    ILLEGAL_ADDRESS = 700, c"CUDA_ERROR_ILLEGAL_ADDRESS";
    CONTEXT_IS_DESTROYED = 709, c"CUDA_ERROR_CONTEXT_IS_DESTROYED";
    HOST_MEMORY_ALREADY_REGISTERED = 712, c"CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED";
    HOST_MEMORY_NOT_REGISTERED = 713, c"CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED";
    MISALIGNED_ADDRESS = 716, c"CUDA_ERROR_MISALIGNED_ADDRESS";
    NOT_SUPPORTED = 801, c"CUDA_ERROR_NOT_SUPPORTED";
    CAPTURE_UNSUPPORTED = 900, c"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED";
    CAPTURE_INVALIDATED = 901, c"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED";
    CAPTURE_MERGE = 902, c"CUDA_ERROR_STREAM_CAPTURE_MERGE";
    CAPTURE_UNMATCHED = 903, c"CUDA_ERROR_STREAM_CAPTURE_UNMATCHED";
    CAPTURE_ISOLATION = 905, c"CUDA_ERROR_STREAM_CAPTURE_ISOLATION";
    CAPTURE_IMPLICIT = 906, c"CUDA_ERROR_STREAM_CAPTURE_IMPLICIT";
    CAPTURED_EVENT = 907, c"CUDA_ERROR_CAPTURED_EVENT";
    CAPTURE_WRONG_THREAD = 908, c"CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD";
    UNKNOWN = 999, c"CUDA_ERROR_UNKNOWN";
}
