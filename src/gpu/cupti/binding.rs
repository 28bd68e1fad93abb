//! Generated from the headers of nvidia-cuda-cupti 13.0.85 by `cargo xtask regenerate cupti` (bindgen 0.72.1); do not edit.
#![allow(missing_docs, non_camel_case_types, non_snake_case)]

pub type CUptiResult = ::core::ffi::c_uint;
pub type CUpti_ActivityKind = ::core::ffi::c_uint;
pub type CUpti_CallbackDomain = ::core::ffi::c_uint;
pub type CUpti_CallbackId = ::core::ffi::c_uint;
pub type CUpti_ExternalCorrelationKind = ::core::ffi::c_uint;
#[repr(C)]
pub struct CUctx_st {
    _unused: [u8; 0],
}
pub type CUcontext = *mut CUctx_st;
#[repr(C)]
pub struct CUstream_st {
    _unused: [u8; 0],
}
pub type CUstream = *mut CUstream_st;
pub type CUpti_CallbackFunc = ::core::option::Option<
    unsafe extern "C" fn(
        userdata: *mut ::core::ffi::c_void,
        domain: CUpti_CallbackDomain,
        cbid: CUpti_CallbackId,
        cbdata: *const ::core::ffi::c_void,
    ),
>;
#[repr(C)]
pub struct CUpti_Subscriber_st {
    _unused: [u8; 0],
}
pub type CUpti_SubscriberHandle = *mut CUpti_Subscriber_st;
#[repr(C)]
#[repr(align(8))]
pub struct CUpti_Activity {
    pub kind: CUpti_ActivityKind,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of CUpti_Activity"][::core::mem::size_of::<CUpti_Activity>() - 8usize];
    ["Alignment of CUpti_Activity"][::core::mem::align_of::<CUpti_Activity>() - 8usize];
    ["Offset of field: CUpti_Activity::kind"]
        [::core::mem::offset_of!(CUpti_Activity, kind) - 0usize];
};
pub type CUpti_BuffersCallbackRequestFunc = ::core::option::Option<
    unsafe extern "C" fn(buffer: *mut *mut u8, size: *mut usize, maxNumRecords: *mut usize),
>;
pub type CUpti_BuffersCallbackCompleteFunc = ::core::option::Option<
    unsafe extern "C" fn(
        context: CUcontext,
        streamId: u32,
        buffer: *mut u8,
        size: usize,
        validSize: usize,
    ),
>;
pub type CUpti_TimestampCallbackFunc = ::core::option::Option<unsafe extern "C" fn() -> u64>;
pub const SUCCESS: ::core::ffi::c_uint = 0;
pub const ERROR_MAX_LIMIT_REACHED: ::core::ffi::c_uint = 12;
pub const ERROR_NOT_COMPATIBLE: ::core::ffi::c_uint = 14;
pub const ERROR_MULTIPLE_SUBSCRIBERS: ::core::ffi::c_uint = 39;
pub const KIND_MEMCPY: ::core::ffi::c_uint = 1;
pub const KIND_MEMSET: ::core::ffi::c_uint = 2;
pub const KIND_DRIVER: ::core::ffi::c_uint = 4;
pub const KIND_RUNTIME: ::core::ffi::c_uint = 5;
pub const KIND_CONCURRENT_KERNEL: ::core::ffi::c_uint = 10;
pub const KIND_EXTERNAL_CORRELATION: ::core::ffi::c_uint = 39;
pub const KIND_GRAPH_TRACE: ::core::ffi::c_uint = 51;
pub const EXTERNAL_KIND_CUSTOM0: ::core::ffi::c_uint = 3;
pub const CBID_LAUNCH_KERNEL: ::core::ffi::c_uint = 307;
pub const CBID_LAUNCH_KERNEL_PTSZ: ::core::ffi::c_uint = 442;
pub const CBID_LAUNCH_COOPERATIVE: ::core::ffi::c_uint = 477;
pub const CBID_LAUNCH_COOPERATIVE_PTSZ: ::core::ffi::c_uint = 478;
pub const CBID_GRAPH_LAUNCH: ::core::ffi::c_uint = 514;
pub const CBID_GRAPH_LAUNCH_PTSZ: ::core::ffi::c_uint = 515;
pub const CBID_LAUNCH_KERNEL_EX: ::core::ffi::c_uint = 652;
pub const CBID_LAUNCH_KERNEL_EX_PTSZ: ::core::ffi::c_uint = 653;
pub const RECORD_KIND: usize = 0;
pub const RECORD_ALIGNMENT: usize = 8;
pub const KERNEL_START: usize = 16;
pub const KERNEL_END: usize = 24;
pub const KERNEL_DEVICE_ID: usize = 40;
pub const KERNEL_CONTEXT_ID: usize = 44;
pub const KERNEL_STREAM_ID: usize = 48;
pub const KERNEL_CORRELATION_ID: usize = 92;
pub const KERNEL_NAME: usize = 104;
pub const KERNEL_GRAPH_NODE_ID: usize = 144;
pub const KERNEL_GRAPH_ID: usize = 156;
pub const KERNEL_SIZE: usize = 208;
pub const GRAPH_TRACE_CORRELATION_ID: usize = 4;
pub const GRAPH_TRACE_START: usize = 8;
pub const GRAPH_TRACE_END: usize = 16;
pub const GRAPH_TRACE_DEVICE_ID: usize = 24;
pub const GRAPH_TRACE_GRAPH_ID: usize = 28;
pub const GRAPH_TRACE_STREAM_ID: usize = 36;
pub const GRAPH_TRACE_SIZE: usize = 48;
pub const EXTERNAL_KIND: usize = 4;
pub const EXTERNAL_ID: usize = 8;
pub const EXTERNAL_CORRELATION_ID: usize = 16;
pub const EXTERNAL_SIZE: usize = 24;
pub const API_CBID: usize = 4;
pub const API_CORRELATION_ID: usize = 32;
pub const API_SIZE: usize = 40;
unsafe extern "C" {
    pub fn cuptiGetVersion(version: *mut u32) -> CUptiResult;
    pub fn cuptiSubscribe(
        subscriber: *mut CUpti_SubscriberHandle,
        callback: CUpti_CallbackFunc,
        userdata: *mut ::core::ffi::c_void,
    ) -> CUptiResult;
    pub fn cuptiUnsubscribe(subscriber: CUpti_SubscriberHandle) -> CUptiResult;
    pub fn cuptiGetStreamId(
        context: CUcontext,
        stream: CUstream,
        streamId: *mut u32,
    ) -> CUptiResult;
    pub fn cuptiActivityEnable(kind: CUpti_ActivityKind) -> CUptiResult;
    pub fn cuptiActivityDisable(kind: CUpti_ActivityKind) -> CUptiResult;
    pub fn cuptiActivityGetNumDroppedRecords(
        context: CUcontext,
        streamId: u32,
        dropped: *mut usize,
    ) -> CUptiResult;
    pub fn cuptiActivityGetNextRecord(
        buffer: *mut u8,
        validBufferSizeBytes: usize,
        record: *mut *mut CUpti_Activity,
    ) -> CUptiResult;
    pub fn cuptiActivityRegisterCallbacks(
        funcBufferRequested: CUpti_BuffersCallbackRequestFunc,
        funcBufferCompleted: CUpti_BuffersCallbackCompleteFunc,
    ) -> CUptiResult;
    pub fn cuptiActivityFlushAll(flag: u32) -> CUptiResult;
    pub fn cuptiActivityPushExternalCorrelationId(
        kind: CUpti_ExternalCorrelationKind,
        id: u64,
    ) -> CUptiResult;
    pub fn cuptiActivityPopExternalCorrelationId(
        kind: CUpti_ExternalCorrelationKind,
        lastId: *mut u64,
    ) -> CUptiResult;
    pub fn cuptiActivityRegisterTimestampCallback(
        funcTimestamp: CUpti_TimestampCallbackFunc,
    ) -> CUptiResult;
    pub fn cuptiActivityEnableDriverApi(cbid: CUpti_CallbackId, enable: u8) -> CUptiResult;
}
